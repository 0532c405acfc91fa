// SPDX-License-Identifier: Apache-2.0
// The scheduler's rules, one by one, with plans read by eye.
#include "runtime/schedule/scheduler.hpp"

#include "tests/support/catch.hpp"

#include <algorithm>
#include <set>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

scheduler_config small() {
  scheduler_config c;
  c.max_num_seqs = 4;
  c.max_num_batched_tokens = 16;
  c.max_model_len = 64;
  c.block_size = 4;
  c.groups = {{20, 0}};
  c.eos_tokens = {99};
  return c;
}

generate_request ask(request_id id, std::uint32_t prompt, std::uint32_t max_tokens = 8) {
  generate_request r;
  r.id = id;
  for (std::uint32_t i = 0; i < prompt; ++i)
    r.prompt.push_back(static_cast<token_id>(id * 1000 + i));
  r.sampling.max_tokens = max_tokens;
  return r;
}

// What shards would answer: `token` for every draw, targets as they are.
step_result answer(const step_plan& p, token_id token = 7) {
  step_result r{p.epoch, p.step, {}, 0};
  for (const sequence_step& s : p.sequences) {
    sequence_result out;
    out.slot = s.slot;
    if (s.sample) out.tokens.push_back({token, 0, {}});
    for (const token_id t : s.targets) out.prompt.push_back({t, 0, {}});
    if (s.sample || !s.targets.empty()) r.sequences.push_back(out);
  }
  return r;
}

std::vector<token_event> step(scheduler& s, token_id token = 7) {
  const auto p = s.plan();
  REQUIRE(p);
  auto events = s.apply(answer(*p, token));
  s.check_integrity();
  REQUIRE(events);
  return *events;
}

std::vector<token_event> drain(scheduler& s) {
  std::vector<token_event> all;
  while (const auto p = s.plan()) {
    auto events = s.apply(answer(*p));
    REQUIRE(events);
    all.insert(all.end(), events->begin(), events->end());
    s.check_integrity();
  }
  return all;
}

}  // namespace

TEST_CASE("requests that can never run are refused, and nothing is changed") {
  scheduler s(small());
  CHECK(s.add(ask(1, 0)).error().subject == "prompt");
  CHECK(s.add(ask(1, 64)).error().code == errc::invalid_argument);
  REQUIRE(s.add(ask(1, 63)));
  CHECK(s.add(ask(1, 3)).error().subject == "id");
  scheduler_config tiny = small();
  tiny.groups = {{3, 0}};
  scheduler t(tiny);
  CHECK(t.add(ask(1, 13)).error().message.find("KV cache holds 12") != std::string::npos);
  CHECK(t.add(ask(1, 12)));
  CHECK(t.stats().waiting == 1);
}

TEST_CASE("the queue is bounded in requests and in tokens") {
  scheduler_config c = small();
  c.max_queued_requests = 2;
  c.max_queued_tokens = 50;
  scheduler s(c);
  REQUIRE(s.add(ask(1, 40)));
  CHECK(s.add(ask(2, 11)).error().code == errc::queue_full);
  REQUIRE(s.add(ask(2, 10)));
  CHECK(s.add(ask(3, 1)).error().code == errc::queue_full);
  REQUIRE(s.plan());  // the first leaves the queue
  CHECK(s.add(ask(3, 1)));
}

TEST_CASE("a long prompt is cut by the token budget and decodes go first") {
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3, 20)));
  step(s);
  REQUIRE(s.add(ask(2, 40)));
  const auto p = s.plan();
  REQUIRE(p);
  REQUIRE(p->sequences.size() == 2);
  CHECK(p->sequences[0].query_count == 1);
  CHECK(p->sequences[0].tokens == std::vector<token_id>{7});
  CHECK(p->sequences[1].query_count == 15);
  CHECK(p->sequences[1].logit_rows == 0);
  CHECK_FALSE(p->sequences[1].sample);
  CHECK(p->token_count() == 16);
  const auto q = s.plan();  // one step ahead: the token of the first is not known yet
  REQUIRE(q);
  CHECK(q->sequences[0].tokens.empty());
  CHECK(q->sequences[1].first_position == 15);
  CHECK_FALSE(s.plan());  // two in flight
}

