// SPDX-License-Identifier: Apache-2.0
// The rows of bench/rows.hpp offline, on one device. Token ids in and out, prefix cache off.
//
//   bench_engine --model bench/models/llama-3.1-8b --random --device cuda:0 [ROW...]
#include "dinfer/engine.hpp"
#include "bench/rows.hpp"

#include <cstdlib>
#include <string>
#include <vector>

using namespace dinfer;
using bench::die;

int main(int argc, char** argv) {
  engine_options options;
  options.device = "cuda:0";
  options.max_num_seqs = 512;
  options.prefix_caching = false;
  std::int32_t vocabulary = 49152;
  std::vector<std::string> rows;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      return i + 1 < argc ? argv[++i] : (die(flag + " needs a value"), "");
    };
    if (flag == "--model") options.model_path = value();
    else if (flag == "--random") options.format = load_format::random;
    else if (flag == "--device") options.device = value();
    else if (flag == "--tuning") options.tuning_directory = value();
    else if (flag == "--vocabulary") vocabulary = std::atoi(value());
    else if (flag == "--max-num-seqs")
      options.max_num_seqs = static_cast<std::uint32_t>(std::atoi(value()));
    else if (flag == "--max-num-batched-tokens")
      options.max_num_batched_tokens = static_cast<std::uint32_t>(std::atoi(value()));
    else if (flag == "--eager") options.cuda_graphs = false;
    else if (flag.starts_with("--")) die("no flag " + flag);
    else rows.push_back(flag);
  }
  auto opened = engine::open(options);
  if (!opened) die(opened.error().message);
  const auto generate = [&](const bench::rows::prompt_list& prompts,
                            const sampling_params& sampling) {
    const auto outputs = opened->generate(prompts, sampling);
    if (!outputs) die(outputs.error().message);
    for (const auto& o : *outputs) {
      if (o.size() != sampling.max_tokens)
        die("an output of " + std::to_string(o.size()) + " tokens");
    }
  };
  bench::rows measured(generate, vocabulary);
  measured.run(1, 32, 1);
  bench::print("start_s", bench::process_age(), "s");
  for (const auto& row : rows) measured.measure(row);
}
