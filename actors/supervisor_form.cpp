// SPDX-License-Identifier: Apache-2.0
// The supervisor's way up: from nodes that are there to an engine that serves. Each function asks
// all ranks one thing and hands on to the next when all have answered.
#include "actors/node_process.hpp"
#include "actors/scheduler.hpp"
#include "actors/supervisor.hpp"
#include "actors/wire.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/parallel/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace dinfer::actors {

namespace {

// Something to paste into a shell.
std::string curl_line(const gateway_section& gateway) {
  return fmt::format(
      "curl http://{}:{}/v1/chat/completions -H 'Content-Type: application/json' "
      R"(-d '{{"messages": [{{"role": "user", "content": "Hello!"}}]}}')",
      gateway.address, gateway.port);
}

constexpr milliseconds look_interval{1000};    // at who is missing
constexpr milliseconds spawn_timeout{10'000};  // a node spawns a shard or a stage
constexpr milliseconds least_timeout{1000};
constexpr std::uint64_t percent_step = 10;

}  // namespace

template <class Answer, class Ask, class Take, class Next>
void supervisor::gather(const std::vector<std::size_t>& who, Ask ask_one, Take take, Next next) {
  if (who.empty()) return next();
  auto left = std::make_shared<std::size_t>(who.size());
  for (const auto rank : who) {
    ask_one(rank).then(
        [this, left, take, next, rank, attempt = attempt_](const Answer& answer) {
          if (attempt != attempt_) return;
          take(rank, answer);
          if (--*left == 0) next();
        },
        [this, rank, attempt = attempt_](const caf::error& why) {
          if (attempt != attempt_) return;
          auto e = from_caf(why);
          const auto node = plan_->ranks[rank].node;
          e.message +=
              fmt::format(" ({}, node {}{})", notice_.stage, setup_.config->nodes[node].name,
                          at_address(*setup_.config, node));
          fail(fault_of(rank, std::move(e)));
        });
  }
}

std::vector<std::size_t> supervisor::all_ranks() const {
  std::vector<std::size_t> out(ranks_.size());
  std::iota(out.begin(), out.end(), std::size_t{0});
  return out;
}

milliseconds supervisor::startup_left() const {
  const auto spent = std::chrono::duration_cast<milliseconds>(now(self_) - waiting_since_);
  return std::max(least_timeout, milliseconds(setup_.config->health.startup_timeout_ms) - spent);
}

void supervisor::form() {
  if (phase_ != phase::waiting || resting_) return;
  if (missing_nodes().empty()) {
    phase_ = phase::forming;
    return plan();
  }
  if (startup_left() <= least_timeout)
    return give_up(runtime::exit_cluster,
                   fmt::format("not all nodes joined within {} ms: {}",
                               setup_.config->health.startup_timeout_ms, missing_said_));
  report_missing();
  later(self_, look_interval, me<supervisor_actor>(self_), form_tick{attempt_});
}

void supervisor::plan() {
  phases_.clear();
  end_phase("nodes", waiting_since_);
  announce(net::engine_state::loading, "planning", {});
  if (!plan_) {
    std::vector<runtime::host_facts> hosts;
    for (const auto& node : members_) hosts.push_back(node.host);
    auto made = setup_.make_plan(*setup_.config, hosts);
    if (!made) return fail({made.error()});
    plan_ = std::move(*made);
    ranks_.resize(plan_->ranks.size());
    say(setup_.on_plan, plan_->text);
  }
  spawn_shards();
}

void supervisor::spawn_shards() {
  std::vector<std::size_t> who;
  for (const auto rank : all_ranks())
    if (!ranks_[rank].shard) who.push_back(rank);
  gather<shard_actor>(
      who,
      [this](std::size_t rank) {
        return ask(self_, members_[plan_->ranks[rank].node].worker, spawn_timeout,
                   order_of(*plan_, rank), fault_sink_actor{me<supervisor_actor>(self_)});
      },
      [this](std::size_t rank, const shard_actor& shard) {
        ranks_[rank] = {shard};
        watch_.on_down(shard, [this, rank](const caf::error& why) {
          ranks_[rank] = {};
          hold(fault_of(rank, {errc::device_lost, "the shard is gone: " + text_of(why), {}}));
        });
      },
      [this] { load(); });
}

void supervisor::load() {
  announce(net::engine_state::loading, setup_.on_check ? "opening devices" : "loading weights", {});
  percent_said_ = 0;
  std::vector<std::size_t> who;
  for (const auto rank : all_ranks())
    if (!ranks_[rank].loaded) who.push_back(rank);
  gather<shard_loaded>(
      who,
      [this](std::size_t rank) {
        return ask(self_, ranks_[rank].shard, startup_left(), load_shard{});
      },
      [this](std::size_t rank, const shard_loaded& done) {
        ranks_[rank].loaded = ranks_[rank].fresh = true;
        ranks_[rank].weight_bytes = done.weight_bytes;
        if (setup_.on_check) return;
        say(setup_.on_progress,
            fmt::format("{}: {:.1f} MiB of weights ({} bytes, {} of them replicated) in {} ms",
                        rank_words(*setup_.config, *plan_, rank),
                        static_cast<double>(done.weight_bytes) / (1 << 20), done.weight_bytes,
                        done.replicated_bytes, done.load_ms));
      },
      [this] { setup_.on_check ? exchange_cards() : size(); });
}

void supervisor::note_progress(const load_progress& message) {
  if (phase_ != phase::forming || message.rank >= ranks_.size() || setup_.on_check) return;
  ranks_[message.rank].done = message.done;
  ranks_[message.rank].total = message.total;
  std::uint64_t done = 0, total = 0;
  for (const auto& rank : ranks_) {
    if (!rank.loaded && rank.total == 0) return;  // not all know their size yet
    done += rank.done;
    total += rank.total;
  }
  const auto percent = total == 0 ? 100 : done * 100 / total;
  if (percent < percent_said_ + percent_step) return;
  percent_said_ = percent;
  const auto line = fmt::format("loading weights: {} %", percent);
  say(setup_.on_progress, line);
  announce(net::engine_state::loading, line, {});
}

void supervisor::size() {
  announce(net::engine_state::loading, "sizing the cache", {});
  offers_.assign(ranks_.size(), {});
  gather<cache_offer>(
      all_ranks(),
      [this](std::size_t rank) {
        return ask(self_, ranks_[rank].shard, startup_left(), size_cache{});
      },
      [this](std::size_t rank, const cache_offer& offer) { offers_[rank] = offer; },
      [this] { exchange_cards(); });
}

void supervisor::exchange_cards() {
  announce(net::engine_state::loading, "connecting devices", {});
  connecting_since_ = now(self_);
  cards_.assign(ranks_.size(), {});
  gather<shard_card>(
      all_ranks(),
      [this](std::size_t rank) {
        return ask(self_, ranks_[rank].shard, startup_left(), open_card{});
      },
      [this](std::size_t rank, const shard_card& answer) { cards_[rank] = answer.card; },
      [this] { setup_.on_check ? check() : connect(); });
}

void supervisor::connect() {
  const auto deadline = setup_.config->health.collective_timeout_ms;
  gather<shard_ready>(
      all_ranks(),
      [this, deadline](std::size_t rank) {
        return ask(self_, ranks_[rank].shard, milliseconds(deadline) + least_timeout,
                   connect_shard{cards_, deadline});
      },
      [](std::size_t, const shard_ready&) {}, [this] { spawn_stages(); });
}

// Instead of connecting: every rank tries its links.
void supervisor::check() {
  announce(net::engine_state::loading, "checking links", {});
  const auto deadline = setup_.config->health.collective_timeout_ms;
  checks_.assign(ranks_.size(), {});
  gather<links_checked>(
      all_ranks(),
      [this, deadline](std::size_t rank) {
        return ask(self_, ranks_[rank].shard, startup_left(), check_links{cards_, deadline});
      },
      [this](std::size_t rank, const links_checked& answer) {
        auto report = runtime::decode_rank_check(answer.report);
        if (!report) return fail(fault_of(rank, std::move(report).error()));
        checks_[rank] = std::move(*report);
      },
      [this] { end_check(); });
}

void supervisor::spawn_stages() {
  end_phase("connect", connecting_since_);
  // A stage has a part on every node that holds one of its ranks; any of them stands for the part.
  std::set<std::pair<std::uint32_t, std::int32_t>> parts;
  std::vector<std::size_t> who;
  for (const auto rank : all_ranks()) {
    const auto& planned = plan_->ranks[rank];
    if (parts.emplace(planned.node, planned.layout.stage).second) who.push_back(rank);
  }
  stages_.clear();
  gather<stage_actor>(
      who,
      [this](std::size_t rank) {
        const auto& planned = plan_->ranks[rank];
        return ask(self_, members_[planned.node].worker, spawn_timeout,
                   stage_order{static_cast<std::uint32_t>(planned.layout.stage)});
      },
      [this](std::size_t, const stage_actor& stage) { stages_.push_back(stage); },
      [this] { start_scheduler(); });
}

void supervisor::start_scheduler() {
  announce(net::engine_state::loading, "starting the cache", {});
  ++epoch_;
  auto config = scheduler_config_of(*setup_.config, *plan_, offers_, epoch_);
  if (!config) return fail({config.error()});
  config->max_in_flight = plan_->stages + setup_.steps_ahead;
  start_cache order;
  order.epoch = epoch_;
  for (const auto& group : config->groups) order.blocks.push_back(group.blocks);
  blocks_ = order.blocks;
  if (!scheduler_) spawn_scheduler(std::move(*config));
  gather<shard_ready>(
      all_ranks(),
      [this, order](std::size_t rank) {
        return ask(self_, ranks_[rank].shard, startup_left(), order, scheduler_);
      },
      [this](std::size_t rank, const shard_ready& ready) {
        if (std::exchange(ranks_[rank].fresh, false)) note_phases(ready);
      },
      [this] { serve(); });
}

void supervisor::spawn_scheduler(runtime::scheduler_config config) {
  scheduler_ = spawn_state<scheduler>(
      self_->home_system(), setup_.detached,
      scheduler_setup{std::move(config), me<supervisor_actor>(self_), setup_.config->health,
                      setup_.on_change, (plan_->stages - 1) * plan_->tensor_parallel_size});
  watch_.on_down(scheduler_, [this](const caf::error& why) {
    scheduler_ = scheduler_actor{};
    fail({{errc::internal, "the scheduler is gone: " + text_of(why), {}},
          setup_.config->nodes.front().name});
  });
}

void supervisor::note_phases(const shard_ready& ready) {
  for (const auto& told : ready.phases) {
    const auto known = std::find_if(phases_.begin(), phases_.end(),
                                    [&](const phase_word& p) { return p.name == told.name; });
    if (known == phases_.end()) phases_.push_back(told);
    else known->ms = std::max(known->ms, told.ms);
  }
}

void supervisor::end_phase(const char* phase_name, clock_time since) {
  const auto took = std::chrono::duration_cast<milliseconds>(now(self_) - since);
  phases_.push_back({phase_name, static_cast<std::uint32_t>(took.count())});
}

// How long each phase took; "all" is from when the nodes were waited for.
void supervisor::say_phases() {
  end_phase("all", waiting_since_);
  std::string line;
  for (const auto& part : phases_) {
    const double seconds = part.ms / 1e3;
    line += fmt::format("{}{} {:.2f} s", line.empty() ? "start: " : ", ", part.name, seconds);
    if (setup_.on_phase) setup_.on_phase(part.name, seconds);
  }
  say(setup_.on_ready, line);
}

void supervisor::serve() {
  phase_ = phase::serving;
  served_ = true;
  serving_since_ = now(self_);
  last_fault_.clear();
  tell(self_, scheduler_, resume_engine{epoch_, blocks_}, stages_);
  if (!draining_.empty())  // whoever waits for it has asked already
    ask(self_, scheduler_, milliseconds(setup_.config->health.shutdown_timeout_ms), drain_engine{})
        .then([](const drained&) {}, [](const caf::error&) {});
  // A gateway knows the scheduler before it says that it is ready.
  for (const auto& [index, gateway] : gateways_) {
    tell(self_, scheduler_, add_gateway{index}, token_sink_actor{gateway});
    tell(self_, gateway, engine_ready{epoch_}, scheduler_);
  }
  if (!draining_.empty()) announce(net::engine_state::draining, "draining", "a node leaves");
  else announce(net::engine_state::ready, "serving", {});
  say(setup_.on_ready,
      runtime::render_cache(blocks_.front(), offers_.front().block_size, plan_->max_model_len));
  say_phases();
  say(setup_.on_ready, fmt::format("ready: {} ranks, epoch {}", ranks_.size(), epoch_));
  for (const auto& gateway : setup_.config->gateways) say(setup_.on_ready, curl_line(gateway));
}

}  // namespace dinfer::actors
