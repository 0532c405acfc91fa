// SPDX-License-Identifier: Apache-2.0
// Draws a configuration and a story from a seed, plays it, and compares.
#include "tests/runtime/schedule/trace.hpp"

#include "runtime/fake_runner.hpp"
#include "runtime/schedule/scheduler.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <stdexcept>

namespace dinfer::test {

using namespace dinfer::runtime;

namespace {

void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

// What a request must get, as if it were alone in the world.
struct expectation {
  std::vector<token_id> tokens;
  finish_reason finish = finish_reason::length;
};

struct client {
  generate_request request;
  std::vector<token_id> tokens;
  std::vector<sampled_token> prompt;
  finish_reason finish = finish_reason::none;
  usage used;
  bool cancelled = false;
};

class player {
 public:
  player(std::uint64_t seed, std::uint32_t scale) : random_(seed), scale_(scale), seed_(seed) {}
  trace_figures play();

 private:
  std::uint32_t pick(std::uint32_t least, std::uint32_t most) {
    return std::uniform_int_distribution<std::uint32_t>(least, most)(random_);
  }
  bool chance(std::uint32_t percent) { return pick(1, 100) <= percent; }

  void configure();
  generate_request invent();
  void add_one();
  void cancel_one();
  bool plan_one();
  bool apply_one();
  void restart();
  void take(const std::vector<token_event>& events);
  std::uint64_t capacity() const;
  expectation expect(const generate_request& r) const;
  void compare(const client& c) const;

