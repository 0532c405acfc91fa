// SPDX-License-Identifier: Apache-2.0
// Threads, queues and scripted plans.
#include "tests/support/rank_cluster.hpp"

#include "net/comm/transport.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/weights/source.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>

namespace dinfer::tests {
namespace {

template <class T>
T must(result<T> r) {
  if (!r) FAIL(r.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

}  // namespace

rank_cluster::rank_cluster(const runtime::runner_options& base, std::uint32_t tp,
                           const std::vector<std::uint32_t>& layers_per_stage)
    : rank_cluster() {
  const auto source = must(runtime::open_weights(base.model_path, base.format, base.seed));
  shape_ = must(runtime::read_model_shape(*source));
  const auto layouts = must(runtime::lay_out(shape_, tp, layers_per_stage));
  for (const runtime::rank_layout& layout : layouts) {
    runtime::runner_options options = base;
    options.layout = layout;
    if (base.device.starts_with("cuda:")) options.device = "cuda:" + std::to_string(layout.rank);
    net::cpu_transport_options wires;
    wires.name = "rank " + std::to_string(layout.rank);
    wires.timeout = base.collective_timeout;
    auto& r = *ranks_.emplace_back(std::make_unique<rank>());
    r.runner = must(runtime::make_model_runner(options, net::make_cpu_transport(wires)));
  }
  for (auto& r : ranks_) r->thread = std::thread([this, &own = *r] { serve(own); });
  everywhere([](runtime::runner& r) { return r.load({}); });
  for (auto& r : ranks_) {
    const auto size = must(r->runner->size_cache());
    if (cache_.blocks.empty() || size.blocks[0] < cache_.blocks[0]) cache_ = size;
    cards_.push_back(must(r->runner->card()));
  }
  connect();
}

rank_cluster::~rank_cluster() {
  {
    const std::lock_guard lock(mutex_);
    for (auto& r : ranks_) r->stop = true;
  }
  changed_.notify_all();
  for (auto& r : ranks_) r->runner->abort();
  for (auto& r : ranks_) {
    if (r->thread.joinable()) r->thread.join();
  }
}

void rank_cluster::serve(rank& r) {
  for (;;) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return r.stop || !r.work.empty(); });
      if (r.stop) return;
      work = std::move(r.work.front());
      r.work.pop_front();
    }
    work();
  }
}

void rank_cluster::post(rank& r, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    r.work.push_back(std::move(work));
  }
  changed_.notify_all();
}

void rank_cluster::everywhere(const std::function<result<void>(runtime::runner&)>& work) {
  std::vector<result<void>> outcomes(ranks_.size());
  std::size_t left = ranks_.size();
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    post(*ranks_[i], [&, i] {
      auto outcome = work(*ranks_[i]->runner);
      const std::lock_guard lock(mutex_);
      outcomes[i] = std::move(outcome);
      --left;
      changed_.notify_all();
    });
  }
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return left == 0; });
  }
  for (auto& outcome : outcomes) must(std::move(outcome));
}

void rank_cluster::connect() {
  ++epoch_;
  everywhere([&](runtime::runner& r) -> result<void> {
    DINFER_CHECK(r.connect(cards_, std::chrono::seconds(20)));
    return r.start_cache(cache_.blocks, epoch_);
  });
}

void rank_cluster::restart() {
  ++epoch_;
  everywhere([&](runtime::runner& r) { return r.start_cache(cache_.blocks, epoch_); });
}

void rank_cluster::reconnect() {
  cards_.clear();
  for (auto& r : ranks_) cards_.push_back(must(r->runner->card()));
  connect();
}

void rank_cluster::push_to(std::size_t index, runtime::step_plan plan) {
  post(*ranks_[index], [this, index, plan = std::move(plan)] {
    ranks_[index]->runner->execute(plan, [this](result<runtime::step_result> r) {
      {
        const std::lock_guard lock(mutex_);
        results_.push_back(std::move(r));
      }
      changed_.notify_all();
    });
  });
}

void rank_cluster::push(runtime::step_plan plan) {
  for (std::size_t i = 0; i < ranks_.size(); ++i) push_to(i, plan);
}

result<runtime::step_result> rank_cluster::pop() {
  std::unique_lock lock(mutex_);
  const bool came =
      changed_.wait_for(lock, std::chrono::minutes(1), [&] { return !results_.empty(); });
  if (!came) FAIL("no result within a minute");
  auto r = std::move(results_.front());
  results_.pop_front();
  return r;
}

