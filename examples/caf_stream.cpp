// SPDX-License-Identifier: Apache-2.0
// A CAF application that has an engine in its own actor system, and an actor of its own that
// streams answers from it: caf_stream MODEL.gguf PROMPT...
// Or it is one node of a cluster: caf_stream CLUSTER.conf NODE PROMPT...
#include "dinfer/caf.hpp"

#include <caf/all.hpp>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace {

// The application's own configuration; dinfer adds what it needs.
struct app_config : caf::actor_system_config {
  explicit app_config(const dinfer::cluster_config& cluster) { dinfer::configure(*this, cluster); }
};

struct answer {
  answer() = default;
  std::vector<dinfer::token_id> tokens;
  static inline const char* name = "answer";
};

// Asks for one answer, prints it when it is complete, and ends.
caf::behavior answering(caf::stateful_actor<answer>* self, const dinfer::engine_actor& engine,
                        const dinfer::embedded_node* words, const std::string& prompt) {
  dinfer::open_stream order;
  order.request.prompt = words->encode(prompt);
  order.request.sampling.temperature = 0;  // greedy
  order.request.sampling.max_tokens = 32;
  order.credit = 8;
  self->request(engine, std::chrono::seconds(1), order)
      .then([](const dinfer::stream_opened&) {},
            [self](const caf::error& why) {
              std::fprintf(stderr, "%s\n", self->system().render(why).c_str());
              self->quit(why);
            });
  return {[=](const dinfer::stream_event& got) {
    for (const auto& token : got.event.tokens) self->state.tokens.push_back(token.token);
    if (got.event.finish == dinfer::finish_reason::none) {
      self->send(engine, dinfer::grant_credit{got.event.id});
      return;
    }
    std::printf("%s%s%s\n", prompt.c_str(), words->decode(self->state.tokens).c_str(),
                got.event.message.c_str());
    self->quit();
  }};
}

int fail(const dinfer::error& problem) {
  std::fprintf(stderr, "%s\n", problem.message.c_str());
  return 1;
}

dinfer::result<dinfer::cluster_config> cluster_of(const std::string& file) {
  if (file.ends_with(".conf")) return dinfer::read_cluster(file);
  dinfer::cluster_config alone;
  alone.model.path = file;
  alone.model.max_model_len = 2048;
  return alone;
}

}  // namespace

int main(int argc, char** argv) {
  const bool several = argc > 1 && std::string(argv[1]).ends_with(".conf");
  const int first = several ? 3 : 2;
  if (argc <= first) {
    std::fprintf(stderr, "usage: %s MODEL.gguf PROMPT...\n       %s CLUSTER.conf NODE PROMPT...\n",
                 argv[0], argv[0]);
    return 2;
  }
  const auto cluster = cluster_of(argv[1]);
  if (!cluster) return fail(cluster.error());
  app_config config(*cluster);
  caf::actor_system system(config);
  auto node =
      dinfer::spawn_node(system, *cluster, several ? argv[2] : "");  // ends before the system
  if (!node) return fail(node.error());
  if (auto ready = node->wait_ready(std::chrono::seconds(60)); !ready) return fail(ready.error());
  for (int i = first; i < argc; ++i)
    system.spawn(answering, node->engine(), &*node, std::string(argv[i]));
  system.await_all_actors_done();  // the application's own; the engine's do not count
  return 0;
}
