// SPDX-License-Identifier: Apache-2.0
// A CAF application that has an engine in its own actor system, and an actor of its own that
// streams answers from it: caf_stream MODEL.gguf PROMPT...
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
  app_config() { dinfer::configure(*this); }
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

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL.gguf PROMPT...\n", argv[0]);
    return 2;
  }
  app_config config;
  caf::actor_system system(config);
  dinfer::cluster_config cluster;
  cluster.model.path = argv[1];
  cluster.model.max_model_len = 2048;
  auto node = dinfer::spawn_node(system, cluster);  // ends before the system does
  if (!node) return fail(node.error());
  if (auto ready = node->wait_ready(std::chrono::seconds(60)); !ready) return fail(ready.error());
  for (int i = 2; i < argc; ++i)
    system.spawn(answering, node->engine(), &*node, std::string(argv[i]));
  system.await_all_actors_done();  // the application's own; the engine's do not count
  return 0;
}
