// SPDX-License-Identifier: Apache-2.0
// See shard.hpp. Each answer is a call into the runner; a failed step silences the shard until the
// supervisor starts the next epoch.
#include "actors/shard.hpp"

#include "actors/wire.hpp"
#include "runtime/schedule/step_codec.hpp"

#include <utility>

namespace dinfer::actors {

namespace {

constexpr milliseconds progress_interval{250};

// An answer of ours as CAF wants it.
template <class T>
caf::result<T> answer(result<T> value) {
  if (!value) return to_caf(value.error());
  return std::move(*value);
}
caf::result<shard_ready> answer(const result<void>& value) {
  if (!value) return to_caf(value.error());
  return shard_ready{};
}

}  // namespace

shard::shard(shard_actor::pointer self, shard_setup setup)
    : self_(self), setup_(std::move(setup)) {}

shard::~shard() { setup_.board->lend(nullptr); }

shard_actor::behavior_type shard::make_behavior() {
  return {
      [this](const load_shard&) { return answer(load()); },
      [this](const size_cache&) { return answer(size()); },
      [this](const open_card&) { return answer(card()); },
      [this](const connect_shard& order) { return answer(connect(order)); },
      [this](const check_links& order) { return answer(check(order)); },
      [this](const start_cache& order, const scheduler_actor& scheduler) {
        return answer(start(order, scheduler));
      },
      [this](const run_step& order) { run(order); },
  };
}

result<shard_loaded> shard::load() {
  setup_.board->lend(nullptr);
  runner_.reset();
  DINFER_TRY(runner_, setup_.make_runner(setup_.options, setup_.here));
  setup_.board->lend(runner_.get());
  auto last = now(self_);
  const auto progress = [&](std::uint64_t done, std::uint64_t total) {
    const auto time = now(self_);
    if (done < total && time - last < progress_interval) return;
    last = time;
    tell(self_, setup_.faults, load_progress{setup_.rank, done, total});
  };
  DINFER_CHECK(runner_->load(progress));
  const auto report = runner_->report();
  return shard_loaded{report.weight_bytes, report.replicated_bytes, report.workspace_bytes,
                      report.load_ms, report.device_description};
}

// An order that needs a loaded runner came before load_shard, or after one that failed.
result<void> shard::check_loaded(const char* order) const {
  if (runner_) return {};
  return fail(errc::mismatch, std::string(order) + " of a shard that holds no model");
}

result<cache_offer> shard::size() {
  DINFER_CHECK(check_loaded("size_cache"));
  DINFER_TRY(auto offer, runner_->size_cache());
  return cache_offer{offer.block_size, std::move(offer.blocks), offer.block_bytes};
}

result<shard_card> shard::card() {
  DINFER_CHECK(check_loaded("open_card"));
  DINFER_TRY(auto text, runner_->card());
  return shard_card{std::move(text)};
}

result<void> shard::connect(const connect_shard& order) {
  DINFER_CHECK(check_loaded("connect_shard"));
  epoch_ = 0;  // a late step of the group before must not run on the new connections
  return runner_->connect(order.cards, milliseconds(order.deadline_ms));
}

result<links_checked> shard::check(const check_links& order) {
  DINFER_CHECK(check_loaded("check_links"));
  DINFER_TRY(auto report, runner_->check(order.cards, milliseconds(order.deadline_ms)));
  return links_checked{std::move(report)};
}

result<shard_ready> shard::start(const start_cache& order, const scheduler_actor& scheduler) {
  DINFER_CHECK(check_loaded("start_cache"));
  DINFER_CHECK(runner_->start_cache(order.blocks, order.epoch));
  epoch_ = order.epoch;
  auto board = setup_.board;
  board->started = 0;
  board->finished = 0;
  board->failed = false;
  // The sink may run on a thread of the runner, and outlive this call: it owns what it needs.
  sink_ = [scheduler, board, faults = setup_.faults, rank = setup_.rank,
           epoch = epoch_](result<runtime::step_result> done) {
    if (done) {
      post(scheduler, step_done{done->epoch, done->step, runtime::encode(*done)});
    } else if (!board->failed.exchange(true)) {
      post(faults, shard_failed{rank, epoch, static_cast<std::uint8_t>(done.error().code),
                                done.error().message});
    }
  };
  shard_ready ready;
  for (const auto& phase : runner_->report().phases) ready.phases.push_back({phase.name, phase.ms});
  return ready;
}

void shard::run(const run_step& order) {
  // Steps of a group that is being taken down are still in the mailbox: they are void.
  if (epoch_ == 0 || order.epoch != epoch_ || setup_.board->failed) return;
  auto plan = runtime::decode_plan(order.blob);
  if (!plan) return sink_(tl::unexpected(std::move(plan).error()));
  setup_.board->started = order.step;
  runner_->execute(*plan, sink_);
  setup_.board->finished = order.step;
}

}  // namespace dinfer::actors
