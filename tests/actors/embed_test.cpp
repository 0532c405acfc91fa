// SPDX-License-Identifier: Apache-2.0
// Engines of fake devices in a stranger's actor system: streams to its actors, slow ones among
// them, and the end of the system while they run.
#include "actors/embed.hpp"
#include "actors/fake_parts.hpp"
#include "dinfer/caf.hpp"
#include "tests/actors/child_process.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/patience.hpp"

#include <caf/all.hpp>
#include <caf/io/all.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::actors::tests {
namespace {

using Catch::Matchers::Contains;
using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
const auto patience = dinfer::tests::patient(milliseconds(20'000));
constexpr milliseconds step{2};

struct host_config : caf::actor_system_config {
  host_config() {
    configure(*this);
    configure(*this);
    set("scheduler.max-threads", std::size_t{2});
  }
};

embedded_node fake_engine(caf::actor_system& system, milliseconds step_time = step,
                          std::uint64_t seed = 0, std::uint32_t max_num_seqs = 256) {
  node_options options;
  options.config.nodes.resize(1);
  options.config.nodes[0].name = "a";
  options.config.nodes[0].devices = {"fake:0"};
  options.config.model.max_model_len = 1 << 20;
  options.config.cache.blocks = 1 << 16;
  options.config.scheduler.max_num_seqs = max_num_seqs;
  fake_parts_options fakes;
  fakes.seed = seed;
  fakes.adjust = [step_time](runtime::fake_options& fake) {
    fake.step_time = step_time;
    fake.sleep = [](std::chrono::microseconds time) { std::this_thread::sleep_for(time); };
  };
  options.parts = fake_parts(options.config, std::move(fakes));
  auto node = embed(system, std::move(options));
  if (!node) FAIL(node.error().message);
  const auto ready = node->wait_ready(patience);
  if (!ready) FAIL(ready.error().message);
  return std::move(*node);
}

open_stream asking(std::uint32_t tokens, std::uint32_t credit = 16) {
  open_stream out;
  out.request.prompt = {1, 2, 3};
  out.request.sampling.temperature = 0;
  out.request.sampling.max_tokens = tokens;
  out.request.sampling.ignore_eos = true;
  out.credit = credit;
  return out;
}

// What a consumer has seen; written by its actor, read by the test.
struct seen {
  std::mutex mutex;
  std::vector<token_id> tokens;
  std::vector<double> gaps_ms;
  int events = 0;
  std::optional<stream_event> last;

  bool ended() {
    const std::lock_guard lock(mutex);
    return last.has_value();
  }
  int count() {
    const std::lock_guard lock(mutex);
    return events;
  }
};
using seen_ptr = std::shared_ptr<seen>;

bool within(milliseconds limit, const std::function<bool()>& what) {
  const auto until = clock::now() + limit;
  while (!what()) {
    if (clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

// Opens a stream, grants a credit for each event after `pause` on its own thread, and ends with it.
caf::behavior reader(caf::event_based_actor* self, engine_actor engine, open_stream ask_for,
                     seen_ptr out, milliseconds pause, bool grants) {
  self->request(engine, patience, std::move(ask_for)).then([](const stream_opened&) {});
  auto before = std::make_shared<clock::time_point>(clock::now());
  return {[=](const stream_event& got) {
    const auto now = clock::now();
    if (pause > milliseconds(0)) std::this_thread::sleep_for(pause);
    const std::lock_guard lock(out->mutex);
    ++out->events;
    for (const auto& token : got.event.tokens) out->tokens.push_back(token.token);
    out->gaps_ms.push_back(std::chrono::duration<double, std::milli>(now - *before).count());
    *before = now;
    if (got.event.finish != finish_reason::none) {
      out->last = got;
      self->quit();
    } else if (grants) {
      self->send(engine, grant_credit{got.event.id});
    }
  }};
}

seen_ptr read(caf::actor_system& system, const engine_actor& engine, open_stream what,
              milliseconds pause = milliseconds(0), bool grants = true) {
  auto out = std::make_shared<seen>();
  system.spawn(reader, engine, std::move(what), out, pause, grants);
  return out;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

std::vector<token_id> alone(std::uint32_t tokens, std::uint64_t seed = 0) {
  std::vector<token_id> all{1, 2, 3};
  for (std::uint32_t i = 0; i < tokens; ++i)
    all.push_back(runtime::fake_next_token(all, runtime::fake_seed(seed, 0), 32'000));
  return {all.begin() + 3, all.end()};
}

}  // namespace

TEST_CASE("an actor of a stranger's system gets its stream in order, and the host then ends") {
  host_config config;
  caf::actor_system system(config);
  auto node = fake_engine(system);
  const auto out = read(system, node.engine(), asking(50));
  system.await_all_actors_done();  // the engine's do not count
  REQUIRE(out->last);
  CHECK(out->last->event.finish == finish_reason::length);
  CHECK(out->last->event.used.completion_tokens == 50);
  CHECK(out->tokens == alone(50));
}

TEST_CASE("slow consumers that take every thread of the host's pool hold nobody else up") {
  host_config config;
  caf::actor_system system(config);
  auto node = fake_engine(system);
  const auto fast = [&] {
    auto out = std::make_shared<seen>();
    system.spawn<caf::detached>(reader, node.engine(), asking(150), out, milliseconds(0), true);
    REQUIRE(within(patience, [&] { return out->ended(); }));
    CHECK(out->tokens == alone(150));
    return median(out->gaps_ms);
  };
  const auto before = fast();
  std::vector<seen_ptr> slow;
  for (int i = 0; i < 4; ++i)
    slow.push_back(read(system, node.engine(), asking(100'000, 2), milliseconds(100)));
  // A pool of two threads may never come to the other two.
  const auto busy = [&] {
    return std::find_if(slow.begin(), slow.end(), [](const auto& s) { return s->count() > 0; });
  };
  REQUIRE(within(patience, [&] { return busy() != slow.end(); }));
  const auto beside = fast();
  INFO("gap between tokens: " << before << " ms alone, " << beside << " ms beside slow consumers");
  CHECK(beside < before + 20);  // each of the others takes 100 ms an event
  CHECK_FALSE((*busy())->ended());
}

TEST_CASE("a consumer that grants nothing gets its credit in events, then one last") {
  host_config config;
  caf::actor_system system(config);
  auto node = fake_engine(system, milliseconds(0));
  SECTION("what is kept comes with the end, when that is near") {
    const auto out = read(system, node.engine(), asking(100, 3), milliseconds(0), false);
    REQUIRE(within(patience, [&] { return out->ended(); }));
    CHECK(out->events == 4);
    CHECK(out->last->event.finish == finish_reason::length);
    CHECK(out->tokens == alone(100));
  }
  SECTION("the stream is ended when more would have to be kept") {
    const auto out = read(system, node.engine(), asking(100'000, 3), milliseconds(0), false);
    REQUIRE(within(patience, [&] { return out->ended(); }));
    CHECK(out->events == 4);
    CHECK(out->last->event.finish == finish_reason::error);
    CHECK(out->last->code == errc::cancelled);
    CHECK_THAT(out->last->event.message, Contains("no credit for 256 steps"));
    const auto got = static_cast<std::uint32_t>(out->tokens.size());
    CHECK(got <= 3 + 256 + 1);  // a step brings one token
    CHECK(out->tokens == alone(got));
  }
}

TEST_CASE("kept tokens come together when credit is granted") {
  host_config config;
  caf::actor_system system(config);
  auto node = fake_engine(system);
  const auto out = read(system, node.engine(), asking(60, 1), milliseconds(20));
  REQUIRE(within(patience, [&] { return out->ended(); }));
  CHECK(out->events < 40);
  CHECK(out->tokens == alone(60));
}

TEST_CASE("a stream is closed by its consumer, and by its end") {
  host_config config;
  caf::actor_system system(config);
  auto node = fake_engine(system, step, 0, 1);  // one request at a time
  caf::scoped_actor self{system};
  request_id id = 0;
  self->request(node.engine(), patience, asking(100'000))
      .receive([&](const stream_opened& opened) { id = opened.id; },
               [&](const caf::error& why) { FAIL(system.render(why)); });
  self->send(node.engine(), close_stream{id});
  auto finish = finish_reason::none;
  while (finish == finish_reason::none)
    self->receive([&](const stream_event& got) { finish = got.event.finish; },
                  caf::after(patience) >> [&] { finish = finish_reason::error; });
  CHECK(finish == finish_reason::abort);
  {
    const caf::scoped_actor leaves{system};
    leaves->request(node.engine(), patience, asking(100'000))
        .receive([](const stream_opened&) {}, [](const caf::error&) { FAIL("not opened"); });
  }
  // While the other request runs this one waits, and it would run for minutes.
  const auto out = read(system, node.engine(), asking(5));
  REQUIRE(within(patience, [&] { return out->ended(); }));
  CHECK(out->tokens == alone(5));
}

TEST_CASE("what cannot be served is told in words") {
  host_config config;
  caf::actor_system system(config);
  auto node = fake_engine(system);
  auto refused = asking(5);
  refused.request.prompt.clear();
  const auto out = read(system, node.engine(), refused);
  REQUIRE(within(patience, [&] { return out->ended(); }));
  CHECK(out->last->event.finish == finish_reason::error);
  CHECK(out->last->code == errc::invalid_argument);
  CHECK_THAT(out->last->event.message, Contains("prompt"));
  CHECK(unpack("anything", refused.request) != caf::none);
  cluster_config cluster;
  cluster.model.path = "/nowhere/model.gguf";
  const auto no_file = spawn_node(system, cluster);
  REQUIRE_FALSE(no_file);
  CHECK(no_file.error().code == errc::not_found);
  cluster.nodes.resize(2);
  cluster.nodes[0].name = "a";
  cluster.nodes[1].name = "b";
  cluster.nodes[1].address = "127.0.0.2";
  cluster.nodes[0].devices = cluster.nodes[1].devices = {"cpu:0"};
  const auto no_network = spawn_node(system, cluster);
  REQUIRE_FALSE(no_network);
  CHECK_THAT(no_network.error().message, Contains("configure(config, cluster)"));
}

TEST_CASE("two engines live in one system") {
  host_config config;
  caf::actor_system system(config);
  auto one = fake_engine(system, step, 1);
  auto two = std::make_unique<embedded_node>(fake_engine(system, step, 2));
  const auto a = read(system, one.engine(), asking(40));
  const auto b = read(system, two->engine(), asking(40));
  REQUIRE(within(patience, [&] { return a->ended() && b->ended(); }));
  CHECK(a->tokens == alone(40, 1));
  CHECK(b->tokens == alone(40, 2));
  two.reset();
  const auto again = read(system, one.engine(), asking(10));
  REQUIRE(within(patience, [&] { return again->ended(); }));
  CHECK(again->tokens == alone(10, 1));
}

TEST_CASE("a host ends within seconds while streams run, and each has its last event") {
  std::vector<seen_ptr> outs;
  clock::time_point begin;
  {
    host_config config;
    caf::actor_system system(config);
    auto node = fake_engine(system);
    for (int i = 0; i < 20; ++i) outs.push_back(read(system, node.engine(), asking(100'000)));
    for (auto& out : outs) REQUIRE(within(patience, [&] { return out->count() > 0; }));
    begin = clock::now();
    SECTION("the node goes out of scope") {}
    SECTION("it is stopped first, twice") {
      REQUIRE(node.stop());
      REQUIRE(node.stop());
      CHECK_FALSE(node.engine());
      CHECK_FALSE(node.wait_ready(milliseconds(1)));
    }
  }
  CHECK(clock::now() - begin < milliseconds(3000));
  for (auto& out : outs) {
    REQUIRE(out->last);
    CHECK(out->last->event.finish == finish_reason::error);
    CHECK(out->last->code == errc::unavailable);
    CHECK_THAT(out->last->event.message, Contains("stopped"));
  }
}

TEST_CASE("a consumer in another process that freezes holds nobody up, and is ended", "[slow]") {
  host_config config;
  config.load<caf::io::middleman>();
  caf::actor_system system(config);
  auto node = fake_engine(system);
  const auto port = system.middleman().publish(node.engine(), 0, "127.0.0.1", true);
  REQUIRE(port);
  {
    child_process far({DINFER_TEST_CONSUMER, std::to_string(*port)});
    const auto streaming = far.expect("tokens", patience);
    INFO(far.seen());
    REQUIRE(streaming);
    far.signal(SIGSTOP);
    const auto out = read(system, node.engine(), asking(400));
    REQUIRE(within(patience, [&] { return out->ended(); }));
    CHECK(out->tokens == alone(400));
    far.signal(SIGCONT);
    const auto last = far.expect("last ", patience);
    INFO(far.seen());
    REQUIRE(last);
    CHECK_THAT(*last, Contains("no credit for 256 steps"));
    REQUIRE(far.wait(patience));
  }
  system.middleman().unpublish(node.engine(), *port);
}

}  // namespace dinfer::actors::tests
