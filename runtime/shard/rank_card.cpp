// SPDX-License-Identifier: Apache-2.0
// Three lines, then the transport's card as it is.
#include "runtime/shard/rank_card.hpp"

#include <array>

namespace dinfer::runtime {
namespace {

constexpr std::string_view version_line = "dinfer-rank 1";
constexpr std::string_view digits = "0123456789abcdef";
constexpr std::size_t most_group_bytes = 128;

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

result<std::string> bytes_of(std::string_view text) {
  std::string out;
  if (text.size() % 2 != 0 || text.size() > 2 * most_group_bytes)
    return fail(errc::invalid_argument, "card of a rank: bad group");
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const auto high = digits.find(text[i]), low = digits.find(text[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos)
      return fail(errc::invalid_argument, "card of a rank: bad group");
    out += static_cast<char>(high << 4 | low);
  }
  return out;
}

}  // namespace

std::string write_rank_card(const rank_card& from) {
  std::string out(version_line);
  (out += '\n') += hex(from.stage_group);
  (out += '\n') += hex(from.lane_group);
  (out += '\n') += from.host;
  return out;
}

result<rank_card> read_rank_card(std::string_view text) {
  if (text.size() > most_card_bytes)
    return fail(errc::invalid_argument, "card of a rank: over 1 KB");
  std::array<std::string_view, 3> lines;
  for (auto& line : lines) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos)
      return fail(errc::mismatch, "card of a rank: not one of this build");
    line = text.substr(0, end);
    text.remove_prefix(end + 1);
  }
  if (lines[0] != version_line)
    return fail(errc::mismatch, "card of a rank: not one of this build");
  rank_card out;
  DINFER_TRY(out.stage_group, bytes_of(lines[1]));
  DINFER_TRY(out.lane_group, bytes_of(lines[2]));
  out.host = text;
  return out;
}

}  // namespace dinfer::runtime
