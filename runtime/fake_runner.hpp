// SPDX-License-Identifier: Apache-2.0
// A runner without a model, for devices "fake:N": whole clusters, actors and the scheduler are
// tested and timed with it. Every rank keeps slots, block tables and a pretended KV cache, in which
// a position holds a chain over all tokens up to it; the next token is a hash of the chain. A
// wrong, stale or missing block therefore shows as a wrong token or, before that, as an error:
// plans are checked against every rule of step.hpp. Thread: as runner.hpp says.
#pragma once

#include "dinfer/request.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/runner.hpp"
#include "runtime/schedule/step.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace dinfer::runtime {

struct fake_group {
  std::uint32_t blocks = 1024;
  std::uint32_t window = 0;
};

struct fake_options {
  rank_layout layout;
  std::uint32_t max_num_seqs = 256;
  std::uint32_t max_num_batched_tokens = 2048;
  std::uint32_t max_model_len = 0;  // 0: not checked
  std::uint32_t block_size = 16;
  std::vector<fake_group> groups{fake_group{}};
  std::int32_t vocabulary = 32'000;
  std::uint64_t seed = 0;

  // Pretended time of a step: passed to `sleep`, when that is set.
  std::chrono::microseconds step_time{0}, token_time{0};
  std::function<void(std::chrono::microseconds)> sleep;
  // Called when a step begins and when it ends, before its result is handed over.
  std::function<void(step_id step, bool begins)> on_step;
  // A failure to play: its error goes to the sink in place of a result.
  std::function<std::optional<error>(const step_plan& plan)> fail_step;
};

std::unique_ptr<runner> make_fake_runner(fake_options options);

// What the fake draws after `tokens`. `forbidden` are never drawn, unless everything is.
token_id fake_next_token(std::span<const token_id> tokens, std::uint64_t seed,
                         std::int32_t vocabulary, std::span<const token_id> forbidden = {});
// The log-probability that the fake gives `token` after `tokens`.
float fake_logprob(std::span<const token_id> tokens, token_id token);
// The seed of a request under fake_options::seed.
std::uint64_t fake_seed(std::uint64_t options_seed, std::uint64_t request_seed);

}  // namespace dinfer::runtime
