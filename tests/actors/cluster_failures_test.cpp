// SPDX-License-Identifier: Apache-2.0
// A cluster under the test scheduler that loses shards, nodes, gateways and steps at random points:
// every request ends exactly once, and what is asked after recovery is answered.
#include "actors/node_process.hpp"
#include "runtime/base/exit_code.hpp"
#include "tests/actors/cluster_fixture.hpp"

namespace dinfer::actors::tests {
namespace {

struct lost_requests {
  std::uint32_t failed = 0, finished = 0, refused = 0;
};

lost_requests count(const sim_cluster& cluster) {
  lost_requests out;
  for (const auto& [id, o] : cluster.outcomes()) {
    INFO("request " << id);
    CHECK(o.lasts == 1);
    if (o.rejected) ++out.refused;
    else if (o.finish == finish_reason::error) ++out.failed;
    else ++out.finished;
  }
  return out;
}

void submit_some(sim_cluster& cluster, int requests, std::uint32_t gateways) {
  for (int i = 0; i < requests; ++i) {
    std::vector<token_id> prompt(1 + cluster.random()() % 10, i);
    cluster.submit(cluster.random()() % gateways, std::move(prompt), 20);
    cluster.run_some(cluster.random()() % 15);
  }
}

// One more request on gateway 0, which must be served as if nothing had been.
void check_serves(sim_cluster& cluster) {
  REQUIRE(cluster.status(0).state == net::engine_state::ready);
  const auto id = cluster.submit(0, {9, 8, 7}, 5);
  cluster.run();
  CHECK(cluster.outcomes().at(id).tokens == cluster.expected({9, 8, 7}, 5));
}

}  // namespace

TEST_CASE("a failed step ends every request once, and the group starts over") {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    auto armed = std::make_shared<bool>(true);
    cluster_options options{.nodes = 2, .pipeline_parallel_size = 2, .gateways = 2, .seed = seed};
    options.adjust = [armed, seed](runtime::fake_options& fake) {
      if (fake.layout.rank != static_cast<std::int32_t>(seed % 2)) return;
      fake.fail_step = [armed, seed](const runtime::step_plan& plan) -> std::optional<error> {
        if (!*armed || plan.step != 3 + seed % 5) return std::nullopt;
        *armed = false;
        return error{errc::device_lost, "the fake device broke", {}};
      };
    };
    sim_cluster cluster(options);
    cluster.start();
    submit_some(cluster, 10, 2);
    cluster.pass(milliseconds(1000));
    CHECK(!*armed);
    CHECK(count(cluster).failed > 0);
    CHECK(cluster.said("rank " + std::to_string(seed % 2)));
    CHECK(cluster.said("the fake device broke"));
    CHECK(cluster.said("epoch 2"));
    CHECK(cluster.runners_made() == 2);  // the shards kept their weights
    check_serves(cluster);
  }
}

TEST_CASE("a lost node ends every request once; when it is back the group serves again") {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    sim_cluster cluster({.nodes = 3, .pipeline_parallel_size = 3, .gateways = 2, .seed = seed});
    cluster.start();
    submit_some(cluster, 10, 2);
    const auto victim = 1 + seed % 2;
    cluster.kill_node(victim);
    cluster.run_some(cluster.random()() % 50);
    submit_some(cluster, 5, 2);
    cluster.pass(milliseconds(2000));
    count(cluster);
    CHECK(cluster.status(0).state == net::engine_state::dead);
    CHECK(cluster.said(std::string("node ") + static_cast<char>('a' + victim)));
    cluster.restart_node(victim);
    cluster.pass(milliseconds(2000));
    check_serves(cluster);
  }
}

TEST_CASE("streams outlast a node that is back soon enough, with the tokens they would have had") {
  for (std::uint32_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    sim_cluster cluster({.nodes = 3,
                         .pipeline_parallel_size = 3,
                         .gateways = 2,
                         .seed = seed,
                         .resume_timeout_ms = 2000});
    cluster.start();
    std::map<request_id, std::vector<token_id>> prompts;
    for (int i = 0; i < 12; ++i) {
      std::vector<token_id> prompt(1 + cluster.random()() % 10, i);
      prompts[cluster.submit(cluster.random()() % 2, prompt, 30)] = prompt;
      cluster.run_some(cluster.random()() % 40);
    }
    const auto gone = cluster.random()() % 12;
    cluster.kill_node(1 + seed % 2);
    cluster.run_some(cluster.random()() % 50);
    cluster.pass(milliseconds(500));
    CHECK(cluster.status(0).state == net::engine_state::dead);
    const auto left = std::next(prompts.begin(), gone)->first;
    cluster.cancel(left >> 48, left);  // a client that does not wait
    cluster.restart_node(1 + seed % 2);
    cluster.pass(milliseconds(2000));
    count(cluster);
    for (const auto& [id, prompt] : prompts) {
      const auto& o = cluster.outcomes().at(id);
      if (o.rejected || id == left) continue;
      INFO("request " << id << " " << o.message);
      CHECK(o.finish == finish_reason::length);
      CHECK(o.tokens == cluster.expected(prompt, 30));
    }
    CHECK(
        cluster.said(std::string("fault of ") + static_cast<char>('b' + seed % 2) + ": peer_lost"));
    check_serves(cluster);
  }
}

