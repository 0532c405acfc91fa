// SPDX-License-Identifier: Apache-2.0
// Ranks on CPU devices try their links, as GPUs do.
#include "runtime/check/link_check.hpp"

#include "net/comm/transport.hpp"
#include "runtime/check/rank_check.hpp"
#include "tests/support/catch.hpp"

#include <thread>

using namespace dinfer;
using namespace dinfer::runtime;
using std::chrono_literals::operator""ms;

namespace {

struct trial {
  std::vector<result<std::string>> reports;

  // `absent` never comes to the meeting.
  trial(std::int32_t stages, std::int32_t tp_size, std::int32_t absent = -1) {
    const auto size = static_cast<std::size_t>(stages * tp_size);
    std::vector<std::unique_ptr<runner>> ranks;
    std::vector<std::string> cards;
    for (std::size_t i = 0; i < size; ++i) {
      runner_options options;
      options.device = "cpu:" + std::to_string(i);
      options.layout.rank = static_cast<std::int32_t>(i);
      options.layout.stages = stages;
      options.layout.tp_size = tp_size;
      options.collective_timeout = 20'000ms;
      net::cpu_transport_options wires;
      wires.timeout = options.collective_timeout;
      wires.name = "rank " + std::to_string(i);
      ranks.push_back(make_link_check(options, net::make_cpu_transport(wires), {}));
      REQUIRE(ranks.back()->load({}));
      auto card = ranks.back()->card();
      REQUIRE(card);
      cards.push_back(*card);
    }
    reports.resize(size);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < size; ++i) {
      if (static_cast<std::int32_t>(i) == absent) continue;
      threads.emplace_back([&, i] { reports[i] = ranks[i]->check(cards, 300ms); });
    }
    for (auto& one : threads) one.join();
  }
  rank_check of(std::size_t rank) const {
    if (!reports[rank]) FAIL(reports[rank].error().message);
    auto read = decode_rank_check(*reports[rank]);
    REQUIRE(read);
    return *read;
  }
};

}  // namespace

TEST_CASE("every two ranks of a stage, stages of more than two, and neighbours are tried") {
  using groups = std::vector<std::vector<std::int32_t>>;
  CHECK(groups_to_check(1, 1).empty());
  CHECK(groups_to_check(1, 2) == groups{{0, 1}});
  CHECK(groups_to_check(1, 3) == groups{{0, 1}, {0, 2}, {1, 2}, {0, 1, 2}});
  CHECK(groups_to_check(3, 1) == groups{{0, 1}, {1, 2}});
  CHECK(groups_to_check(2, 2) == groups{{0, 1}, {2, 3}, {0, 2}, {1, 3}});
}

TEST_CASE("ranks measure their links, each pair once") {
  const trial ranks(2, 3);
  std::size_t pairs = 0, stages = 0;
  for (std::size_t i = 0; i < 6; ++i) {
    const auto report = ranks.of(i);
    CHECK(!report.device.empty());
    CHECK(report.clock_ns > 1'700'000'000'000'000'000);
    for (const auto& link : report.links) {
      CHECK(link.ranks.front() == static_cast<std::int32_t>(i));
      CHECK(link.failure.empty());
      CHECK(link.wires == "shared memory");
      CHECK(link.all_reduce.latency_ns > 0);
      CHECK(link.all_reduce.bytes_per_second > 1'000'000);
      CHECK((link.send.latency_ns > 0) == (link.ranks.size() == 2));
      ++(link.ranks.size() == 2 ? pairs : stages);
    }
  }
  CHECK(pairs == 3 + 3 + 3);
  CHECK(stages == 2);
}

TEST_CASE("a rank that does not come to the meeting is named by those that wait for it") {
  const trial ranks(1, 3, 1);
  for (const std::size_t i : {0, 2}) {
    REQUIRE(!ranks.reports[i]);
    INFO(ranks.reports[i].error().message);
    CHECK(ranks.reports[i].error().message.find("rank 1") != std::string::npos);
  }
}

TEST_CASE("a rank that is alone tells of its device") {
  const trial alone(1, 1);
  CHECK(alone.of(0).links.empty());
  CHECK(alone.of(0).memory_bytes > 0);
}
