// SPDX-License-Identifier: Apache-2.0
// Text in, text out, inside your own program: generate MODEL.gguf "Once upon a time"
#include "dinfer/engine.hpp"

#include <cstdio>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL.gguf PROMPT...\n", argv[0]);
    return 2;
  }
  dinfer::engine_options options;
  options.model_path = argv[1];
  options.max_model_len = 2048;
  auto engine = dinfer::engine::open(options);
  if (!engine) {
    std::fprintf(stderr, "%s\n", engine.error().message.c_str());
    return 1;
  }

  dinfer::sampling_params sampling;
  sampling.temperature = 0;  // greedy
  sampling.max_tokens = 64;
  const std::vector<std::string> prompts(argv + 2, argv + argc);
  auto texts = engine->generate(prompts, sampling);
  if (!texts) {
    std::fprintf(stderr, "%s\n", texts.error().message.c_str());
    return 1;
  }
  for (std::size_t i = 0; i < prompts.size(); ++i)
    std::printf("%s%s\n\n", prompts[i].c_str(), (*texts)[i].c_str());
  return 0;
}
