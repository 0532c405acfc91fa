// SPDX-License-Identifier: Apache-2.0
// Printable Latin-1 characters stand for themselves; the 68 other bytes, in order, are spelt
// U+0100, U+0101 and so on.
#include "runtime/tokenizer/byte_alphabet.hpp"

#include "runtime/tokenizer/utf8.hpp"

#include <array>

namespace dinfer::runtime {

namespace {

constexpr bool printable(int byte) noexcept {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

// By code point: the byte it spells, or -1.
constexpr std::array<int, 0x144> byte_of = [] {
  std::array<int, 0x144> table{};
  table.fill(-1);
  std::size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte)
    table[printable(byte) ? static_cast<std::size_t>(byte) : next++] = byte;
  return table;
}();

}  // namespace

bool append_byte_spelling(std::string& out, std::string_view spelling) {
  const std::size_t before = out.size();
  while (!spelling.empty()) {
    const utf8_step step = utf8_next(spelling);
    const bool known = step.what == utf8_step::kind::whole && step.code_point < byte_of.size() &&
                       byte_of[step.code_point] >= 0;
    if (!known) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(byte_of[step.code_point]));
    spelling.remove_prefix(step.size);
  }
  return true;
}

}  // namespace dinfer::runtime
