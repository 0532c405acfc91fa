// SPDX-License-Identifier: Apache-2.0
// What passes, what warns, what fails, and that the remedy is said.
#include "runtime/check/findings.hpp"

#include "tests/support/catch.hpp"

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

constexpr std::uint64_t giga = 1'000'000'000;

checked_rank gpu(const std::string& node, const std::string& machine, int index) {
  checked_rank rank{node, machine, "cuda:" + std::to_string(index), 0, {}};
  rank.report.device = "NVIDIA H100";
  rank.report.software = {"580.1", "CUDA 13.0", "NCCL 2.28.9"};
  rank.report.memory_bytes = 80 * giga;
  rank.report.free_bytes = 79 * giga;
  return rank;
}

link_figures link_of(link_kind kind, const std::string& transport, std::uint64_t measured,
                     std::uint64_t expected) {
  return {{0, 1}, "NCCL", {kind, transport, "NVL", expected}, {7'000, measured}, {7'100, measured},
          {}};
}

// Two GPUs of one host, or of two.
std::vector<checked_rank> two(bool one_host, const link_figures& link) {
  std::vector<checked_rank> ranks{gpu("a", "host1", 0), gpu("b", one_host ? "host1" : "host2", 0)};
  ranks[0].report.links = {link};
  return ranks;
}

const auto nvlink = link_of(link_kind::p2p, "P2P/direct pointer", 250 * giga, 370 * giga);

finding about(const std::string& subject, const std::vector<checked_rank>& ranks) {
  for (auto& one : judge(ranks))
    if (one.subject == subject) return one;
  FAIL("nothing is said of " << subject);
  return {};
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("two GPUs with fast links pass, and the figures are told") {
  const auto ranks = two(true, nvlink);
  CHECK(worst(judge(ranks)) == verdict::pass);
  const auto device = about("rank 0", ranks);
  CHECK(says(device.figures, "a, cuda:0: NVIDIA H100; driver 580.1, CUDA 13.0, NCCL 2.28.9"));
  CHECK(says(device.figures, "73.6 of 74.5 GiB free"));
  const auto link = about("ranks 0, 1", ranks);
  CHECK(link.figures ==
        "NCCL P2P/direct pointer: all-reduce 7.0 us, 250.0 GB/s; send 7.1 us, 250.0 GB/s; 68 % of "
        "NVL at 370.0 GB/s");
}

TEST_CASE("a GPU that others use, and hosts that differ, warn") {
  auto ranks = two(true, nvlink);
  ranks[1].report.free_bytes = 40 * giga;
  CHECK(about("rank 1", ranks).is == verdict::warn);
  CHECK(says(about("rank 1", ranks).remedy, "nvidia-smi"));
  ranks[1].report.software.links = "NCCL 2.27.1";
  CHECK(about("NCCL", ranks).figures == "NCCL 2.28.9 on a, NCCL 2.27.1 on b");
  ranks[1].report.software.driver = "570.0";
  CHECK(about("drivers", ranks).is == verdict::warn);
  ranks[1].report.clock_ns = 600'000'000;
  CHECK(about("clocks", ranks).is == verdict::warn);
  CHECK(says(about("clocks", ranks).figures, "600.0 ms apart, b is ahead of a"));
}

TEST_CASE("GPUs of one host without P2P warn, and the setting that did it is named") {
  auto ranks = two(true, link_of(link_kind::shm, "SHM/direct/direct", 30 * giga, 48 * giga));
  auto link = about("ranks 0, 1", ranks);
  CHECK(link.is == verdict::warn);
  CHECK(says(link.remedy, "P2P between these GPUs is off"));
  CHECK(says(link.remedy, "nvidia-smi topo"));
  ranks[1].report.settings = {"NCCL_P2P_DISABLE=1"};
  link = about("ranks 0, 1", ranks);
  CHECK(says(link.remedy, "NCCL_P2P_DISABLE=1 is set on node b; unset it"));
}

TEST_CASE("tensor parallelism over plain sockets warns loudly, a pipeline over them does not") {
  const auto socket = link_of(link_kind::socket, "NET/Socket/0", 2 * giga, giga);
  auto ranks = two(false, socket);
  CHECK(about("ranks 0, 1", ranks).is == verdict::warn);
  CHECK(says(about("ranks 0, 1", ranks).remedy, "TENSOR PARALLELISM CROSSES HOSTS"));
  CHECK(says(render(judge(ranks)), "WARN  ranks 0, 1"));
  CHECK(says(about("ranks 0, 1", two(true, socket)).remedy, "OVER PLAIN SOCKETS: P2P is off"));
  ranks[1].stage = 1;
  CHECK(about("ranks 0, 1", ranks).is == verdict::pass);
  ranks[0].report.links[0] = {{0, 1}, "TCP", {}, {1, giga}, {1, giga}, {}};
  CHECK(about("ranks 0, 1", ranks).is == verdict::pass);
  ranks[1].stage = 0;
  CHECK(about("ranks 0, 1", ranks).is == verdict::warn);
}

TEST_CASE("InfiniBand is fine with GPUDirect RDMA, and warns without") {
  CHECK(about("ranks 0, 1",
              two(false, link_of(link_kind::ib_gdr, "NET/IB/0/GDRDMA", 20 * giga, 24 * giga)))
            .is == verdict::pass);
  const auto link =
      about("ranks 0, 1", two(false, link_of(link_kind::ib, "NET/IB/0", 20 * giga, 24 * giga)));
  CHECK(link.is == verdict::warn);
  CHECK(says(link.remedy, "nvidia-peermem"));
}

TEST_CASE("a link at less than half its speed warns, one that failed fails") {
  auto ranks = two(true, link_of(link_kind::p2p, "P2P/direct pointer", 100 * giga, 370 * giga));
  CHECK(about("ranks 0, 1", ranks).is == verdict::warn);
  CHECK(says(about("ranks 0, 1", ranks).figures, "27 % of NVL"));
  ranks[0].report.links[0] = {{0, 1}, {}, {}, {}, {}, "cuda:0: NCCL joining: no interface"};
  const auto link = about("ranks 0, 1", ranks);
  CHECK(link.is == verdict::fail);
  CHECK(says(link.figures, "no interface"));
  CHECK(says(link.remedy, "NCCL_SOCKET_IFNAME"));
  CHECK(worst(judge(ranks)) == verdict::fail);
  ranks[0].report.links[0].ranks = {0, 7};  // a report is another process's word
  CHECK(judge(ranks).size() == 3);
}
