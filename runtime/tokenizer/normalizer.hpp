// SPDX-License-Identifier: Apache-2.0
// What is done to a text before it is split: forms of Unicode, replacements. Immutable once its
// steps are added; apply() from any thread.
#pragma once

#include "runtime/tokenizer/pattern.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

struct normal_step {
  enum class kind : std::uint8_t {
    nfc,
    nfd,
    nfkc,
    nfkd,
    lower_case,
    strip_accents,
    put_before,         // `to`, before a text that is not empty
    replace,            // `from` by `to`
    replace_expression  // what `expression` matches by `to`
  };
  kind what = kind::nfc;
  std::string from, to;
  std::shared_ptr<const pattern> expression;
};

class normalizer {
 public:
  // False, and nothing added, if texts could become more than 64 times as large by all steps.
  bool add(normal_step step);
  bool empty() const noexcept { return steps_.empty(); }

  std::string apply(std::string_view text) const;  // valid UTF-8

 private:
  std::vector<normal_step> steps_;
  double growth_ = 1;
};

}  // namespace dinfer::runtime