TEST_CASE("streams end with the fault's name when the engine does not serve again in time") {
  sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2, .resume_timeout_ms = 1500});
  cluster.start();
  const auto id = cluster.submit(0, {1, 2}, 100);
  cluster.run_some(60);
  cluster.kill_node(1);
  cluster.pass(milliseconds(1400));
  CHECK(cluster.outcomes().at(id).lasts == 0);
  cluster.pass(milliseconds(200));
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.finish == finish_reason::error);
  CHECK(o.message.find("node b (rank 1) is lost: ") == 0);
  CHECK(o.message.find("did not serve again within 1500 ms") != std::string::npos);
  const auto status = cluster.status(0);
  CHECK(status.state == net::engine_state::dead);
  CHECK(status.reason.find("node b (rank 1) is lost: ") == 0);  // beside who is missing
  CHECK(status.reason.find("b not joined") != std::string::npos);
  cluster.restart_node(1);
  cluster.pass(milliseconds(2000));
  check_serves(cluster);
}

TEST_CASE("a request that breaks the group each time ends, and the group serves on") {
  cluster_options options{.nodes = 2, .tensor_parallel_size = 2, .resume_timeout_ms = 5000};
  options.adjust = [](runtime::fake_options& fake) {
    if (fake.layout.rank != 1) return;
    fake.fail_step = [](const runtime::step_plan& plan) -> std::optional<error> {
      for (const auto& start : plan.starts)
        if (start.prompt_tokens == 7) return error{errc::device_lost, "seven is poison", {}};
      return std::nullopt;
    };
  };
  sim_cluster cluster(options);
  cluster.start();
  const auto id = cluster.submit(0, {1, 2, 3, 4, 5, 6, 7}, 5);
  cluster.pass(milliseconds(2000));
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.finish == finish_reason::error);
  CHECK(o.message == "rank 1 (stage 0, node b, fake:0): seven is poison");
  check_serves(cluster);
}

TEST_CASE("a drain waits for streams that wait for the engine") {
  const bool back = GENERATE(true, false);
  INFO("back " << back);
  sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2, .resume_timeout_ms = 1500});
  cluster.start();
  const auto id = cluster.submit(0, {1, 2}, 20);
  cluster.run_some(60);
  cluster.kill_node(1);
  cluster.pass(milliseconds(300));
  post(cluster.node(0), drain_engine{10'000});
  cluster.pass(milliseconds(200));
  CHECK(cluster.exits().empty());
  if (back) cluster.restart_node(1);
  cluster.pass(milliseconds(2000));
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.lasts == 1);
  CHECK(o.finish == (back ? finish_reason::length : finish_reason::error));
  if (back) CHECK(o.tokens == cluster.expected({1, 2}, 20));
  REQUIRE(!cluster.exits().empty());
  CHECK(cluster.exits().front() == runtime::exit_ok);
}

