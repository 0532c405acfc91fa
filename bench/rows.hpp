// SPDX-License-Identifier: Apache-2.0
// The rows of bench/targets.json, from anything that can run requests to their end: time of a
// decoding step, time to the first token, throughput, time from the process's start to its first
// token. One JSON object a row on stdout; bench/rows.py adds bounds and peers.
//
// step_ms_bN: (time of 129 tokens - time of 1) / 128 for N requests with prompts of 32 tokens.
// ttft_ms_N: one request with a prompt of N tokens. thr_I_O: requests of I tokens in and O out.
#pragma once

#include "dinfer/request.hpp"

#include <unistd.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::bench {

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "bench: %s\n", why.c_str());
  std::exit(1);
}

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Since the process was started, by the kernel's clock (10 ms ticks).
inline double process_age() {
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

inline void print(const std::string& row, double value, const char* unit) {
  std::printf("{\"workload\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"}\n", row.c_str(), value,
              unit);
  std::fflush(stdout);
}

class rows {
 public:
  using prompt_list = std::vector<std::vector<token_id>>;
  // Runs all prompts greedily for exactly sampling.max_tokens tokens each.
  using generator =
      std::function<void(const prompt_list& prompts, const sampling_params& sampling)>;

  rows(generator generate, std::int32_t vocabulary)
      : generate_(std::move(generate)), vocabulary_(vocabulary) {}

  // Seconds of `requests` prompts of `in` tokens with `out` tokens each.
  double run(std::size_t requests, std::size_t in, std::uint32_t out) {
    prompt_list prompts(requests);
    std::uniform_int_distribution<token_id> draw(10, vocabulary_ - 1);
    for (auto& p : prompts) {
      for (std::size_t i = 0; i < in; ++i) p.push_back(draw(random_));
    }
    sampling_params sampling;
    sampling.temperature = 0;
    sampling.max_tokens = out;
    sampling.ignore_eos = true;
    const auto begin = std::chrono::steady_clock::now();
    generate_(prompts, sampling);
    return seconds_since(begin);
  }

  void measure(const std::string& row) {
    unsigned a = 0, c = 0;
    if (std::sscanf(row.c_str(), "step_ms_b%u", &a) == 1) return print(row, step_ms(a), "ms");
    if (std::sscanf(row.c_str(), "ttft_ms_%u", &a) == 1) return print(row, ttft_ms(a), "ms");
    if (std::sscanf(row.c_str(), "thr_%u_%u", &a, &c) == 2) {
      const std::size_t requests = a == 256 ? 1024 : 512;
      return print(row, throughput(requests, a, c), "tok/s");
    }
    die("no row \"" + row + "\": step_ms_b1, ttft_ms_512, thr_256_256 and their like");
  }

 private:
  static constexpr int repetitions = 5;

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
  static double median(const std::function<double()>& measure) {
    std::array<double, repetitions> values{};
    for (double& v : values) v = measure();
    std::ranges::sort(values);
    return values[repetitions / 2];
  }

  generator generate_;
  std::int32_t vocabulary_;
  std::mt19937 random_{7};
};

}  // namespace dinfer::bench
