// SPDX-License-Identifier: Apache-2.0
// Well-formed UTF-8 after the Unicode standard, table 3-7; replacement of maximal subparts after
// its section 3.9. Any thread.
#include "runtime/tokenizer/utf8.hpp"

namespace dinfer::runtime {

namespace {

// Length of a sequence by its first byte, and what its second byte may be.
struct lead {
  std::size_t size;  // 0: cannot begin a sequence
  unsigned char low, high;
};

lead lead_of(unsigned char byte) noexcept {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

utf8_step utf8_next(std::string_view text) noexcept {
  using kind = utf8_step::kind;
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {kind::whole, 1, first};
  const lead l = lead_of(first);
  if (l.size == 0) return {kind::invalid, 1, 0};
  char32_t code_point = first & (0x7FU >> l.size);
  for (std::size_t i = 1; i < l.size; ++i) {
    if (i == text.size()) return {kind::cut, i, 0};
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned char low = i == 1 ? l.low : 0x80;
    const unsigned char high = i == 1 ? l.high : 0xBF;
    if (byte < low || byte > high) return {kind::invalid, i, 0};
    code_point = code_point << 6 | (byte & 0x3FU);
  }
  return {kind::whole, l.size, code_point};
}

bool valid_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const utf8_step step = utf8_next(text);
    if (step.what != utf8_step::kind::whole) return false;
    text.remove_prefix(step.size);
  }
  return true;
}

std::size_t append_valid_utf8(std::string& out, std::string_view bytes, bool final) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::size_t used = 0;
  std::size_t copied = 0;  // bytes[copied, used) is whole and still to be copied
  while (used < bytes.size()) {
    const utf8_step step = utf8_next(bytes.substr(used));
    if (step.what == utf8_step::kind::whole) {
      used += step.size;
      continue;
    }
    out.append(bytes.substr(copied, used - copied));
    copied = used;
    if (step.what == utf8_step::kind::cut && !final) return used;
    out.append(replacement);
    used += step.size;
    copied = used;
  }
  out.append(bytes.substr(copied, used - copied));
  return used;
}

void append_code_point(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) code_point = 0xFFFD;
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace dinfer::runtime