TEST_CASE(
    "an engine that a node left in the middle of a drain serves again once the node is back") {
  const bool killed = GENERATE(true, false);  // before its time to drain is over
  INFO("killed " << killed);
  sim_cluster cluster({.nodes = 3, .pipeline_parallel_size = 3, .resume_timeout_ms = 20'000});
  cluster.start();
  const auto id = cluster.submit(0, {1, 2}, 20);
  cluster.run_some(60);
  cluster.kill_node(2);
  cluster.pass(milliseconds(300));
  post(cluster.node(1), drain_engine{killed ? 10'000U : 200U});
  cluster.pass(milliseconds(400));
  cluster.kill_node(1);
  cluster.pass(milliseconds(200));
  cluster.restart_node(1);
  cluster.restart_node(2);
  cluster.pass(milliseconds(2000));
  CHECK(cluster.outcomes().at(id).tokens == cluster.expected({1, 2}, 20));
  check_serves(cluster);
}

TEST_CASE("the late news of a child's end are not taken for the end of its next process") {
  sim_cluster cluster({.nodes = 3, .pipeline_parallel_size = 3, .kept = true});
  cluster.start();
  const auto old = cluster.processes();
  cluster.kill_node(2);
  cluster.run();
  cluster.restart_node(2);
  cluster.pass(milliseconds(1000));
  CHECK(cluster.said("end process " + std::to_string(old) + " of child 2"));
  check_serves(cluster);
  post(cluster.node(1), child_ended{2, old, "killed by SIGKILL"});
  cluster.pass(milliseconds(1000));
  CHECK(!cluster.said("SIGKILL"));
  check_serves(cluster);
  post(cluster.node(1), child_ended{2, cluster.processes(), "exit code 3"});
  cluster.pass(milliseconds(1000));
  CHECK(cluster.said("node c (rank 2) is lost: exit code 3"));
}

TEST_CASE("a fault that names a lost peer waits for the loss of the peer's node") {
  const bool node_dies = GENERATE(true, false);
  INFO("node dies " << node_dies);
  auto armed = std::make_shared<bool>(true);
  cluster_options options{.nodes = 2, .tensor_parallel_size = 2};
  options.adjust = [armed](runtime::fake_options& fake) {
    if (fake.layout.rank != 0) return;
    fake.fail_step = [armed](const runtime::step_plan& plan) -> std::optional<error> {
      if (plan.step != 3 || !std::exchange(*armed, false)) return std::nullopt;
      return error{errc::peer_lost, "a connection closed", {}};
    };
  };
  sim_cluster cluster(options);
  cluster.start();
  const auto id = cluster.submit(0, {1, 2}, 10);
  cluster.run();
  REQUIRE(!*armed);
  CHECK(cluster.outcomes().at(id).lasts == 0);
  if (node_dies) cluster.kill_node(1);
  cluster.pass(milliseconds(200));
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.lasts == 1);
  CHECK(o.finish == finish_reason::error);
  INFO(o.message);
  CHECK((o.message.find("node b") != std::string::npos) == node_dies);
  CHECK((o.message.find("rank 0 (stage 0, node a") != std::string::npos) != node_dies);
}

TEST_CASE("a step without a result ends the requests once its deadline has passed") {
  // Takes one step of epoch 1 and does nothing with it.
  class forgetful : public runtime::runner {
   public:
    explicit forgetful(std::unique_ptr<runtime::runner> real) : real_(std::move(real)) {}
    result<void> load(const runtime::load_progress& p) override { return real_->load(p); }
    result<runtime::cache_size> size_cache() override { return real_->size_cache(); }
    result<std::string> card() override { return real_->card(); }
    result<void> connect(std::span<const std::string> cards, milliseconds limit) override {
      return real_->connect(cards, limit);
    }
    result<void> start_cache(std::span<const std::uint32_t> blocks,
                             runtime::epoch_id epoch) override {
      return real_->start_cache(blocks, epoch);
    }
    void execute(const runtime::step_plan& plan, const runtime::result_sink& sink) override {
      if (plan.epoch > 1 || plan.step < 3) real_->execute(plan, sink);
    }
    runtime::rank_report report() const override { return real_->report(); }
    void abort() noexcept override { real_->abort(); }

   private:
    std::unique_ptr<runtime::runner> real_;
  };
  cluster_options options{.nodes = 2, .pipeline_parallel_size = 2};
  options.wrap = [](std::unique_ptr<runtime::runner> real, const runtime::rank_layout& layout) {
    if (layout.rank == 0) return real;
    return std::unique_ptr<runtime::runner>(std::make_unique<forgetful>(std::move(real)));
  };
  sim_cluster cluster(options);
  cluster.start();
  const auto id = cluster.submit(0, {1, 2}, 10);
  cluster.pass(milliseconds(4000));
  CHECK(cluster.outcomes().at(id).lasts == 0);
  CHECK(cluster.status(0).last_step_age_ms >= 3000);
  cluster.pass(milliseconds(2500));
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.lasts == 1);
  CHECK(o.finish == finish_reason::error);
  CHECK(o.message.find("step 3 had no result after") != std::string::npos);
  check_serves(cluster);
}

TEST_CASE("the directory tells who is there and what the engine does") {
  sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2});
  cluster.start();
  auto state = cluster.cluster_state();
  CHECK(state.engine.state == static_cast<std::uint8_t>(net::engine_state::ready));
  CHECK(state.engine.epoch == 1);
  REQUIRE(state.nodes.size() == 2);
  CHECK(state.nodes[1].name == "b");
  CHECK(state.nodes[1].alive);
  REQUIRE(state.ranks.size() == 2);
  CHECK(state.ranks[1].node == "b");
  CHECK(state.ranks[1].stage == 1);
  CHECK(state.ranks[1].cache_blocks == state.load.blocks);
  CHECK(state.load.known);
  CHECK(state.load.blocks_used == 0);
  CHECK(state.faults == 0);
  cluster.kill_node(1);
  cluster.pass(milliseconds(500));
  state = cluster.cluster_state();
  CHECK(state.engine.state == static_cast<std::uint8_t>(net::engine_state::dead));
  CHECK(state.nodes[0].alive);
  CHECK(!state.nodes[1].alive);
  CHECK(state.nodes[1].note.substr(0, 4) == "lost");
  CHECK(state.ranks[1].cache_blocks == 0);
  CHECK(state.faults == 1);
  CHECK(state.last_fault.find("node b (rank 1) is lost") == 0);
  cluster.restart_node(1);
  cluster.pass(milliseconds(2000));
  state = cluster.cluster_state();
  CHECK(state.engine.state == static_cast<std::uint8_t>(net::engine_state::ready));
  CHECK(state.faults == 1);  // told, though it is over
  CHECK(state.last_fault_age_ms >= 2000);
}

