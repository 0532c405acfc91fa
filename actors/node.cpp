// SPDX-License-Identifier: Apache-2.0
// See node.hpp.
#include "actors/node.hpp"

#include "actors/orders.hpp"
#include "actors/shard.hpp"
#include "actors/stage.hpp"
#include "actors/wire.hpp"
#include "runtime/base/exit_code.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dinfer::actors {

namespace {

constexpr milliseconds first_backoff{100}, most_backoff{1000};
constexpr milliseconds dial_timeout{10'000}, hello_timeout{5000}, notice_timeout{500};
// The supervisor's own wait ends first: it still has the other nodes to end.
constexpr milliseconds drain_slack{100};

}  // namespace

node::node(node_actor::pointer self, node_setup setup)
    : self_(self), setup_(std::move(setup)), watch_(self), backoff_(first_backoff) {
  started_ = now(self_);
}

node::~node() { drop_all(); }

node_actor::behavior_type node::make_behavior() {
  tell(self_, me<node_actor>(self_), join_now{});
  return {
      [this](const shard_order& order, const fault_sink_actor& faults) {
        return spawn_shard(order, faults);
      },
      [this](const stage_order& order) { return spawn_stage(order.stage); },
      [this](const abort_shards&) { abort_all(); },
      [this](const drop_shards&) { drop_all(); },
      [this](const progress_query&) { return progress(); },
      [this](const engine_notice& notice) {
        if (setup_.on_notice) setup_.on_notice(notice);
      },
      [this](const end_node& message) { end(message.code, message.reason); },
      [this](const end_child& message) {
        if (setup_.end_child) setup_.end_child(message.index, message.process);
      },
      [this](const join_now&) { join(); },
      [this](const child_ended& message) {
        if (supervisor_) tell(self_, supervisor_, message);
      },
      [this](const drain_engine& message) { drain(message.timeout_ms); },
  };
}

caf::result<shard_actor> node::spawn_shard(const shard_order& order,
                                           const fault_sink_actor& faults) {
  auto options = options_of(order, *setup_.config);
  if (!options) return to_caf(options.error());
  auto board = std::make_shared<shard_board>();
  auto handle = spawn_state<shard>(self_->home_system(), setup_.detached,
                                   shard_setup{order.rank, std::move(*options), setup_.make_runner,
                                               setup_.config->nodes[setup_.index], faults, board});
  hold_until_end(handle, setup_.life);
  shards_[order.rank] = {handle, order.stage, board};
  return handle;
}

stage_actor node::spawn_stage(std::uint32_t stage_index) {
  std::vector<shard_actor> members;
  for (const auto& [rank, local] : shards_)
    if (local.stage == static_cast<std::int32_t>(stage_index)) members.push_back(local.handle);
  stages_.push_back(
      spawn_state<stage>(self_->home_system(), setup_.stages_too, std::move(members)));
  return stages_.back();
}

void node::abort_all() {
  for (const auto& [rank, local] : shards_) local.board->abort();
  for (const auto& part : std::exchange(stages_, {}))
    caf::anon_send_exit(part, caf::exit_reason::user_shutdown);
}

void node::drop_all() {
  abort_all();
  for (const auto& [rank, local] : std::exchange(shards_, {}))
    caf::anon_send_exit(local.handle, caf::exit_reason::user_shutdown);
}

progress_report node::progress() const {
  progress_report out;
  for (const auto& [rank, local] : shards_)
    out.ranks.push_back({rank, local.board->started, local.board->finished});
  return out;
}

void node::join() {
  if (ending_) return;
  if (setup_.directory) return say_hello(setup_.directory);
  const auto& first = setup_.config->nodes.front();
  ask(self_, setup_.dialer, dial_timeout, dial{first.address, first.port})
      .then([this](const directory_actor& found) { say_hello(found); },
            [this](const caf::error& why) { not_joined(from_caf(why)); });
}

void node::say_hello(const directory_actor& directory) {
  ask(self_, directory, hello_timeout, setup_.ours, me<worker_actor>(self_))
      .then(
          [this, directory](const welcome&, const supervisor_actor& supervisor) {
            joined(directory, supervisor);
          },
          [this](const caf::error& why) { not_joined(from_caf(why)); });
}

void node::joined(const directory_actor& directory, const supervisor_actor& supervisor) {
  supervisor_ = supervisor;
  watch_.on_down(directory, [this](const caf::error& why) {
    end(runtime::exit_cluster, fmt::format("node {}, the first one, is lost: {}",
                                           setup_.config->nodes.front().name, text_of(why)));
  });
  for (const auto& [index, gateway] : setup_.gateways) {
    tell(self_, supervisor_, add_gateway{index}, gateway);
    tell(self_, gateway, welcome{setup_.config->nodes.front().name},
         status_source_actor{directory});
  }
}

void node::not_joined(const error& why) {
  if (why.code == errc::mismatch) return end(runtime::exit_cluster, why.message);
  const auto& first = setup_.config->nodes.front();
  const auto limit = milliseconds(setup_.config->health.startup_timeout_ms);
  const auto text = fmt::format("waiting for node {}: {}", first.name, why.message);
  const auto left = limit - std::chrono::duration_cast<milliseconds>(now(self_) - started_);
  if (left <= milliseconds(0))
    return end(runtime::exit_cluster, fmt::format("could not join node {} within {} ms: {}",
                                                  first.name, limit.count(), why.message));
  if (setup_.on_progress && text != said_) setup_.on_progress(text);
  said_ = text;
  later(self_, std::min(backoff_, left), me<node_actor>(self_), join_now{});
  backoff_ = std::min(2 * backoff_, most_backoff);
}

void node::end(int code, const std::string& reason) {
  if (std::exchange(ending_, true)) return;
  abort_all();
  // The process may end as soon as on_exit is called: the gateways have told their clients by then.
  auto left = std::make_shared<std::size_t>(setup_.gateways.size() + 1);
  const auto one_less = [this, left, code, reason] {
    if (--*left == 0) setup_.on_exit(code, reason);
  };
  if (setup_.on_notice)
    setup_.on_notice(
        {static_cast<std::uint8_t>(net::engine_state::dead), UINT32_MAX, "ended", reason});
  for (const auto& [index, gateway] : setup_.gateways)
    ask(self_, gateway, notice_timeout, fail_engine{reason})
        .then([one_less] { one_less(); }, [one_less](const caf::error&) { one_less(); });
  one_less();
}

void node::drain(std::uint32_t timeout_ms) {
  auto left = std::make_shared<std::size_t>(1);
  auto cut = std::make_shared<bool>(false);
  const auto one_less = [this, left, cut] {
    if (--*left > 0) return;
    end(runtime::exit_ok,
        *cut ? "the server was shut down before the answer was complete" : "drained");
  };
  const auto wait_for = [&](const auto& who, const auto& what) {
    ++*left;
    ask(self_, who, milliseconds(timeout_ms) + drain_slack, what)
        .then([one_less](const drained&) { one_less(); },
              [one_less, cut](const caf::error&) {
                *cut = true;
                one_less();
              });
  };
  // Without shards we leave alone; else the engine has to stop.
  if (supervisor_ && (setup_.index == 0 || !shards_.empty()))
    wait_for(supervisor_, drain_cluster{static_cast<std::uint32_t>(setup_.index), timeout_ms});
  for (const auto& [index, gateway] : setup_.gateways) wait_for(gateway, drain_engine{timeout_ms});
  one_less();
}

}  // namespace dinfer::actors
