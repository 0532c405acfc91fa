// SPDX-License-Identifier: Apache-2.0
// A stranger's actor system that is one node of a cluster of two processes, the other a
// dinfer-node: the reference's tokens through its streams, and what is left of the cluster when it
// ends.
#include "dinfer/caf.hpp"
#include "tests/actors/child_process.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/model_path.hpp"
#include "tests/support/patience.hpp"
#include "tests/support/smollm2_answers.hpp"
#include "tests/support/temporary_folder.hpp"

#include <caf/all.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::actors::tests {
namespace {

using Catch::Matchers::Contains;
using clock = std::chrono::steady_clock;
using dinfer::tests::free_port;
using std::chrono::milliseconds;
const auto patience = dinfer::tests::patient(milliseconds(60'000));

// What both processes read.
std::string cluster_conf(const std::string& parallel) {
  const auto node = [](const std::string& name, const std::string& address) {
    return "[[node]]\nname = \"" + name + "\"\naddress = \"" + address +
           "\"\nport = " + std::to_string(free_port(address)) + "\ndevices = [\"cpu:0\"]\n";
  };
  return "[model]\npath = \"" + dinfer::tests::model_path() +
         "\"\ndtype = \"float32\"\n[cpu]\nthreads = 1\n[scheduler]\nmax_num_seqs = "
         "8\n[parallel]\n" +
         parallel + "\n" + node("a", "127.0.0.1") + node("b", "127.0.0.2") +
         "[[gateway]]\nnode = \"a\"\nport = " + std::to_string(free_port("127.0.0.1")) + "\n";
}

struct host_config : caf::actor_system_config {
  explicit host_config(const cluster_config& cluster) { configure(*this, cluster); }
};

// An application: an actor system of its own and a node in it.
class host {
 public:
  host(const cluster_config& cluster, const std::string& name)
      : config_(cluster), system_(config_) {
    auto made = spawn_node(system_, cluster, name);
    if (!made) FAIL(made.error().message);
    node_ = std::make_unique<embedded_node>(std::move(*made));
  }
  embedded_node& node() { return *node_; }
  caf::actor_system& system() { return system_; }

  void be_ready() {
    const auto ready = node_->wait_ready(patience);
    if (!ready) FAIL(ready.error().message);
  }

 private:
  host_config config_;
  caf::actor_system system_;
  std::unique_ptr<embedded_node> node_;
};

open_stream asking(const std::vector<token_id>& prompt, std::size_t tokens) {
  open_stream out;
  out.request.prompt = prompt;
  out.request.sampling.temperature = 0;
  out.request.sampling.max_tokens = static_cast<std::uint32_t>(tokens);
  out.request.sampling.ignore_eos = true;
  return out;
}

void open(const caf::scoped_actor& self, const engine_actor& engine, open_stream what) {
  self->request(engine, patience, std::move(what))
      .receive([](const stream_opened&) {},
               [&](const caf::error& why) { FAIL(self->system().render(why)); });
}

// The next event of any stream of `self`; one with an error after `patience`.
stream_event next(const caf::scoped_actor& self) {
  stream_event out;
  self->receive([&](const stream_event& got) { out = got; },
                caf::after(patience) >>
                    [&] {
                      out.event.finish = finish_reason::error;
                      out.event.message = "no event came";
                    });
  return out;
}

void check_answers(host& app) {
  const caf::scoped_actor self{app.system()};
  const auto engine = app.node().engine();
  for (const auto& answer : dinfer::tests::smollm2_answers(3)) {
    open(self, engine, asking(answer.prompt, answer.tokens.size()));
    std::vector<token_id> tokens;
    for (auto finish = finish_reason::none; finish == finish_reason::none;) {
      const auto got = next(self);
      for (const auto& token : got.event.tokens) tokens.push_back(token.token);
      finish = got.event.finish;
      INFO(got.event.message);
      REQUIRE(finish != finish_reason::error);
      self->send(engine, grant_credit{got.event.id});
    }
    CHECK(tokens == answer.tokens);
  }
}

// Four streams that would run for long, each of which has begun.
void begin_streams(const caf::scoped_actor& self, const engine_actor& engine) {
  for (const auto& answer : dinfer::tests::smollm2_answers(4)) {
    open(self, engine, asking(answer.prompt, 1500));
    REQUIRE(next(self).event.finish == finish_reason::none);
  }
}

void check_ended(const caf::scoped_actor& self) {
  for (int ended = 0; ended < 4;) {
    const auto got = next(self);
    if (got.event.finish == finish_reason::none) continue;
    ++ended;
    CHECK(got.code == errc::unavailable);
    CHECK_THAT(got.event.message, Contains("stopped"));
  }
}

// A host that answers, has streams when it stops, and is gone within seconds.
void check_service_until_stopped(const cluster_config& cluster, const std::string& name) {
  clock::time_point began;
  {
    host app(cluster, name);
    app.be_ready();
    check_answers(app);
    const caf::scoped_actor self{app.system()};
    begin_streams(self, app.node().engine());
    began = clock::now();
    REQUIRE(app.node().stop());
    check_ended(self);
  }
  CHECK(clock::now() - began < milliseconds(5000));
}

std::unique_ptr<child_process> start_node(const std::string& file, const std::string& name) {
  return std::make_unique<child_process>(
      std::vector<std::string>{"/bin/sh", "-c", "exec \"$@\" 2>&1", "sh", DINFER_NODE_PROGRAM,
                               "--config", file, "--node", name});
}

cluster_config read(const std::string& file) {
  auto cluster = read_cluster(file);
  if (!cluster) FAIL(cluster.error().message);
  return *cluster;
}

}  // namespace

TEST_CASE("a host that is the first node serves with a dinfer-node, which ends after it",
          "[slow]") {
  const dinfer::tests::temporary_folder folder;
  const auto file = folder.write("cluster.conf", cluster_conf("tensor_parallel_size = 2"));
  const auto other = start_node(file, "b");
  const auto cluster = read(file);
  check_service_until_stopped(cluster, "a");
  const auto code = other->wait(patience);
  INFO(other->seen());
  CHECK(code == 5);  // it lost the first node
}

TEST_CASE("a host that is not the first node may leave and come again", "[slow]") {
  const dinfer::tests::temporary_folder folder;
  const auto file = folder.write("cluster.conf", cluster_conf("pipeline_parallel_size = 2"));
  const auto first = start_node(file, "a");
  const auto cluster = read(file);
  check_service_until_stopped(cluster, "b");
  host again(cluster, "b");
  again.be_ready();
  check_answers(again);
  first->signal(SIGTERM);
  const auto code = first->wait(patience);
  INFO(first->seen());
  CHECK(code == 0);
  const auto gone = again.node().wait_ready(patience);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().code == errc::unavailable);
}

}  // namespace dinfer::actors::tests