TEST_CASE("prompts beside sequences that decode have a budget of their own") {
  scheduler_config c = small();
  c.max_num_mixed_tokens = 6;
  scheduler s(c);
  REQUIRE(s.add(ask(1, 10)));
  auto p = s.plan();
  REQUIRE(p);
  CHECK(p->token_count() == 10);
  REQUIRE(s.apply(answer(*p)));
  REQUIRE(s.add(ask(2, 18)));
  for (const std::uint32_t chunk : {5U, 5U, 5U, 3U}) {
    p = s.plan();
    REQUIRE(p);
    CHECK(p->token_count() == 1 + chunk);
    REQUIRE(s.apply(answer(*p)));
  }
  s.cancel(1, finish_reason::abort);
  s.cancel(2, finish_reason::abort);
  REQUIRE(s.add(ask(3, 18)));
  p = s.plan();
  REQUIRE(p);
  CHECK(p->token_count() == 16);
}

TEST_CASE("admission goes by priority, then arrival, and as far as slots reach") {
  scheduler_config c = small();
  c.max_num_seqs = 2;
  scheduler s(c);
  auto late = ask(3, 2, 1);
  late.priority = -1;
  REQUIRE(s.add(ask(1, 2, 1)));
  REQUIRE(s.add(ask(2, 2, 1)));
  REQUIRE(s.add(late));
  const auto p = s.plan();
  REQUIRE(p);
  REQUIRE(p->starts.size() == 2);
  CHECK(p->starts[0].request == 3);
  CHECK(p->starts[1].request == 1);
  CHECK(p->starts[0].slot == 0);
}

TEST_CASE("nothing is planned beyond max_tokens") {
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3, 2)));
  const auto a = s.plan();
  const auto b = s.plan();
  REQUIRE(a);
  REQUIRE(b);
  CHECK(s.apply(answer(*a))->at(0).finish == finish_reason::none);
  CHECK_FALSE(s.plan());
  const auto events = s.apply(answer(*b));
  REQUIRE(events->size() == 1);
  CHECK(events->at(0).finish == finish_reason::length);
  CHECK(events->at(0).used.completion_tokens == 2);
  const auto last = s.plan();
  REQUIRE(last);
  CHECK(last->releases == std::vector<slot_id>{0});
  CHECK(last->sequences.empty());
  REQUIRE(s.apply(answer(*last)));
  CHECK_FALSE(s.plan());
  CHECK(s.stats().finished_length == 1);
}

TEST_CASE("max_model_len ends a sequence") {
  scheduler_config c = small();
  c.max_model_len = 6;
  scheduler s(c);
  REQUIRE(s.add(ask(1, 4, 100)));
  const auto events = drain(s);
  CHECK(events.size() == 2);
  CHECK(events.back().finish == finish_reason::length);
}

TEST_CASE("a token drawn after the stop token is dropped") {
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3)));
  const auto a = s.plan();
  const auto b = s.plan();
  const auto events = s.apply(answer(*a, 99));
  REQUIRE(events->size() == 1);
  CHECK(events->at(0).finish == finish_reason::stop);
  CHECK(events->at(0).stop_token == 99);
  CHECK(s.apply(answer(*b, 5))->empty());
  drain(s);
  CHECK(s.stats().generation_tokens == 1);
  CHECK(s.stats().blocks_used == 0);
}

TEST_CASE("eos, stop_token_ids, ignore_eos and min_tokens") {
  struct row {
    bool ignore_eos;
    std::vector<token_id> stops;
    std::uint32_t min_tokens;
    token_id token;
    std::size_t expected;  // tokens until the end, of at most 4
  };
  const std::vector<row> rows = {
      {false, {}, 0, 99, 1}, {true, {}, 0, 99, 4},  {false, {5}, 0, 5, 1}, {false, {5}, 0, 6, 4},
      {true, {5}, 0, 5, 1},  {false, {}, 2, 99, 3}, {false, {5}, 3, 5, 4}, {true, {99}, 0, 99, 1},
  };
  for (const row& r : rows) {
    scheduler s(small());
    auto request = ask(1, 2, 4);
    request.sampling.ignore_eos = r.ignore_eos;
    request.sampling.stop_token_ids = r.stops;
    request.sampling.min_tokens = r.min_tokens;
    REQUIRE(s.add(request));
    std::size_t tokens = 0;
    finish_reason end = finish_reason::none;
    while (end == finish_reason::none)
      for (const token_event& e : step(s, r.token)) {
        tokens += e.tokens.size();
        end = e.finish;
      }
    CAPTURE(r.token, r.min_tokens, r.ignore_eos);
    CHECK(tokens == r.expected);
  }
}

