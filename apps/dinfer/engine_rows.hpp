// SPDX-License-Identifier: Apache-2.0
// Rows of bench/targets.json, from anything that can run requests to their end: the time of a
// decoding step, the time to the first token, throughput, the time from the process's start to its
// first token. For `dinfer bench --offline` and the benchmarks. One thread.
//
// step_ms_bN: (time of 129 tokens - time of 1) / 128 for N requests with prompts of 32 tokens,
// step_ms_bN_C of C tokens; where many long prompts take several steps, the first ones end earlier.
// ttft_ms_N: one request with a prompt of N tokens. thr_I_O: requests of I tokens in and O out.
#pragma once

#include "dinfer/engine.hpp"
#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::apps {

struct figure {
  std::string workload;
  double value = 0;
  std::string unit;
};

class engine_rows {
 public:
  using prompt_list = std::vector<std::vector<token_id>>;
  // Runs all prompts greedily for exactly sampling.max_tokens tokens each.
  using generator =
      std::function<result<void>(const prompt_list& prompts, const sampling_params& sampling)>;

  // Prompts are drawn from the token ids 10 to `vocabulary`. A step or a first token is the median
  // of `repetitions`; with one alone no row is run before it counts.
  engine_rows(generator generate, std::int32_t vocabulary, std::size_t repetitions = 5)
      : generate_(std::move(generate)), vocabulary_(vocabulary), repetitions_(repetitions) {}

  // Error: invalid_argument, with the names that there are.
  static result<void> check(const std::string& row);

  // To be measured first: "start_s", until a first token is there.
  result<figure> start();
  result<figure> measure(const std::string& row);

 private:
  result<double> median(const std::function<result<double>()>& measure) const;
  // Seconds of `requests` prompts of `in` tokens with `out` tokens each.
  result<double> run(std::size_t requests, std::size_t in, std::uint32_t out);
  result<double> step_ms(std::size_t sequences, std::size_t prompt);
  result<double> ttft_ms(std::size_t prompt);
  result<double> throughput(std::size_t requests, std::size_t in, std::uint32_t out);

  generator generate_;
  std::int32_t vocabulary_;
  std::size_t repetitions_;
  std::mt19937 random_{7};
};

struct offline_run {
  engine_options options;
  std::int32_t vocabulary = 0;
  std::vector<std::string> rows;
  // Before each of them (the first is "start_s"), and after it.
  std::function<void(const std::string& row)> on_begin;
  std::function<void(const figure&)> on_figure;
};

// The rows on an engine of its own, token ids in and out. Errors: those of engine::open and
// generate; invalid_argument.
result<void> measure_offline(const offline_run& run);

}  // namespace dinfer::apps