  std::mt19937_64 random_;
  std::uint32_t scale_;
  std::uint64_t seed_;
  scheduler_config config_;
  std::int32_t vocabulary_ = 64;
  std::unique_ptr<scheduler> scheduler_;
  std::unique_ptr<runner> runner_;
  std::deque<step_result> results_;
  std::vector<std::vector<token_id>> prefixes_;
  std::map<request_id, client> clients_;
  request_id next_id_ = 1;
  trace_figures figures_;
};

void player::configure() {
  config_.max_num_seqs = pick(1, 8);
  config_.max_num_batched_tokens = pick(1, 40);
  config_.max_num_mixed_tokens = pick(1, 40);
  config_.max_model_len = chance(50) ? 0 : pick(20, 60);
  config_.block_size = pick(1, 6);
  config_.stages = pick(1, 4);
  config_.max_in_flight = chance(80) ? config_.stages + 1 : 1;
  config_.prefix_caching = chance(80);
  config_.max_queued_requests = chance(80) ? 100 : 3;
  config_.groups = {{pick(3, 40), chance(20) ? pick(1, 12) : 0}};
  if (chance(40)) config_.groups.push_back({pick(3, 40), chance(70) ? pick(1, 12) : 0});
  config_.eos_tokens = {1};

  fake_options fake;
  fake.max_num_seqs = config_.max_num_seqs;
  fake.max_num_batched_tokens = config_.max_num_batched_tokens;
  fake.max_model_len = config_.max_model_len;
  fake.block_size = config_.block_size;
  fake.vocabulary = vocabulary_;
  fake.seed = 7;
  fake.groups.clear();
  for (const kv_group_config& g : config_.groups) fake.groups.push_back({g.blocks, g.window});
  scheduler_ = std::make_unique<scheduler>(config_);
  runner_ = make_fake_runner(fake);
  restart();
  for (int i = 0; i < 3; ++i) {
    std::vector<token_id> prefix(pick(1, 30));
    for (token_id& t : prefix) t = static_cast<token_id>(pick(0, 63));
    prefixes_.push_back(prefix);
  }
}

std::uint64_t player::capacity() const {
  std::uint64_t least = 1U << 30;
  for (const kv_group_config& g : config_.groups) {
    const std::uint32_t reach = (g.window + config_.block_size - 1) / config_.block_size + 1;
    if (g.window == 0 || g.blocks < reach)
      least = std::min<std::uint64_t>(least, std::uint64_t{g.blocks} * config_.block_size);
  }
  return least;
}

generate_request player::invent() {
  generate_request r;
  r.id = next_id_++;
  r.prompt = prefixes_[pick(0, 2)];
  r.prompt.resize(pick(1, static_cast<std::uint32_t>(r.prompt.size())));
  for (std::uint32_t n = pick(0, 8); n > 0; --n)
    r.prompt.push_back(static_cast<token_id>(pick(0, 63)));
  r.priority = static_cast<std::int32_t>(pick(0, 2));
  if (chance(20)) r.cache_salt = "other";
  if (chance(10)) r.adapter = 1;
  sampling_params& s = r.sampling;
  s.seed = pick(0, 3);
  s.max_tokens = chance(3) ? 0 : pick(1, 30);
  s.min_tokens = chance(30) ? pick(0, 12) : 0;
  s.ignore_eos = chance(30);
  if (chance(30)) s.stop_token_ids = {2, 3, 5, 8};
  if (chance(20)) s.repetition_penalty = 1.5F;
  if (chance(20)) s.prompt_logprobs = 2;
  return r;
}

void player::add_one() {
  generate_request r = invent();
  const std::uint64_t prompt = r.prompt.size();
  const bool never =
      prompt > capacity() || (config_.max_model_len > 0 && prompt + 1 > config_.max_model_len);
  const auto done = scheduler_->add(r);
  if (never) require(!done && done.error().code == errc::invalid_argument, "should be refused");
  if (!done) {
    require(never || done.error().code == errc::queue_full, "refused: " + done.error().message);
    ++figures_.refused;
    return;
  }
  clients_[r.id].request = r;
  take(scheduler_->take_events());
}

void player::cancel_one() {
  const request_id id = pick(1, static_cast<std::uint32_t>(next_id_));
  if (const auto it = clients_.find(id); it != clients_.end())
    it->second.cancelled |= it->second.finish == finish_reason::none;
  scheduler_->cancel(id, chance(50) ? finish_reason::abort : finish_reason::stop);
  take(scheduler_->take_events());
}

bool player::plan_one() {
  const auto plan = scheduler_->plan();
  scheduler_->check_integrity();
  if (!plan) return false;
  runner_->execute(*plan, [this](result<step_result> r) {
    if (!r) throw std::runtime_error(r.error().message);
    results_.push_back(std::move(*r));
  });
  return true;
}

bool player::apply_one() {
  if (results_.empty()) return false;
  const auto events = scheduler_->apply(results_.front());
  results_.pop_front();
  require(events.has_value(), events ? "" : events.error().message);
  scheduler_->check_integrity();
  take(*events);
  return true;
}

void player::restart() {
  std::vector<std::uint32_t> blocks;
  for (const kv_group_config& g : config_.groups) blocks.push_back(g.blocks);
  results_.clear();
  const epoch_id epoch = scheduler_->config().epoch + 1;
  scheduler_->interrupt("interrupted");
  scheduler_->check_integrity();
  if (chance(20)) cancel_one();
  scheduler_->restart(epoch, blocks);
  take(scheduler_->take_events());
  require(runner_->start_cache(blocks, epoch).has_value(), "start_cache");
  scheduler_->check_integrity();
}

void player::take(const std::vector<token_event>& events) {
  for (const token_event& e : events) {
    const auto it = clients_.find(e.id);
    require(it != clients_.end(), "an event of nobody");
    client& c = it->second;
    require(c.finish == finish_reason::none, fmt::format("request {} goes on after its end", e.id));
    for (const sampled_token& t : e.tokens) c.tokens.push_back(t.token);
    c.prompt.insert(c.prompt.end(), e.prompt_logprobs.begin(), e.prompt_logprobs.end());
    c.finish = e.finish;
    c.used = e.used;
    require(e.used.completion_tokens == c.tokens.size(), "usage counts other tokens");
    if (e.stop_token) require(*e.stop_token == c.tokens.back(), "the stop token is not the last");
  }
}

expectation player::expect(const generate_request& r) const {
  std::uint64_t limit = r.prompt.size() + r.sampling.max_tokens;
  if (config_.max_model_len > 0) limit = std::min<std::uint64_t>(limit, config_.max_model_len);
  limit = std::min(limit, capacity() + 1);
  std::vector<token_id> stops = r.sampling.stop_token_ids;
  if (!r.sampling.ignore_eos) stops.push_back(1);
  expectation out;
  std::vector<token_id> all = r.prompt;
  while (all.size() < limit) {
    const bool early = out.tokens.size() < r.sampling.min_tokens;
    const auto forbidden = early ? stops : std::vector<token_id>();
    all.push_back(fake_next_token(all, fake_seed(7, r.sampling.seed), vocabulary_, forbidden));
    out.tokens.push_back(all.back());
    if (std::ranges::find(stops, all.back()) != stops.end()) {
      out.finish = finish_reason::stop;
      break;
    }
  }
  return out;
}

void player::compare(const client& c) const {
  const expectation e = expect(c.request);
  const auto name = fmt::format("request {}: ", c.request.id);
  require(c.finish != finish_reason::none, name + "never ended");
  require(c.used.prompt_tokens == c.request.prompt.size(), name + "prompt tokens");
  require(c.used.cached_tokens < c.request.prompt.size(), name + "the whole prompt was cached");
  require(c.tokens.size() <= e.tokens.size(), name + "too many tokens");
  require(std::equal(c.tokens.begin(), c.tokens.end(), e.tokens.begin()), name + "other tokens");
  const std::size_t rows = c.request.sampling.prompt_logprobs < 0 ? 0 : c.request.prompt.size() - 1;
  require(c.prompt.size() <= rows, name + "too many prompt rows");
  for (std::size_t i = 0; i < c.prompt.size(); ++i) {
    const auto before = std::span(c.request.prompt).first(i + 1);
    require(c.prompt[i].token == c.request.prompt[i + 1], name + "another prompt token");
    require(c.prompt[i].logprob == fake_logprob(before, c.prompt[i].token), name + "logprob");
  }
  if (c.finish == finish_reason::error) require(figures_.restarts > 1, name + "failed");
  if (c.cancelled || c.finish == finish_reason::error) return;
  require(c.tokens.size() == e.tokens.size(), name + "too few tokens");
  require(c.finish == e.finish, name + "another reason to end");
  require(c.prompt.size() == rows, name + "too few prompt rows");
}

trace_figures player::play() {
  configure();
  std::uint32_t to_add = pick(1, 14) * scale_;
  const std::uint32_t cancels = chance(30) ? 5 : 0;
  const std::uint32_t restarts = chance(15) ? 2 : 0;
  const std::uint32_t eagerness = pick(20, 95);  // to apply what has come
  while (to_add > 0 || !results_.empty()) {
    if (to_add > 0 && chance(25)) {
      add_one();
      --to_add;
    }
    if (chance(cancels)) cancel_one();
    if (chance(restarts)) {
      ++figures_.restarts;
      restart();
    }
    plan_one();
    if (chance(eagerness)) apply_one();
  }
  for (int idle = 0; idle < 2;) idle = plan_one() | apply_one() ? 0 : idle + 1;

  const scheduler_stats s = scheduler_->stats();
  require(s.running == 0 && s.waiting == 0 && s.in_flight == 0,
          fmt::format("{} running and {} waiting sequences are stuck", s.running, s.waiting));
  require(s.blocks_used == 0, "blocks are lost");
  for (const auto& [id, c] : clients_) {
    compare(c);
    figures_.stopped += c.finish == finish_reason::stop;
    figures_.cut += c.finish == finish_reason::length;
    figures_.cancelled += c.cancelled;
    figures_.tokens += c.tokens.size();
  }
  require(s.generation_tokens == figures_.tokens, "generation_tokens");
  figures_.steps = s.steps;
  figures_.preemptions = s.preemptions;
  figures_.prefix_hits = s.prefix_hits;
  return figures_;
}

}  // namespace

trace_figures run_trace(std::uint64_t seed, std::uint32_t scale) {
  try {
    return player(seed, scale).play();
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(fmt::format("trace of seed {}: {}", seed, e.what()));
  }
}

}  // namespace dinfer::test