TEST_CASE("a gateway shows the cluster once its node has joined, and says when it cannot") {
  sim_cluster cluster({});
  const auto early = cluster.show_cluster(0);
  cluster.start();
  const auto late = cluster.show_cluster(0);
  cluster.run();
  REQUIRE(cluster.shown().size() == 2);
  CHECK(cluster.shown().at(late)->find(R"("state":"ready")") != std::string::npos);
  CHECK(cluster.shown().at(late)->find(R"("cache_blocks":)") != std::string::npos);
  const auto& first = cluster.shown().at(early);  // told in whatever order things happen
  CHECK((first || first.error().code == errc::unavailable));
}

TEST_CASE("a lost gateway frees what it had asked for") {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    sim_cluster cluster({.gateways = 2, .seed = seed});
    cluster.start();
    submit_some(cluster, 12, 2);
    cluster.kill_gateway(1);
    cluster.run();
    count(cluster);
    CHECK(cluster.stats().running == 0);
    CHECK(cluster.stats().waiting == 0);
    check_serves(cluster);
  }
}

TEST_CASE("a group that always fails gives up and says so") {
  cluster_options options;
  options.adjust = [](runtime::fake_options& fake) {
    fake.fail_step = [](const runtime::step_plan&) -> std::optional<error> {
      return error{errc::device_lost, "broken for good", {}};
    };
  };
  sim_cluster cluster(options);
  cluster.start();
  for (int i = 0; i < 6; ++i) {
    cluster.submit(0, {1}, 5);
    cluster.pass(milliseconds(1000));
  }
  CHECK(count(cluster).failed == 6);
  REQUIRE(cluster.exits().size() == 1);
  CHECK(cluster.exits().front() == runtime::exit_failure);
  CHECK(cluster.said("gave up after 6 failures in a row; the last: rank 0"));
}

TEST_CASE("a node may leave and come back any number of times, and the others keep their weights") {
  sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2});
  cluster.start();
  const int made = cluster.runners_made();
  for (int i = 1; i <= 10; ++i) {
    cluster.kill_node(1);
    cluster.pass(milliseconds(100));
    cluster.restart_node(1);
    cluster.pass(milliseconds(1500));
    check_serves(cluster);
    CHECK(cluster.runners_made() == made + i);
  }
  CHECK(cluster.exits().empty());
}

TEST_CASE("nodes that do not come back end the cluster after the start-up limit") {
  sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2});
  cluster.start();
  cluster.kill_node(1);
  cluster.pass(milliseconds(25'000));
  REQUIRE(cluster.exits().size() == 1);
  CHECK(cluster.exits().front() == runtime::exit_cluster);
  CHECK(cluster.said("not all nodes joined within 20000 ms"));
}

TEST_CASE("draining answers what runs and refuses what comes") {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2, .gateways = 2, .seed = seed});
    cluster.start();
    submit_some(cluster, 6, 2);
    cluster.run();
    submit_some(cluster, 6, 2);
    post(cluster.node(0), drain_engine{10'000});
    cluster.run_some(cluster.random()() % 30);
    submit_some(cluster, 6, 2);
    cluster.run();
    const auto all = count(cluster);
    CHECK(all.failed == 0);
    CHECK(all.finished >= 6);
    REQUIRE(cluster.exits().size() == 2);
    CHECK(cluster.exits() == std::vector<int>{runtime::exit_ok, runtime::exit_ok});
  }
}

}  // namespace dinfer::actors::tests
