// SPDX-License-Identifier: Apache-2.0
// Cards as seven lines of text, and the rule that picks the wire.
#include "net/comm/card.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <fstream>
#include <vector>

namespace dinfer::net {
namespace {

constexpr std::string_view version_line = "dinfer-comm 1";
constexpr std::size_t card_limit = 1024;
constexpr std::size_t name_limit = 100;
constexpr std::string_view digits = "0123456789abcdef";

std::string one_line(std::string text) {
  text.resize(std::min(text.size(), name_limit));
  for (auto& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  return text;
}

result<nonce> read_nonce(std::string_view text) {
  nonce out{};
  if (text.size() != 2 * out.size()) return fail(errc::invalid_argument, "card: bad nonce");
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto high = digits.find(text[2 * i]), low = digits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos)
      return fail(errc::invalid_argument, "card: bad nonce");
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return out;
}

result<std::uint32_t> read_number(std::string_view text, std::uint32_t most) {
  std::uint32_t out = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (code != std::errc{} || end != text.data() + text.size() || out > most)
    return fail(errc::invalid_argument, "card: bad number");
  return out;
}

template <class Same>
bool all_alike(std::span<const card> members, Same same) {
  return std::all_of(members.begin(), members.end(),
                     [&](const card& one) { return same(one, members.front()); });
}

}  // namespace

std::string_view to_string(wire_kind kind) noexcept {
  switch (kind) {
    case wire_kind::local:
      return "local";
    case wire_kind::shared_memory:
      return "shared memory";
    case wire_kind::tcp:
      return "tcp";
  }
  return "unknown";
}

std::string write_card(const card& from) {
  std::string out(version_line);
  for (const auto& line :
       {from.host, from.process, hex(from.secret), std::to_string(static_cast<int>(from.choice)),
        std::to_string(from.port), from.address, one_line(from.name)})
    (out += '\n') += line;
  return out;
}

result<card> read_card(std::string_view text) {
  if (text.size() > card_limit) return fail(errc::invalid_argument, "card: over 1 KB");
  std::vector<std::string_view> lines;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (lines.size() != 8 || lines[0] != version_line)
    return fail(errc::mismatch, "card: not one of this build's transport");
  card out;
  out.host = lines[1];
  out.process = lines[2];
  DINFER_TRY(out.secret, read_nonce(lines[3]));
  DINFER_TRY(const auto choice, read_number(lines[4], 2));
  DINFER_TRY(const auto port, read_number(lines[5], 65535));
  out.choice = static_cast<transport_choice>(choice);
  out.port = static_cast<std::uint16_t>(port);
  out.address = lines[6];
  out.name = lines[7];
  return out;
}

result<wire_kind> choose_wire(std::span<const card> members) {
  const auto asked = [&](transport_choice choice) {
    return std::any_of(members.begin(), members.end(),
                       [&](const card& one) { return one.choice == choice; });
  };
  const bool one_host = !members.front().host.empty() &&
                        all_alike(members, [](auto& a, auto& b) { return a.host == b.host; });
  if (asked(transport_choice::tcp)) return wire_kind::tcp;
  if (asked(transport_choice::shared_memory)) {
    if (one_host) return wire_kind::shared_memory;
    return fail(errc::invalid_argument,
                "cpu.transport = \"shared_memory\", but the ranks of this group live on several "
                "hosts; use \"auto\" or \"tcp\"",
                "cpu.transport");
  }
  if (all_alike(members, [](auto& a, auto& b) { return a.process == b.process; }))
    return wire_kind::local;
  const bool one_address =
      all_alike(members, [](auto& a, auto& b) { return a.address == b.address; });
  return one_host && one_address ? wire_kind::shared_memory : wire_kind::tcp;
}

// FNV-1a; it tells meetings apart, the nonces keep strangers out.
std::uint64_t group_key(const std::string& group, std::span<const card> members) {
  std::uint64_t key = 0xcbf29ce484222325;
  const auto mix = [&](std::uint8_t byte) { key = (key ^ byte) * 0x100000001b3; };
  for (const char c : group) mix(static_cast<std::uint8_t>(c));
  for (const auto& one : members)
    for (const auto byte : one.secret) mix(byte);
  return key;
}

nonce make_nonce() {
  nonce out{};
  DINFER_ASSERT(getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
  return out;
}

bool same_nonce(const nonce& a, const nonce& b) noexcept {
  std::uint8_t differing = 0;
  for (std::size_t i = 0; i < a.size(); ++i) differing |= static_cast<std::uint8_t>(a[i] ^ b[i]);
  return differing == 0;
}

std::string hex(const nonce& value) {
  std::string out;
  for (const auto byte : value) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

std::string this_host() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id") >> std::ws, boot);
  char space[PATH_MAX];
  const auto size = readlink("/proc/self/ns/net", space, sizeof space);
  if (boot.empty() || size <= 0) return {};
  return boot + ' ' + std::string(space, static_cast<std::size_t>(size));
}

// The id alone may be reused or differ between containers; the random part is inherited by fork.
std::string this_process() {
  static const std::string random_part = hex(make_nonce());
  return random_part + '-' + std::to_string(getpid());
}

}  // namespace dinfer::net
