// SPDX-License-Identifier: Apache-2.0
// See rank_check.hpp. Packed as plans and results are (base/packed.hpp).
#include "runtime/check/rank_check.hpp"

#include "runtime/base/packed.hpp"

namespace dinfer::runtime {

namespace {

constexpr std::uint8_t version = 1;
constexpr std::size_t least_text = 4, least_link = 60;  // packed bytes

void write(packed_writer& out, const transfer_figures& from) {
  out.number(from.latency_ns);
  out.number(from.bytes_per_second);
}

transfer_figures read_figures(packed_reader& in) {
  const auto latency = in.number<std::uint64_t>();
  return {latency, in.number<std::uint64_t>()};
}

void write(packed_writer& out, const link_figures& from) {
  out.numbers(from.ranks);
  out.text(from.wires);
  out.number(from.nccl.kind);
  out.text(from.nccl.transport);
  out.text(from.nccl.path);
  out.number(from.nccl.bytes_per_second);
  write(out, from.all_reduce);
  write(out, from.send);
  out.text(from.failure);
}

link_figures read_link(packed_reader& in) {
  link_figures to;
  to.ranks = in.numbers<std::int32_t>();
  to.wires = in.text();
  to.nccl.kind = in.choice(link_kind::socket);
  to.nccl.transport = in.text();
  to.nccl.path = in.text();
  to.nccl.bytes_per_second = in.number<std::uint64_t>();
  to.all_reduce = read_figures(in);
  to.send = read_figures(in);
  to.failure = in.text();
  return to;
}

}  // namespace

std::string encode(const rank_check& from) {
  packed_writer out;
  out.number(version);
  out.text(from.device);
  out.text(from.software.driver);
  out.text(from.software.runtime);
  out.text(from.software.links);
  out.number(from.memory_bytes);
  out.number(from.free_bytes);
  out.number(from.clock_ns);
  out.count(from.settings.size());
  for (const auto& setting : from.settings) out.text(setting);
  out.count(from.links.size());
  for (const auto& link : from.links) write(out, link);
  return out.take();
}

result<rank_check> decode_rank_check(std::string_view bytes) {
  packed_reader in(bytes);
  rank_check to;
  if (in.number<std::uint8_t>() != version) in.spoil();
  to.device = in.text();
  to.software.driver = in.text();
  to.software.runtime = in.text();
  to.software.links = in.text();
  to.memory_bytes = in.number<std::uint64_t>();
  to.free_bytes = in.number<std::uint64_t>();
  to.clock_ns = in.number<std::int64_t>();
  to.settings.resize(in.count(least_text));
  for (auto& setting : to.settings) setting = in.text();
  to.links.resize(in.count(least_link));
  for (auto& link : to.links) link = read_link(in);
  if (!in.done()) return fail(errc::mismatch, "a report of a check that cannot be read");
  return to;
}

}  // namespace dinfer::runtime