namespace {

// Prompt and outputs that the host knows.
std::vector<token_id> known_tokens(const scripted_sequence& s) {
  std::vector<token_id> tokens = s.prompt;
  tokens.insert(tokens.end(), s.outputs.begin(), s.outputs.end());
  return tokens;
}

// The step of one sequence that has computed `done` tokens; nothing is left: no queries.
runtime::sequence_step next_step(const scripted_sequence& s, runtime::slot_id slot,
                                 std::uint32_t done, std::uint32_t chunk) {
  const std::vector<token_id> tokens = known_tokens(s);
  const auto known = static_cast<std::uint32_t>(tokens.size());
  runtime::sequence_step step;
  step.slot = slot;
  step.first_position = done;
  step.query_count = 0;
  if (done < known) {
    step.query_count = std::min(chunk == 0 ? known : chunk, known - done);
    const auto begin = tokens.begin() + done;
    step.tokens.assign(begin, begin + step.query_count);
    step.sample = done + step.query_count == known;
    step.logit_rows = step.sample ? 1 : 0;
    if (s.score_prompt) {
      step.logit_rows = step.query_count;
      const auto end = std::min(done + step.query_count + 1, known);
      step.targets.assign(begin + 1, tokens.begin() + end);
    }
  } else if (done + 1 < known + s.tokens) {
    step.query_count = step.logit_rows = 1;
    step.sample = true;
  }
  return step;
}

runtime::sequence_start start_of(const scripted_sequence& s, std::size_t slot) {
  runtime::sequence_start start;
  start.slot = static_cast<runtime::slot_id>(slot);
  start.request = slot + 1;
  start.sampling = s.sampling;
  start.prompt_tokens = static_cast<std::uint32_t>(s.prompt.size());
  start.stop_tokens = s.stop_tokens;
  if (s.sampling.penalised()) {
    start.history = known_tokens(s);
    start.history.resize(s.cached);
  }
  return start;
}

// Blocks of all sequences, dealt like cards so that no table is contiguous.
void deal_blocks(const std::vector<scripted_sequence>& sequences, std::uint32_t block_size,
                 runtime::step_plan& plan) {
  std::vector<std::uint32_t> left;
  for (const auto& s : sequences)
    left.push_back(
        (static_cast<std::uint32_t>(known_tokens(s).size()) + s.tokens + block_size - 1) /
        block_size);
  std::vector<runtime::block_append> tables(sequences.size());
  runtime::block_id next = 1;
  for (bool dealt = true; dealt;) {
    dealt = false;
    for (std::size_t i = sequences.size(); i-- > 0;) {
      tables[i].slot = static_cast<runtime::slot_id>(i);
      if (left[i] == 0) continue;
      tables[i].blocks.push_back(next++);
      --left[i];
      dealt = true;
    }
  }
  plan.blocks = tables;
}

}  // namespace

void run_script(rank_cluster& cluster, std::vector<scripted_sequence>& sequences,
                std::uint32_t chunk) {
  cluster.restart();
  std::vector<std::uint32_t> done;
  for (const auto& s : sequences) done.push_back(s.cached);
  runtime::step_id steps = 0;
  for (;;) {
    runtime::step_plan plan;
    plan.epoch = cluster.epoch();
    plan.step = steps + 1;
    if (steps == 0) {
      for (std::size_t i = 0; i < sequences.size(); ++i)
        plan.starts.push_back(start_of(sequences[i], i));
      deal_blocks(sequences, cluster.cache().block_size, plan);
    }
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      auto step = next_step(sequences[i], static_cast<runtime::slot_id>(i), done[i], chunk);
      if (step.query_count == 0) continue;
      done[i] += step.query_count;
      plan.sequences.push_back(std::move(step));
    }
    if (plan.sequences.empty()) break;
    cluster.push(std::move(plan));
    ++steps;
  }
  for (runtime::step_id i = 1; i <= steps; ++i) {
    auto r = must(cluster.pop());
    REQUIRE(r.step == i);
    for (auto& s : r.sequences) {
      auto& own = sequences[s.slot];
      std::ranges::move(s.tokens, std::back_inserter(own.drawn));
      std::ranges::move(s.prompt, std::back_inserter(own.scores));
    }
  }
}

}  // namespace dinfer::tests
