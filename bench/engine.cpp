// SPDX-License-Identifier: Apache-2.0
// The rows of apps/dinfer/engine_rows.hpp offline, on one device, as bench/rows.py asks for them.
// Token ids in and out, prefix cache off.
//
//   bench_engine --model bench/models/llama-3.1-8b --random --device cuda:0 [--fp8 | --dequantize]
//                [--kv-fp8] [ROW...]
#include "apps/dinfer/engine_rows.hpp"
#include "bench/rows.hpp"

#include <cstdlib>
#include <string>

using namespace dinfer;
using bench::die;

int main(int argc, char** argv) {
  apps::offline_run run;
  run.vocabulary = 49152;
  auto& options = run.options;
  options.device = "cuda:0";
  options.max_num_seqs = 512;
  options.prefix_caching = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      return i + 1 < argc ? argv[++i] : (die(flag + " needs a value"), "");
    };
    if (flag == "--model") options.model_path = value();
    else if (flag == "--random") options.format = load_format::random;
    else if (flag == "--device") options.device = value();
    else if (flag == "--tuning") options.tuning_directory = value();
    else if (flag == "--vocabulary") run.vocabulary = std::atoi(value());
    else if (flag == "--max-num-seqs")
      options.max_num_seqs = static_cast<std::uint32_t>(std::atoi(value()));
    else if (flag == "--max-num-batched-tokens")
      options.max_num_batched_tokens = static_cast<std::uint32_t>(std::atoi(value()));
    else if (flag == "--fp8") options.quantization = quantization_choice::fp8;
    else if (flag == "--kv-fp8") options.kv_cache_dtype = cache_dtype_choice::fp8;
    else if (flag == "--dequantize") options.dequantize = true;
    else if (flag == "--eager") options.cuda_graphs = false;
    else if (flag.starts_with("--")) die("no flag " + flag);
    else run.rows.push_back(flag);
  }
  run.on_begin = [](const std::string&) {};
  run.on_figure = [](const apps::figure& row) { bench::print(row.workload, row.value, row.unit); };
  if (auto done = apps::measure_offline(run); !done) die(done.error().message);
}
