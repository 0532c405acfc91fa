// SPDX-License-Identifier: Apache-2.0
// The fake runner refuses plans that break a rule: it is what the scheduler is judged by.
#include "runtime/fake_runner.hpp"

#include "tests/support/catch.hpp"

#include <functional>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

fake_options small() {
  fake_options o;
  o.max_num_seqs = 2;
  o.max_num_batched_tokens = 8;
  o.block_size = 2;
  o.groups = {{6, 0}};
  o.vocabulary = 50;
  return o;
}

step_plan first() {
  step_plan p{1, 1, {}, {}, {{0, 0, {1, 2}}}, {}};
  sequence_start s;
  s.prompt_tokens = 3;
  p.starts.push_back(s);
  p.sequences.push_back({0, 0, 3, {5, 6, 7}, 1, true, {}});
  return p;
}

step_plan second() { return {1, 2, {}, {}, {}, {{0, 3, 1, {}, 1, true, {}}}}; }

struct played {
  std::unique_ptr<runner> r;
  std::vector<result<step_result>> results;
  explicit played(const fake_options& o) : r(make_fake_runner(o)) {
    std::vector<std::uint32_t> blocks;
    for (const fake_group& g : o.groups) blocks.push_back(g.blocks);
    REQUIRE(r->start_cache(blocks, 1));
  }
  const result<step_result>& run(const step_plan& p) {
    r->execute(p, [this](result<step_result> x) { results.push_back(std::move(x)); });
    REQUIRE(!results.empty());
    return results.back();
  }
};

}  // namespace

TEST_CASE("tokens are those of the pure function, known or taken from the device") {
  played p(small());
  const auto a = p.run(first());
  REQUIRE(a);
  std::vector<token_id> tokens = {5, 6, 7};
  const token_id t = fake_next_token(tokens, fake_seed(0, 0), 50);
  CHECK(a->sequences.at(0).tokens.at(0).token == t);
  tokens.push_back(t);
  const auto b = p.run(second());
  REQUIRE(b);
  CHECK(b->sequences.at(0).tokens.at(0).token == fake_next_token(tokens, fake_seed(0, 0), 50));
}

TEST_CASE("plans that break a rule are refused once, and then everything is silent") {
  struct rule {
    const char* name;
    std::function<void(step_plan&)> second;
  };
  const std::vector<rule> rules = {
      {"a step is skipped", [](step_plan& p) { p.step = 3; }},
      {"another epoch", [](step_plan& p) { p.epoch = 2; }},
      {"a free slot is released", [](step_plan& p) { p.releases = {1}; }},
      {"a taken slot is started",
       [](step_plan& p) {
         p.starts.push_back({0, 1, {}, 1, 0, {}, {}});
       }},
      {"a step of a free slot", [](step_plan& p) { p.sequences[0].slot = 1; }},
      {"an unknown slot", [](step_plan& p) { p.sequences[0].slot = 9; }},
      {"a slot twice", [](step_plan& p) { p.sequences.push_back(p.sequences[0]); }},
      {"a gap between positions", [](step_plan& p) { p.sequences[0].first_position = 4; }},
      {"no block",
       [](step_plan& p) {
         p.sequences[0] = {0, 3, 2, {9, 9}, 0, false, {}};
       }},
      {"not the drawn token", [](step_plan& p) { p.sequences[0].tokens = {50}; }},
      {"an unknown block",
       [](step_plan& p) {
         p.blocks.push_back({0, 0, {7}});
       }},
      {"an unknown group",
       [](step_plan& p) {
         p.blocks.push_back({0, 1, {3}});
       }},
      {"rows without targets", [](step_plan& p) { p.sequences[0].logit_rows = 0; }},
      {"the null block is written",
       [](step_plan& p) {
         p.blocks.push_back({1, 0, {0}});
         p.starts.push_back({1, 1, {}, 1, 0, {}, {}});
         p.sequences.push_back({1, 0, 1, {3}, 1, true, {}});
       }},
      {"a block of another is written",
       [](step_plan& p) {
         p.blocks.push_back({1, 0, {1}});
         p.starts.push_back({1, 1, {}, 1, 0, {}, {}});
         p.sequences.push_back({1, 0, 1, {3}, 1, true, {}});
       }},
      {"a prefix that was never computed",
       [](step_plan& p) {
         p.blocks.push_back({1, 0, {4, 5}});
         p.starts.push_back({1, 1, {}, 3, 0, {}, {}});
         p.sequences.push_back({1, 2, 1, {3}, 1, true, {}});
       }},
      {"too many tokens",
       [](step_plan& p) { p.sequences[0] = {0, 3, 9, std::vector<token_id>(9, 1), 0, false, {}}; }},
  };
  for (const rule& r : rules) {
    CAPTURE(r.name);
    played p(small());
    auto plan = first();
    REQUIRE(p.run(plan));
    plan = second();
    r.second(plan);
    CHECK_FALSE(p.run(plan).has_value());
    p.r->execute(second(), [](const result<step_result>&) { FAIL("a broken runner spoke"); });
  }
}

TEST_CASE("a block that was handed to somebody else is seen by its reader") {
  played p(small());
  REQUIRE(p.run(first()));
  // Slot 1 takes block 1 as a cached prefix, which slot 0 computed: allowed.
  step_plan share = second();
  share.starts.push_back({1, 2, {}, 3, 0, {}, {}});
  share.blocks.push_back({1, 0, {1, 3}});
  share.sequences.push_back({1, 2, 1, {7}, 1, true, {}});
  const auto done = p.run(share);
  REQUIRE(done);
  CHECK(done->sequences.at(1).tokens.at(0).token ==
        p.results[0]->sequences.at(0).tokens.at(0).token);  // the same three tokens
}

TEST_CASE("only the last stage's first rank answers, errors come from every rank") {
  fake_options o = small();
  o.layout.stages = 2;
  auto r = make_fake_runner(o);
  const std::vector<std::uint32_t> blocks = {6};
  REQUIRE(r->start_cache(blocks, 1));
  int results = 0, errors = 0;
  const auto sink = [&](const result<step_result>& x) { ++(x ? results : errors); };
  r->execute(first(), sink);
  CHECK(results == 0);
  r->execute(first(), sink);
  CHECK(errors == 1);
}

TEST_CASE("time and failures are played as told") {
  fake_options o = small();
  std::chrono::microseconds slept{0};
  std::vector<std::pair<step_id, bool>> marks;
  o.step_time = std::chrono::microseconds(100);
  o.token_time = std::chrono::microseconds(10);
  o.sleep = [&](std::chrono::microseconds t) { slept += t; };
  o.on_step = [&](step_id s, bool begins) { marks.emplace_back(s, begins); };
  o.fail_step = [](const step_plan& p) {
    return p.step == 2 ? std::optional(error{errc::device_lost, "gone", ""}) : std::nullopt;
  };
  played p(o);
  const auto a = p.run(first());
  REQUIRE(a);
  CHECK(a->compute_us == 130);
  CHECK(slept.count() == 130);
  const auto b = p.run(second());
  REQUIRE_FALSE(b);
  CHECK(b.error().code == errc::device_lost);
  CHECK(marks ==
        std::vector<std::pair<step_id, bool>>{{1, true}, {1, false}, {2, true}, {2, false}});
}