TEST_CASE("a prefix is found, but never the whole prompt") {
  scheduler s(small());
  auto first = ask(1, 8, 1);
  REQUIRE(s.add(first));
  drain(s);
  first.id = 2;
  REQUIRE(s.add(first));
  const auto p = s.plan();
  REQUIRE(p);
  CHECK(p->sequences[0].first_position == 4);
  CHECK(p->sequences[0].query_count == 4);
  REQUIRE(p->blocks.size() == 1);
  CHECK(p->blocks[0].blocks.size() == 2);
  const auto events = s.apply(answer(*p));
  CHECK(events->at(0).used.cached_tokens == 4);
  CHECK(s.stats().prefix_hits == 4);
  CHECK(s.stats().prefix_queries == 16);
}

TEST_CASE("a prefix is not found in the plan that computes it") {
  scheduler s(small());
  auto twin = ask(1, 6, 2);
  REQUIRE(s.add(twin));
  twin.id = 2;
  REQUIRE(s.add(twin));
  const auto p = s.plan();
  REQUIRE(p->sequences.size() == 2);
  CHECK(p->sequences[1].first_position == 0);
}

TEST_CASE("penalised sequences bring the history that they do not compute") {
  scheduler s(small());
  auto r = ask(1, 9, 1);
  REQUIRE(s.add(r));
  drain(s);
  r.id = 2;
  r.sampling.frequency_penalty = 1;
  REQUIRE(s.add(r));
  const auto p = s.plan();
  CHECK(p->starts[0].history == std::vector<token_id>(r.prompt.begin(), r.prompt.begin() + 8));
}

TEST_CASE("prompt_logprobs ask for every prompt token but the first, across chunks") {
  scheduler s(small());
  auto r = ask(1, 20, 1);
  r.sampling.prompt_logprobs = 0;
  REQUIRE(s.add(r));
  const auto a = s.plan();
  CHECK(a->sequences[0].logit_rows == 16);
  CHECK(a->sequences[0].targets ==
        std::vector<token_id>(r.prompt.begin() + 1, r.prompt.begin() + 17));
  const auto b = s.plan();
  CHECK(b->sequences[0].logit_rows == 4);
  CHECK(b->sequences[0].targets == std::vector<token_id>(r.prompt.begin() + 17, r.prompt.end()));
  CHECK(b->sequences[0].sample);
  CHECK(s.apply(answer(*a))->at(0).prompt_logprobs.size() == 16);
  CHECK(s.apply(answer(*b))->at(0).prompt_logprobs.size() == 3);
  drain(s);
  CHECK(s.stats().prefix_queries == 0);
}

TEST_CASE("when blocks run out, the lowest and youngest gives way and comes back") {
  scheduler_config c = small();
  c.groups = {{6, 0}};
  c.max_model_len = 0;
  c.prefix_caching = false;
  scheduler s(c);
  REQUIRE(s.add(ask(1, 7, 14)));
  REQUIRE(s.add(ask(2, 7, 14)));
  const auto events = drain(s);
  CHECK(s.stats().preemptions >= 1);
  std::vector<request_id> ends;
  std::size_t tokens = 0;
  for (const token_event& e : events) {
    tokens += e.tokens.size();
    if (e.finish != finish_reason::none) ends.push_back(e.id);
  }
  CHECK(ends == std::vector<request_id>{1, 2});
  CHECK(tokens == 28);
}

TEST_CASE("cancel ends a request wherever it is") {
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3)));
  const auto p = s.plan();
  REQUIRE(s.add(ask(2, 3)));
  s.cancel(1, finish_reason::stop);
  s.cancel(2, finish_reason::abort);
  s.cancel(77, finish_reason::abort);
  const auto events = s.take_events();
  REQUIRE(events.size() == 2);
  CHECK(events[0].finish == finish_reason::stop);
  CHECK(events[1].finish == finish_reason::abort);
  CHECK(s.take_events().empty());
  CHECK(s.apply(answer(*p))->empty());
  CHECK(s.plan()->releases == std::vector<slot_id>{0});
  CHECK(s.stats().finished_stop == 1);
  CHECK(s.stats().finished_abort == 1);
  s.check_integrity();
}

