// SPDX-License-Identifier: Apache-2.0
// UTF-8, byte by byte: what is well formed (Unicode 15, table 3-7), and the replacement of what is
// not. Pure functions, any thread; for the tokenizer and whoever shows its text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dinfer::runtime {

// What stands at the beginning of a text.
struct utf8_step {
  enum class kind : std::uint8_t {
    whole,    // one code point of `size` bytes
    invalid,  // `size` bytes that become one U+FFFD: the maximal subpart of a code point
    cut,      // the text ends inside a code point that may still become whole
  };
  kind what = kind::whole;
  std::size_t size = 0;
  char32_t code_point = 0;  // when whole
};

// `text` is not empty.
utf8_step utf8_next(std::string_view text) noexcept;

bool valid_utf8(std::string_view text) noexcept;

// Appends `bytes` to `out`, every maximal invalid part as U+FFFD. Unless `final`, a code point that
// is cut off by the end is left out. Returns how many of `bytes` were used.
std::size_t append_valid_utf8(std::string& out, std::string_view bytes, bool final);

// `code_point` is a Unicode scalar value; anything else appends U+FFFD.
void append_code_point(std::string& out, char32_t code_point);

}  // namespace dinfer::runtime
