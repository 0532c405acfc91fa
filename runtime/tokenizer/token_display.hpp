// SPDX-License-Identifier: Apache-2.0
// What tokens show in an answer, after the `decoder` of a tokenizer.json. Immutable after
// construction; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/json_node.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class token_display {
 public:
  // What byte-level vocabularies have.
  static token_display byte_level();
  // Errors: unsupported (a decoder that is not known, by name), bad_file.
  static result<token_display> read(const json_node& root);

  // Tokens show the bytes that they are spelt for.
  bool as_spelt() const noexcept;
  void append(std::string& out, std::string_view token) const;

  // tokenizer_parts.hpp
  std::size_t leading_spaces() const noexcept { return leading_spaces_; }
  const std::string& first_mark() const noexcept { return first_mark_; }

 private:
  struct step {
    enum class kind : std::uint8_t { byte_level, byte_fallback, replace } what;
    std::string from, to;  // replace
  };

  result<void> add(const json_node& decoder);
  result<void> add_replace(const json_node& decoder);
  result<void> add_strip(const json_node& decoder);
  result<void> add_metaspace(const json_node& decoder);

  std::vector<step> steps_;
  bool fused_ = false;
  double growth_ = 1;
  std::size_t leading_spaces_ = 0;
  std::string first_mark_;
};

}  // namespace dinfer::runtime
