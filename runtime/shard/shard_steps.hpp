// SPDX-License-Identifier: Apache-2.0
// The steps of one rank: takes the hidden state from the stage before, runs its layers, passes it
// on or draws tokens. A step is launched, which on an asynchronous device returns at once, and
// finished, which waits for what it drew. All memory for activations is taken when it is made.
// Throws device_error. Thread: the shard's; finish() from any, one at a time.
#pragma once

#include "kernels/device.hpp"
#include "runtime/kv/kv_cache.hpp"
#include "runtime/models/model.hpp"
#include "runtime/schedule/step.hpp"
#include "runtime/shard/rank_links.hpp"
#include "runtime/shard/sampling_feed.hpp"
#include "runtime/shard/slot_table.hpp"
#include "runtime/shard/step_graphs.hpp"
#include "runtime/shard/step_inputs.hpp"
#include "runtime/shard/step_outputs.hpp"
#include "runtime/shard/token_return.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace dinfer::runtime {

// A launched step: what finish() needs to know of it.
struct launched_step {
  struct part {
    slot_id slot = 0;
    std::uint32_t targets = 0;
    bool sample = false;
    std::int32_t prompt_top = -1, top = -1;  // candidates to report with targets, with the draw
  };
  epoch_id epoch = 0;
  step_id step = 0;
  std::size_t piece = 0;    // of step_outputs
  bool drawn = false;       // there is a piece
  std::vector<part> parts;  // sequences with logit rows
  std::chrono::steady_clock::time_point at;
};

struct step_options {
  bool graphs = true;
  std::chrono::milliseconds timeout{60'000};  // of one wait for the device
};

class shard_steps {
 public:
  // `shard_rows[r]`: vocabulary rows of tensor-parallel rank r. The limits need no blocks.
  shard_steps(kernels::device& device, model& m, rank_links& links, const shard_limits& limits,
              std::vector<std::int64_t> shard_rows, const step_options& options);

  // Forgets recorded steps: the links are about to be joined anew.
  void forget_recordings() { graphs_.forget(); }
  // Forgets every sequence. Call after the links were joined or reset, and when the cache moved.
  void restart();
  // `plan` went through `slots.apply`. At most copy_ring::pieces - 1 steps may wait for finish().
  launched_step launch(const step_plan& plan, const slot_table& slots, const kv_cache& cache);
  // In the order of launches. On the last of several stages every rank must, for it sends what was
  // drawn to the first one.
  step_result finish(const launched_step& step);

  std::uint64_t bytes() const;  // of activations, logits and index arrays

 private:
  void make_feed();
  void compute(const kv_cache& cache);
  void pass_hidden(const step_plan& plan);
  void receive_tokens(const step_plan& plan, const slot_table& slots);
  kernels::tensor hidden() const;
  void draw();
  void fetch(const step_plan& plan, launched_step& out);
  void return_tokens(const step_result& drawn);

  kernels::device* device_;
  model* model_;
  rank_links* links_;
  step_graphs graphs_;
  std::uint32_t slots_;
  std::int64_t rows_;    // logit rows at a time
  std::int64_t tokens_;  // at most in a step
  std::vector<std::int64_t> shard_rows_;
  kernels::buffer hidden_, logits_;
  step_inputs inputs_;
  bool fill_ = false;                    // the step takes ids from slots
  std::optional<step_outputs> outputs_;  // last stage
  std::optional<sampling_feed> feed_;    // first and last stage
  std::optional<token_return> returns_;  // first and last stage of several
  std::chrono::steady_clock::time_point finished_;
};

}  // namespace dinfer::runtime
