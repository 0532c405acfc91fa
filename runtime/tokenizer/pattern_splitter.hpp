// SPDX-License-Identifier: Apache-2.0
// Splits text by regular expressions, for the rules that have no scanner of their own. The one door
// to PCRE2. Immutable after construction; split() from any thread.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class pattern_splitter {
 public:
  // Our own patterns, applied one after the other: each splits what the one before left whole or
  // matched. A pattern that does not compile is a bug.
  explicit pattern_splitter(std::span<const std::string_view> patterns);
  pattern_splitter(const pattern_splitter&) = delete;
  pattern_splitter& operator=(const pattern_splitter&) = delete;
  ~pattern_splitter();

  // `text` is valid UTF-8. Appends matches and what lies between them. Where the matcher gives up
  // (its limits guard against text made to slow it down), the rest of that part is one word.
  void split(std::string_view text, std::vector<std::string_view>& words) const;

 private:
  struct compiled;
  std::vector<std::unique_ptr<compiled>> stages_;
};

}  // namespace dinfer::runtime
