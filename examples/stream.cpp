// SPDX-License-Identifier: Apache-2.0
// Requests that run side by side, each token shown as it comes: stream MODEL.gguf PROMPT...
#include "dinfer/engine.hpp"

#include <cstdio>
#include <string>
#include <vector>

namespace {

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
  dinfer::engine_options options;
  options.model_path = argv[1];
  options.max_model_len = 2048;
  auto engine = dinfer::engine::open(options);
  if (!engine) return fail(engine.error());

  // All are submitted first; every step then works on all of them.
  for (int i = 2; i < argc; ++i) {
    dinfer::generate_request request;
    request.id = static_cast<dinfer::request_id>(i - 1);
    request.prompt = engine->encode(argv[i]);
    request.sampling.temperature = 0;  // greedy
    request.sampling.max_tokens = 32;
    if (auto queued = engine->submit(std::move(request)); !queued) return fail(queued.error());
  }
  struct answer {
    std::vector<dinfer::token_id> tokens;
    std::size_t shown = 0;  // bytes of its text
  };
  std::vector<answer> answers(static_cast<std::size_t>(argc - 1));
  while (engine->busy()) {
    const auto events = engine->step();
    if (!events) return fail(events.error());
    for (const auto& event : *events) {
      auto& a = answers[event.id];
      for (const auto& token : event.tokens) a.tokens.push_back(token.token);
      const bool ended = event.finish != dinfer::finish_reason::none;
      // A token may end inside a character, which then decodes to U+FFFD: wait for the rest.
      const auto text = engine->decode(a.tokens);
      if (text.ends_with("\xEF\xBF\xBD") && !ended) continue;
      std::printf("%d: %s%s\n", static_cast<int>(event.id), text.substr(a.shown).c_str(),
                  ended ? " [end]" : "");
      a.shown = text.size();
    }
    std::fflush(stdout);
  }
  return 0;
}
