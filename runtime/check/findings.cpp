// SPDX-License-Identifier: Apache-2.0
// See findings.hpp. The limits are coarse on purpose: they find a link that is broken or goes the
// wrong way, not one that is a little slow.
#include "runtime/check/findings.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace dinfer::runtime {

namespace {

constexpr double least_of_link = 0.5;  // of what the link should give
constexpr double free_memory = 0.9;    // of a GPU's, before anything is loaded
constexpr std::int64_t most_skew_ns = 500'000'000;
constexpr double gib = 1 << 30;

double gb_per_second(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

std::string figures_of(const transfer_figures& of) {
  return fmt::format("{:.1f} us, {:.1f} GB/s", static_cast<double>(of.latency_ns) / 1e3,
                     gb_per_second(of.bytes_per_second));
}

finding judge_device(std::size_t index, const checked_rank& rank) {
  const auto& report = rank.report;
  finding out{verdict::pass, fmt::format("rank {}", index), {}, {}};
  out.figures = fmt::format("{}, {}: {}", rank.node, rank.device, report.device);
  const auto& software = report.software;
  if (!software.driver.empty())
    out.figures += fmt::format("; driver {}, {}, {}", software.driver, software.runtime,
                               software.links.empty() ? "no NCCL" : software.links);
  if (rank.device.starts_with("cpu:")) return out;
  const auto all = static_cast<double>(report.memory_bytes);
  const auto free = static_cast<double>(report.free_bytes);
  out.figures += fmt::format("; {:.1f} of {:.1f} GiB free", free / gib, all / gib);
  if (free < free_memory * all) {
    out.is = verdict::warn;
    out.remedy =
        "another process uses this GPU (nvidia-smi shows which): end it, or leave it its "
        "memory with cache.fraction";
  }
  return out;
}

// All ranks should say the same of `what`.
template <class Take>
void judge_equal(std::span<const checked_rank> ranks, const char* what, Take take,
                 std::vector<finding>& out) {
  const checked_rank* first = nullptr;
  for (const auto& rank : ranks) {
    if (take(rank).empty()) continue;
    if (first == nullptr) first = &rank;
    if (take(rank) == take(*first)) continue;
    out.push_back(
        {verdict::warn, what,
         fmt::format("{} on {}, {} on {}", take(*first), first->node, take(rank), rank.node),
         "give every host the same version"});
    return;
  }
}

finding judge_clocks(std::span<const checked_rank> ranks) {
  const auto earlier = [](const checked_rank& a, const checked_rank& b) {
    return a.report.clock_ns < b.report.clock_ns;
  };
  const auto [least, most] = std::minmax_element(ranks.begin(), ranks.end(), earlier);
  const auto skew = most->report.clock_ns - least->report.clock_ns;
  finding out{verdict::pass, "clocks", {}, {}};
  out.figures = fmt::format("{:.1f} ms apart", static_cast<double>(skew) / 1e6);
  if (skew > most_skew_ns) {
    out.is = verdict::warn;
    out.figures += fmt::format(", {} is ahead of {}", most->node, least->node);
    out.remedy = "log lines of the hosts do not compare: let chrony or systemd-timesyncd set them";
  }
  return out;
}

std::string setting_of(const checked_rank& rank, std::string_view name) {
  for (const auto& setting : rank.report.settings)
    if (setting.starts_with(name) && setting.size() > name.size() && setting[name.size()] == '=')
      return setting + " is set on node " + rank.node;
  return {};
}

// What is wrong with the way that a link goes, or nothing.
std::string wrong_way(const link_figures& link, const checked_rank& a, const checked_rank& b) {
  const bool one_host = a.machine == b.machine && !a.machine.empty();
  const bool stage = a.stage == b.stage;
  const auto kind = link.nccl.kind;
  const auto off = [&](const char* what, const char* variable, const char* otherwise) {
    auto set = setting_of(a, variable);
    if (set.empty()) set = setting_of(b, variable);
    return fmt::format("{}: {}", what, set.empty() ? otherwise : set + "; unset it");
  };
  const bool sockets = kind == link_kind::socket || link.wires.starts_with("TCP");
  if (sockets && stage && !one_host)
    return "TENSOR PARALLELISM CROSSES HOSTS OVER PLAIN SOCKETS, twice a layer and token: put each "
           "stage on one host (pipeline_parallel_size = number of hosts), or give the hosts "
           "InfiniBand or RoCE";
  if (one_host && kind > link_kind::p2p)
    return off(kind == link_kind::socket
                   ? "THESE GPUS OF ONE HOST TALK OVER PLAIN SOCKETS: P2P is off"
                   : "P2P between these GPUs is off",
               "NCCL_P2P_DISABLE",
               "look at nvidia-smi topo -p2p r; PCIe ACS, an IOMMU or a container's limits may "
               "forbid it");
  if (kind == link_kind::ib)
    return off("GPUDirect RDMA is off: tensors go through the hosts' memory", "NCCL_NET_GDR_LEVEL",
               "load nvidia-peermem, or a kernel and driver with DMA-BUF");
  return {};
}

finding judge_link(const link_figures& link, std::span<const checked_rank> ranks) {
  finding out{verdict::pass, fmt::format("ranks {}", fmt::join(link.ranks, ", ")), {}, {}};
  const auto& nccl = link.nccl;
  out.figures = nccl.transport.empty() ? link.wires : "NCCL " + nccl.transport;
  if (!link.failure.empty()) {
    out.is = verdict::fail;
    out.figures += (out.figures.empty() ? "" : ": ") + link.failure;
    out.remedy =
        "firewalls, and for NCCL the variables NCCL_SOCKET_IFNAME and NCCL_IB_HCA, decide "
        "whether ranks reach each other; NCCL_DEBUG=INFO says more";
    return out;
  }
  out.figures += ": all-reduce " + figures_of(link.all_reduce);
  if (link.ranks.size() != 2) return out;
  out.figures += "; send " + figures_of(link.send);
  const auto fastest = std::max(link.all_reduce.bytes_per_second, link.send.bytes_per_second);
  const double share = nccl.bytes_per_second == 0 ? 1
                                                  : static_cast<double>(fastest) /
                                                        static_cast<double>(nccl.bytes_per_second);
  if (nccl.bytes_per_second != 0)
    out.figures += fmt::format("; {:.0f} % of {} at {:.1f} GB/s", 100 * share, nccl.path,
                               gb_per_second(nccl.bytes_per_second));
  const auto& a = ranks[static_cast<std::size_t>(link.ranks[0])];
  const auto& b = ranks[static_cast<std::size_t>(link.ranks[1])];
  out.remedy = wrong_way(link, a, b);
  if (out.remedy.empty() && share < least_of_link)
    out.remedy = fmt::format(
        "less than {:.0f} % of what the link should give: another job may use "
        "it, or lanes are down (nvidia-smi nvlink -s, lspci -vv, ethtool)",
        100 * least_of_link);
  if (!out.remedy.empty()) out.is = verdict::warn;
  return out;
}

// A report comes from another process: what it names must be there.
bool names_ranks(const link_figures& link, std::size_t ranks) {
  return link.ranks.size() >= 2 && std::all_of(link.ranks.begin(), link.ranks.end(), [&](auto r) {
           return r >= 0 && static_cast<std::size_t>(r) < ranks;
         });
}

}  // namespace

std::vector<finding> judge(std::span<const checked_rank> ranks) {
  std::vector<finding> out;
  for (std::size_t i = 0; i < ranks.size(); ++i) out.push_back(judge_device(i, ranks[i]));
  judge_equal(
      ranks, "drivers", [](const auto& r) { return r.report.software.driver; }, out);
  judge_equal(
      ranks, "NCCL", [](const auto& r) { return r.report.software.links; }, out);
  if (ranks.size() > 1) out.push_back(judge_clocks(ranks));
  for (const auto& rank : ranks) {
    for (const auto& link : rank.report.links)
      if (names_ranks(link, ranks.size())) out.push_back(judge_link(link, ranks));
  }
  return out;
}

verdict worst(std::span<const finding> findings) {
  auto out = verdict::pass;
  for (const auto& one : findings) out = std::max(out, one.is);
  return out;
}

std::string render(std::span<const finding> findings) {
  constexpr const char* words[] = {"pass", "WARN", "FAIL"};
  std::size_t width = 0;
  for (const auto& one : findings) width = std::max(width, one.subject.size());
  std::string out;
  for (const auto& one : findings) {
    out += fmt::format("{}  {:{}}  {}\n", words[static_cast<std::size_t>(one.is)], one.subject,
                       width, one.figures);
    if (!one.remedy.empty()) out += fmt::format("{:{}}  -> {}\n", "", width + 6, one.remedy);
  }
  return out;
}

}  // namespace dinfer::runtime
