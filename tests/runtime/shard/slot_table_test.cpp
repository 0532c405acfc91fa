// SPDX-License-Identifier: Apache-2.0
// Plans that do not follow from those before, or that hold numbers out of range, are refused.
#include "runtime/shard/slot_table.hpp"
#include "tests/support/catch.hpp"

#include <functional>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

shard_limits small_limits() {
  return {.slots = 3,
          .batched_tokens = 8,
          .model_len = 20,
          .block_size = 4,
          .vocabulary = 10,
          .blocks = {6}};
}

// Slot 1 starts with three prompt tokens and draws.
step_plan first_plan() {
  step_plan p;
  p.step = 1;
  sequence_start start;
  start.slot = 1;
  start.prompt_tokens = 3;
  p.starts.push_back(start);
  p.blocks.push_back({1, 0, {2}});
  sequence_step step;
  step.slot = 1;
  step.query_count = 3;
  step.tokens = {4, 5, 6};
  step.logit_rows = 1;
  step.sample = true;
  p.sequences.push_back(step);
  return p;
}

// Slot 1 goes on with its own token.
step_plan second_plan() {
  step_plan p;
  p.step = 2;
  sequence_step step;
  step.slot = 1;
  step.first_position = 3;
  step.logit_rows = 1;
  step.sample = true;
  p.sequences.push_back(step);
  return p;
}

}  // namespace

TEST_CASE("a slot lives from start to release") {
  slot_table slots(small_limits());
  REQUIRE(slots.apply(first_plan()));
  CHECK(slots.at(1).next_position == 3);
  CHECK(slots.at(1).token_from == 0);
  REQUIRE(slots.apply(second_plan()));
  CHECK(slots.at(1).token_from == 1);
  CHECK(slots.at(1).drawn_in == 2);

  step_plan again = first_plan();
  again.step = 3;
  again.releases = {1};
  REQUIRE(slots.apply(again));
  CHECK(slots.at(1).tables[0] == std::vector<block_id>{2});
  CHECK(slots.at(1).token_from == 0);
}

TEST_CASE("a first plan with a wrong number is refused") {
  struct wrong {
    const char* what;
    std::function<void(step_plan&)> spoil;
    const char* words;
  };
  const wrong w = GENERATE(
      wrong{"release of a free slot", [](auto& p) { p.releases = {0}; }, "it is free"},
      wrong{"release out of range", [](auto& p) { p.releases = {3}; }, "there are 3 slots"},
      wrong{"start out of range", [](auto& p) { p.starts[0].slot = 3; }, "there are 3 slots"},
      wrong{"start twice", [](auto& p) { p.starts.push_back(p.starts[0]); }, "it is taken"},
      wrong{"stop token", [](auto& p) { p.starts[0].stop_tokens = {10}; }, "stop token 10"},
      wrong{"history token", [](auto& p) { p.starts[0].history = {-1}; }, "history token -1"},
      wrong{"bias",
            [](auto& p) {
              p.starts[0].sampling.logit_biases = {{99, 1}};
            },
            "biased token"},
      wrong{"history", [](auto& p) { p.starts[0].history.resize(21); }, "21 history tokens"},
      wrong{"adapter", [](auto& p) { p.starts[0].adapter = 1; }, "adapter 1"},
      wrong{"blocks of a free slot", [](auto& p) { p.blocks[0].slot = 0; }, "it is free"},
      wrong{"group", [](auto& p) { p.blocks[0].group = 1; }, "KV group 1"},
      wrong{"null block", [](auto& p) { p.blocks[0].blocks = {0}; }, "block 0"},
      wrong{"block out of range", [](auto& p) { p.blocks[0].blocks = {7}; }, "outside 1..6"},
      wrong{"table too long", [](auto& p) { p.blocks[0].blocks.assign(6, 1); }, "longest"},
      wrong{"no block", [](auto& p) { p.blocks.clear(); }, "do not hold 3 tokens"},
      wrong{"no query", [](auto& p) { p.sequences[0].query_count = 0; }, "0 tokens"},
      wrong{"position", [](auto& p) { p.sequences[0].first_position = 4'000'000'000; }, "at most"},
      wrong{"too many", [](auto& p) { p.sequences[0].query_count = 4'000'000'000; }, "one step"},
      wrong{"fewer tokens", [](auto& p) { p.sequences[0].tokens.pop_back(); }, "2 tokens for 3"},
      wrong{"no token was drawn",
            [](auto& p) {
              p.sequences[0].tokens.clear();
              p.sequences[0].query_count = 1;
            },
            "0 tokens for 1"},
      wrong{"token", [](auto& p) { p.sequences[0].tokens[1] = 10; }, "token 10 is outside 0..9"},
      wrong{"rows", [](auto& p) { p.sequences[0].logit_rows = 4; }, "4 logit rows"},
      wrong{"draw without row", [](auto& p) { p.sequences[0].logit_rows = 0; }, "0 logit rows"},
      wrong{"targets", [](auto& p) { p.sequences[0].targets = {1}; }, "1 targets"},
      wrong{"target",
            [](auto& p) {
              p.sequences[0].logit_rows = 2;
              p.sequences[0].targets = {12};
            },
            "target 12"},
      wrong{"twice", [](auto& p) { p.sequences.push_back(p.sequences[0]); }, "twice"});
  CAPTURE(w.what);
  slot_table slots(small_limits());
  step_plan p = first_plan();
  w.spoil(p);
  const auto taken = slots.apply(p);
  REQUIRE_FALSE(taken);
  CHECK_THAT(taken.error().message, Catch::Contains(w.words));
}

TEST_CASE("a sequence goes on where it stopped") {
  slot_table slots(small_limits());
  REQUIRE(slots.apply(first_plan()));
  step_plan p = second_plan();
  p.sequences[0].first_position = 2;
  const auto taken = slots.apply(p);
  REQUIRE_FALSE(taken);
  CHECK(taken.error().code == errc::mismatch);
  CHECK_THAT(taken.error().message, Catch::Contains("position 2 planned, but 3 is next"));
}
