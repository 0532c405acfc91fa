// SPDX-License-Identifier: Apache-2.0
// Two kinds of lines matter, see the examples at each reader.
#include "runtime/check/nccl_log.hpp"

#include <charconv>
#include <cmath>

namespace dinfer::runtime {

namespace {

link_kind kind_of(std::string_view transport) {
  if (transport.starts_with("P2P")) return link_kind::p2p;
  if (transport.starts_with("SHM")) return link_kind::shm;
  if (transport.starts_with("NET/Socket")) return link_kind::socket;
  if (!transport.starts_with("NET/")) return link_kind::unknown;
  // Other network plugins (OFI, UCX) move tensors as InfiniBand does.
  return transport.find("/GDRDMA") != transport.npos ? link_kind::ib_gdr : link_kind::ib;
}

// "... Channel 00/0 : 0[0] -> 1[1] via P2P/direct pointer"
// "... Channel 01/1 : 1[0] -> 0[0] [receive] via NET/Socket/0/Shared"
std::string_view transport_in(std::string_view line) {
  const auto channel = line.find("Channel ");
  if (channel == line.npos || line.find("] -> ", channel) == line.npos) return {};
  constexpr std::string_view via = " via ";
  const auto at = line.find(via, channel);
  if (at == line.npos) return {};
  auto transport = line.substr(at + via.size());
  constexpr std::string_view shared = "/Shared";  // of buffers, not of memory
  if (transport.ends_with(shared)) transport.remove_suffix(shared.size());
  return transport;
}

struct path_entry {
  std::string_view node, type;
  double gb_per_second = 0;
};

// Takes "GPU/0-70 (2/370.8/NVL) " off the front of a row.
bool take_entry(std::string_view& row, path_entry& entry) {
  const auto open = row.find(" ("), close = row.find(')');
  if (open == row.npos || close == row.npos || close < open) return false;
  entry.node = row.substr(0, open);
  const auto inside = row.substr(open + 2, close - open - 2);
  const auto first = inside.find('/'), last = inside.rfind('/');
  if (first == inside.npos || first == last) return false;
  const auto number = inside.substr(first + 1, last - first - 1);
  std::from_chars(number.data(), number.data() + number.size(), entry.gb_per_second);
  entry.type = inside.substr(last + 1);
  row.remove_prefix(close + 1);
  while (row.starts_with(' ')) row.remove_prefix(1);
  return true;
}

// "... GPU/0-60 :GPU/0-60 (0/5000.0/LOC) GPU/0-70 (2/370.8/NVL) CPU/0-0 (1/48.0/PHB) NET/0-0 (..."
// Takes the best way to another GPU, or to the network.
void read_paths(std::string_view line, bool network, nccl_link& link) {
  const auto start = line.find(" GPU/");
  const auto colon = line.find(" :GPU/", start);
  if (start == line.npos || colon == line.npos) return;
  auto row = line.substr(colon + 2);
  for (path_entry entry; take_entry(row, entry);) {
    if (!entry.node.starts_with(network ? "NET/" : "GPU/") || entry.type == "LOC") continue;
    const auto bytes = static_cast<std::uint64_t>(std::llround(entry.gb_per_second * 1e9));
    if (bytes <= link.bytes_per_second) continue;
    link.bytes_per_second = bytes;
    link.path = entry.type;
  }
}

template <class Take>
void each_line(std::string_view text, Take take) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    take(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
}

}  // namespace

nccl_link read_nccl_log(std::string_view text) {
  nccl_link link;
  each_line(text, [&](std::string_view line) {
    const auto transport = transport_in(line);
    if (const auto kind = kind_of(transport); kind > link.kind) {
      link.kind = kind;
      link.transport = transport;
    }
  });
  const bool network = link.kind >= link_kind::ib_gdr;
  if (link.kind == link_kind::unknown) return link;
  each_line(text, [&](std::string_view line) { read_paths(line, network, link); });
  return link;
}

}  // namespace dinfer::runtime
