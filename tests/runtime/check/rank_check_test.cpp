// SPDX-License-Identifier: Apache-2.0
// A rank's report survives its way, and one that is damaged is refused.
#include "runtime/check/rank_check.hpp"

#include "tests/support/catch.hpp"

using namespace dinfer;
using namespace dinfer::runtime;

TEST_CASE("a report comes out as it went in, and no part of it is taken for the whole") {
  rank_check report;
  report.device = "NVIDIA H100";
  report.software = {"580.1", "CUDA 13.0", "NCCL 2.28.9"};
  report.memory_bytes = 80ull << 30;
  report.free_bytes = 79ull << 30;
  report.clock_ns = 1'790'000'000'000'000'001;
  report.settings = {"NCCL_P2P_DISABLE=1", "NCCL_DEBUG=INFO"};
  report.links = {
      {{0, 1}, "NCCL", {link_kind::shm, "SHM/direct/direct", "PHB", 48}, {7, 8}, {9, 10}, {}},
      {{0, 1, 2}, "TCP", {}, {1, 2}, {}, "rank 2 did not come"}};
  const auto bytes = encode(report);
  const auto read = decode_rank_check(bytes);
  REQUIRE(read);
  CHECK(encode(*read) == bytes);
  CHECK(read->software.links == "NCCL 2.28.9");
  CHECK(read->clock_ns == report.clock_ns);
  REQUIRE(read->links.size() == 2);
  CHECK(read->links[0].nccl.kind == link_kind::shm);
  CHECK(read->links[1].ranks == std::vector<std::int32_t>{0, 1, 2});
  CHECK(read->links[1].failure == "rank 2 did not come");
  for (std::size_t n = 0; n < bytes.size(); ++n)
    CHECK(!decode_rank_check(std::string_view(bytes).substr(0, n)));
  CHECK(!decode_rank_check(bytes + '\0'));
}