TEST_CASE("results out of order, of another epoch or of another shape are refused") {
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3)));
  const auto a = s.plan();
  const auto b = s.plan();
  CHECK(s.apply(answer(*b)).error().code == errc::mismatch);
  step_result r = answer(*a);
  r.epoch = 9;
  CHECK(s.apply(r).error().code == errc::mismatch);
  r = answer(*a);
  r.sequences[0].slot = 2;
  CHECK(s.apply(r).error().code == errc::mismatch);
  r.sequences[0].slot = 4'000'000;
  CHECK(s.apply(r).error().code == errc::mismatch);
  r = answer(*a);
  r.sequences[0].tokens.push_back({1, 0, {}});
  CHECK(s.apply(r).error().code == errc::mismatch);
  r = answer(*a);
  r.sequences.push_back(r.sequences[0]);
  CHECK(s.apply(r).error().code == errc::mismatch);
  CHECK(s.apply(answer(*a)).has_value());
}

TEST_CASE("a restart puts running sequences back with their tokens") {
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3)));
  step(s);
  const auto lost = s.plan();
  s.interrupt("a node is lost");
  s.check_integrity();
  CHECK(s.take_events().empty());
  s.restart(5, std::vector<std::uint32_t>(1, s.config().groups[0].blocks));
  s.check_integrity();
  CHECK(s.apply(answer(*lost)).error().code == errc::mismatch);
  const auto p = s.plan();
  REQUIRE(p);
  CHECK(p->epoch == 5);
  CHECK(p->step == 1);
  CHECK(p->sequences[0].tokens.size() == 4);
  CHECK(p->starts[0].prompt_tokens == 3);
}

TEST_CASE("a request that is in flight at two faults in a row ends, others go on") {
  const std::vector<std::uint32_t> blocks{small().groups[0].blocks};
  const auto fault = [&](scheduler& s, epoch_id epoch) {
    s.interrupt("the device broke");
    s.check_integrity();
    s.restart(epoch, blocks);
    return s.take_events();
  };
  scheduler s(small());
  REQUIRE(s.add(ask(1, 3)));
  step(s);
  REQUIRE(s.plan());
  CHECK(fault(s, 2).empty());
  step(s);  // it drew a token: no longer suspect
  REQUIRE(s.plan());
  CHECK(fault(s, 3).empty());
  REQUIRE(s.plan());
  REQUIRE(s.add(ask(2, 3)));
  const auto ends = fault(s, 4);
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].id == 1);
  CHECK(ends[0].finish == finish_reason::error);
  CHECK(ends[0].message == "the device broke");
  CHECK(ends[0].used.completion_tokens == 2);
  CHECK(s.stats().waiting == 1);
  CHECK(s.plan()->starts[0].request == 2);
}

TEST_CASE("a cache that comes back smaller ends what has no more room in it") {
  scheduler_config c = small();
  c.groups = {{8, 0}};
  scheduler s(c);
  REQUIRE(s.add(ask(1, c.block_size * 3, 20)));
  REQUIRE(s.add(ask(2, 2, 20)));
  step(s);
  s.interrupt("a node is lost");
  s.restart(2, std::vector<std::uint32_t>{2});
  s.check_integrity();
  const auto ends = s.take_events();
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].id == 1);
  CHECK(ends[0].finish == finish_reason::length);
  CHECK(s.plan()->starts[0].request == 2);
}

TEST_CASE("stages share out the running sequences, and a lone one is planned ahead") {
  for (std::uint32_t stages = 2; stages <= 4; ++stages) {
    scheduler_config c = small();
    c.max_num_seqs = 8;
    c.stages = stages;
    c.max_in_flight = stages + 1;
    c.groups = {{100, 0}};
    scheduler s(c);
    for (request_id id = 1; id <= 8; ++id) REQUIRE(s.add(ask(id, 1, 30)));
    step(s);
    std::vector<std::set<slot_id>> plans;
    while (const auto p = s.plan()) {
      plans.emplace_back();
      for (const auto& q : p->sequences) plans.back().insert(q.slot);
    }
    REQUIRE(plans.size() == stages + 1);
    std::set<slot_id> all;
    for (std::uint32_t i = 0; i < stages; ++i) {
      CHECK(plans[i].size() >= 8 / stages);
      CHECK(plans[i].size() <= (8 + stages - 1) / stages);
      all.insert(plans[i].begin(), plans[i].end());
    }
    CHECK(all.size() == 8);
    CHECK(plans[stages] == plans[0]);

    scheduler lone(c);
    REQUIRE(lone.add(ask(1, 1, 30)));
    CHECK(lone.plan());
    CHECK(lone.plan());
    CHECK_FALSE(lone.plan());  // two of its tokens are unknown
  }
}
