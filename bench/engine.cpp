// SPDX-License-Identifier: Apache-2.0
// The engine offline, one device: time of a decoding step, time to the first token, throughput,
// time from the process's start to its first token. Prints one JSON object a row; bench/rows.py
// adds bounds and peers. Token ids in and out, greedy, prefix cache off, every output at full
// length.
//
//   bench_engine --model bench/models/llama-3.1-8b --random --device cuda:0 [ROW...]
//
// step_ms_bN: (time of 129 tokens - time of 1) / 128 for N requests with prompts of 32 tokens.
// ttft_ms_N: one request with a prompt of N tokens. thr_I_O: requests of I tokens in and O out.
#include "dinfer/engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace dinfer;
using steady = std::chrono::steady_clock;

constexpr int repetitions = 5;

double seconds_since(steady::time_point begin) {
  return std::chrono::duration<double>(steady::now() - begin).count();
}

// Since the process was started, by the kernel's clock (10 ms ticks).
double process_age() {
  std::ifstream stat("/proc/self/stat");
  std::string text{std::istreambuf_iterator<char>(stat), {}};
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) -
         std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "bench_engine: %s\n", why.c_str());
  std::exit(1);
}

class bench {
 public:
  bench(engine& e, std::int32_t vocabulary) : engine_(e), vocabulary_(vocabulary) {}

  double run(std::size_t requests, std::size_t in, std::uint32_t out) {
    std::vector<std::vector<token_id>> prompts(requests);
    std::uniform_int_distribution<token_id> draw(10, vocabulary_ - 1);
    for (auto& p : prompts) {
      for (std::size_t i = 0; i < in; ++i) p.push_back(draw(random_));
    }
    sampling_params sampling;
    sampling.temperature = 0;
    sampling.max_tokens = out;
    sampling.ignore_eos = true;
    const auto begin = steady::now();
    const auto outputs = engine_.generate(prompts, sampling);
    const double spent = seconds_since(begin);
    if (!outputs) die(outputs.error().message);
    for (const auto& o : *outputs) {
      if (o.size() != out) die("an output of " + std::to_string(o.size()) + " tokens");
    }
    return spent;
  }

  double step_ms(std::size_t sequences) {
    constexpr std::size_t prompt = 32;
    run(sequences, prompt, 129);
    return median(
        [&] { return 1e3 * (run(sequences, prompt, 129) - run(sequences, prompt, 1)) / 128; });
  }
  double ttft_ms(std::size_t prompt) {
    run(1, prompt, 1);
    run(1, prompt, 1);
    return median([&] { return 1e3 * run(1, prompt, 1); });
  }
  double throughput(std::size_t requests, std::size_t in, std::uint32_t out) {
    run(requests, in, 16);
    return static_cast<double>(requests) * out / run(requests, in, out);
  }

 private:
  static double median(const std::function<double()>& measure) {
    std::array<double, repetitions> values{};
    for (double& v : values) v = measure();
    std::ranges::sort(values);
    return values[repetitions / 2];
  }

  engine& engine_;
  std::int32_t vocabulary_;
  std::mt19937 random_{7};
};

void print(const std::string& row, double value, const char* unit) {
  std::printf("{\"workload\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"}\n", row.c_str(), value,
              unit);
  std::fflush(stdout);
}

void measure(bench& b, const std::string& row) {
  unsigned a = 0, c = 0;
  if (std::sscanf(row.c_str(), "step_ms_b%u", &a) == 1) return print(row, b.step_ms(a), "ms");
  if (std::sscanf(row.c_str(), "ttft_ms_%u", &a) == 1) return print(row, b.ttft_ms(a), "ms");
  if (std::sscanf(row.c_str(), "thr_%u_%u", &a, &c) == 2) {
    const std::size_t requests = a == 256 ? 1024 : 512;
    return print(row, b.throughput(requests, a, c), "tok/s");
  }
  die("no row \"" + row + "\": step_ms_b1, ttft_ms_512, thr_256_256 and their like");
}

}  // namespace

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
  bench b(*opened, vocabulary);
  b.run(1, 32, 1);
  print("start_s", process_age(), "s");
  for (const auto& row : rows) measure(b, row);
}
