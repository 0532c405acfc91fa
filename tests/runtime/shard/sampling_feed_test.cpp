// SPDX-License-Identifier: Apache-2.0
// Every token of a penalised sequence is counted once, on the right side of prompt and output.
#include "runtime/shard/sampling_feed.hpp"
#include "tests/support/catch.hpp"

#include <string>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

// Writes down what it is told.
class recording_sampler final : public kernels::sampler {
 public:
  explicit recording_sampler(std::string& log) : log_(log) {}
  void start(std::uint32_t slot, const sampling_params& params,
             std::span<const token_id>) override {
    log_ += "start " + std::to_string(slot) + " min " + std::to_string(params.min_tokens) + "; ";
  }
  void observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) override {
    log_ += (output ? "output " : "prompt ") + std::to_string(slot) + ":";
    for (const token_id t : tokens) log_ += " " + std::to_string(t);
    log_ += "; ";
  }
  void set_last(std::uint32_t, token_id) override {}
  void commit() override {}
  bool simple(std::span<const kernels::sample_row>) const override { return false; }
  void sample(const kernels::sample_args&) override {}
  void fill_last(kernels::tensor, kernels::tensor) override {}

 private:
  std::string& log_;
};

sequence_start start_of(std::uint32_t slot, std::uint32_t prompt_tokens, bool penalised) {
  sequence_start s;
  s.slot = slot;
  s.prompt_tokens = prompt_tokens;
  if (penalised) s.sampling.presence_penalty = 1;
  return s;
}

sequence_step step_of(std::uint32_t slot, std::uint32_t first, std::vector<token_id> tokens,
                      bool sample) {
  sequence_step s;
  s.slot = slot;
  s.first_position = first;
  s.query_count = tokens.empty() ? 1 : static_cast<std::uint32_t>(tokens.size());
  s.tokens = std::move(tokens);
  s.sample = sample;
  s.logit_rows = sample ? 1 : 0;
  return s;
}

}  // namespace

TEST_CASE("a penalised sequence that came back has each token counted once") {
  std::string log;
  sampling_feed feed(std::make_unique<recording_sampler>(log), 4);
  step_plan p;
  p.starts = {start_of(2, 4, true)};
  p.starts[0].history = {10, 11};  // found in the prefix cache
  p.sequences = {step_of(2, 2, {12, 13, 14}, false)};
  feed.begin(p);
  CHECK(log == "start 2 min 0; prompt 2: 10 11; prompt 2: 12 13; output 2: 14; ");

  log.clear();
  step_plan last_chunk;
  last_chunk.sequences = {step_of(2, 5, {15, 16}, true)};
  feed.begin(last_chunk);
  CHECK(log == "output 2: 15 16; ");

  // The token drawn for position 7, on the device or sent back by the host, is not told again.
  log.clear();
  step_plan own;
  own.sequences = {step_of(2, 7, {}, true)};
  feed.begin(own);
  step_plan told;
  told.sequences = {step_of(2, 8, {18}, true)};
  feed.begin(told);
  CHECK(log.empty());
}

TEST_CASE("an unpenalised sequence is not told, and min_tokens knows of what was drawn before") {
  std::string log;
  sampling_feed feed(std::make_unique<recording_sampler>(log), 4);
  step_plan p;
  p.starts = {start_of(0, 2, false), start_of(1, 2, false)};
  p.starts[0].sampling.min_tokens = 5;
  p.starts[1].sampling.min_tokens = 5;
  p.sequences = {step_of(0, 0, {1, 2}, true), step_of(1, 0, {1, 2, 3, 4}, true)};
  feed.begin(p);
  CHECK(log == "start 0 min 5; start 1 min 5; start 1 min 3; ");

  log.clear();
  step_plan next;
  next.sequences = {step_of(0, 2, {}, true), step_of(1, 4, {}, true)};
  feed.begin(next);
  CHECK(log.empty());
}
