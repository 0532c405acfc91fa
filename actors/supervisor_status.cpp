// SPDX-License-Identifier: Apache-2.0
// What the supervisor knows of the engine and its ranks, for `dinfer status`.
#include "actors/supervisor.hpp"
#include "actors/wire.hpp"

#include <utility>

namespace dinfer::actors {

namespace {

constexpr milliseconds load_timeout{500};  // of a scheduler that only has to look

}  // namespace

rank_line supervisor::line_of(std::size_t rank) const {
  const auto& planned = plan_->ranks[rank];
  rank_line out;
  out.node = setup_.config->nodes[planned.node].name;
  out.device = planned.device;
  out.stage = planned.layout.stage;
  out.tp_rank = planned.layout.tp_rank;
  out.first_layer = planned.layout.layers.begin;
  out.end_layer = planned.layout.layers.end;
  out.weight_bytes = ranks_[rank].weight_bytes;
  if (phase_ != phase::serving) return out;
  out.cache_blocks = blocks_.front();
  out.cache_bytes = blocks_.front() * offers_[rank].block_bytes;
  return out;
}

caf::result<cluster_status> supervisor::status() const {
  cluster_status out;
  out.engine = notice_;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) out.ranks.push_back(line_of(rank));
  out.faults = faults_;
  out.last_fault = told_fault_;
  if (faults_ > 0)
    out.last_fault_age_ms = static_cast<std::uint64_t>(
        std::chrono::duration_cast<milliseconds>(now(self_) - fault_at_).count());
  if (!scheduler_) return out;
  auto promise = self_->make_response_promise<cluster_status>();
  ask(self_, scheduler_, load_timeout, status_query{})
      .then(
          [promise, out](const cluster_status& of_scheduler) mutable {
            out.load = of_scheduler.load;
            promise.deliver(std::move(out));
          },
          [promise, out](const caf::error&) mutable { promise.deliver(std::move(out)); });
  return promise;
}

}  // namespace dinfer::actors
