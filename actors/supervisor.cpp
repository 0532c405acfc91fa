// SPDX-License-Identifier: Apache-2.0
// See supervisor.hpp. Here: who is there, and how things end; supervisor_form.cpp has the way up.
#include "actors/supervisor.hpp"

#include "actors/node_process.hpp"
#include "actors/wire.hpp"
#include "runtime/base/exit_code.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dinfer::actors {

namespace {

constexpr std::uint32_t most_failures = 5;  // in a row, then the cluster ends
constexpr milliseconds first_look{100};
constexpr milliseconds rest_after_failure{200};
constexpr milliseconds hold_of_fault{100};
constexpr milliseconds stable_time{10'000};    // serving this long makes failures forgotten
constexpr milliseconds answer_timeout{2000};   // of a node that only has to look something up
constexpr milliseconds probe_timeout{60'000};  // the dialer tries one port after the other

// Trying again does not help against these.
bool permanent(errc code) noexcept {
  switch (code) {
    case errc::invalid_argument:
    case errc::not_found:
    case errc::bad_file:
    case errc::unsupported:
    case errc::out_of_memory:
      return true;
    default:
      return false;
  }
}

}  // namespace

supervisor::supervisor(supervisor_actor::pointer self, supervisor_setup setup)
    : self_(self), setup_(std::move(setup)), watch_(self), members_(setup_.config->nodes.size()) {
  waiting_since_ = now(self_);
  notice_.stage = "waiting for nodes";
}

supervisor::~supervisor() {
  if (scheduler_) caf::anon_send_exit(scheduler_, caf::exit_reason::user_shutdown);
}

supervisor_actor::behavior_type supervisor::make_behavior() {
  // Not at once: the first node itself is about to join.
  later(self_, first_look, me<supervisor_actor>(self_), form_tick{attempt_});
  return {
      [this](const shard_failed& m) {
        if (phase_ == phase::serving && m.epoch == epoch_) take_fault(m);
      },
      [this](const load_progress& m) { note_progress(m); },
      [this](const node_joined& m, const worker_actor& worker) { join(m, worker); },
      [this](const node_lost& m) { lose_node(m.index, m.reason); },
      [this](const child_ended& m) { lose_child(m); },
      [this](const add_gateway& m, const gateway_actor& gateway) {
        join_gateway(m.index, gateway);
      },
      [this](const step_overdue& m) { explain_overdue(m); },
      [this](const form_tick& m) {
        if (m.attempt != attempt_) return;
        if (held_fault_) return fail(fault(*held_fault_));
        resting_ = false;
        form();
      },
      [this](const drain_cluster& m) { return drain(m); },
      [this](const status_query&) { return status(); },
  };
}

void supervisor::join(const node_joined& message, const worker_actor& worker) {
  members_[message.index] = {worker, facts_of(message.host), message.process};
  say(setup_.on_progress, fmt::format("node {} joined", setup_.config->nodes[message.index].name));
  tell(self_, worker, notice_);
  if (missing_nodes().empty()) form();  // else the next tick says who is missing
}

void supervisor::take_fault(const shard_failed& message) {
  if (held_fault_) return;
  auto what = fault_of(message.rank, {static_cast<errc>(message.code), message.message, {}});
  const bool follows = what.why.code == errc::peer_lost || what.why.code == errc::cancelled;
  if (follows) hold(std::move(what));
  else fail(what);
}

// Of a node that ends its shards are aborted and peers see their connections close, perhaps before
// its loss is known here; a child's connection closes before its process is known to have
// ended. While serving such a fault waits a moment, so that the one that says more is told.
void supervisor::hold(fault what) {
  if (phase_ != phase::serving) return fail(what);
  if (!held_fault_) later(self_, hold_of_fault, me<supervisor_actor>(self_), form_tick{attempt_});
  held_fault_ = std::move(what);
}

supervisor::fault supervisor::fault_of(std::size_t rank, error why) const {
  why.message = rank_words(*setup_.config, *plan_, rank) + ": " + why.message;
  return {std::move(why), setup_.config->nodes[plan_->ranks[rank].node].name};
}

// Its ranks in words, or nothing when it has none.
std::string supervisor::forget_node(std::size_t index) {
  members_[index].worker = worker_actor{};
  draining_.erase(static_cast<std::uint32_t>(index));
  std::string words;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (plan_->ranks[rank].node != index) continue;
    words += fmt::format("{}rank {}", words.empty() ? "" : ", ", rank);
    if (ranks_[rank].shard) watch_.forget(ranks_[rank].shard);
    ranks_[rank] = {};
  }
  return words;
}

void supervisor::lose_node(std::size_t index, const std::string& why) {
  if (!members_[index].worker) return;  // its parent was faster
  const auto& node = setup_.config->nodes[index];
  const auto ranks = forget_node(index);
  fault what{{errc::peer_lost, fmt::format("node {} is lost: {}", node.name, why), {}}, node.name};
  what.left = true;
  if (ranks.empty()) return say(setup_.on_progress, what.why.message);
  what.why.message = fmt::format("node {} ({}) is lost: {}", node.name, ranks, why);
  if (node.parent.empty()) return fail(what);
  what.child = kept_child{index, members_[index].process};
  hold(std::move(what));
}

void supervisor::lose_child(const child_ended& message) {
  if (message.index >= members_.size()) return;
  const auto& node = setup_.config->nodes[message.index];
  auto words = fmt::format("node {} is lost: {}", node.name, message.how);
  if (held_fault_ && held_fault_->child == kept_child{message.index, message.process}) {
    auto what = *held_fault_;
    what.why.message += ", " + message.how;
    what.cause = message.how;
    what.child.reset();
    return fail(what);
  }
  const auto& known = members_[message.index];
  if (!known.worker || known.process != message.process) return;
  const auto ranks = forget_node(message.index);
  if (ranks.empty()) return say(setup_.on_progress, words);
  words = fmt::format("node {} ({}) is lost: {}", node.name, ranks, message.how);
  fail({{errc::peer_lost, words, {}}, node.name, message.how, {}, true});
}

void supervisor::join_gateway(std::uint32_t index, const gateway_actor& gateway) {
  gateways_[index] = gateway;
  watch_.on_down(gateway, [this, index, gateway](const caf::error&) {
    const auto found = gateways_.find(index);
    if (found != gateways_.end() && found->second == gateway) gateways_.erase(found);
  });
  if (phase_ != phase::serving ||
      notice_.state != static_cast<std::uint8_t>(net::engine_state::ready)) {
    tell(self_, gateway, notice_);
    return;
  }
  tell(self_, scheduler_, add_gateway{index}, token_sink_actor{gateway});
  tell(self_, gateway, engine_ready{epoch_}, scheduler_);
}

std::vector<std::size_t> supervisor::missing_nodes() const {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (!members_[i].worker && !setup_.config->nodes[i].devices.empty()) out.push_back(i);
  return out;
}

void supervisor::report_missing() {
  if (probing_) return;  // nodes that do not answer take the dialer longer than a look
  const auto missing = missing_nodes();
  probing_ = true;
  auto words = std::make_shared<std::vector<std::string>>(missing.size());
  auto left = std::make_shared<std::size_t>(missing.size());
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const auto& node = setup_.config->nodes[missing[i]];
    const auto where = fmt::format("{}:{}", node.address, node.port);
    const auto take = [this, words, left, i, name = node.name](const std::string& why) {
      (*words)[i] = fmt::format("{} not joined ({})", name, why);
      if (--*left > 0) return;
      probing_ = false;
      if (phase_ == phase::waiting) say_missing(*words);
    };
    if (!node.parent.empty()) {
      take("kept by node " + node.parent);
      continue;
    }
    if (!setup_.dialer) {
      take(where);
      continue;
    }
    ask(self_, setup_.dialer, probe_timeout, probe{node.address, node.port})
        .then([take, where](const welcome&) { take(where + " listens"); },
              [take, where](const caf::error& why) {
                const auto e = from_caf(why);
                take(e.code == errc::timeout ? where + " did not answer" : e.message);
              });
  }
}

void supervisor::say_missing(const std::vector<std::string>& words) {
  std::size_t devices = 0;
  std::vector<std::string> names;
  for (const auto& node : setup_.config->nodes) {
    if (node.devices.empty()) continue;
    devices += node.devices.size();
    names.push_back(node.name);
  }
  auto line = fmt::format("expected {} devices on {}; {}", devices, fmt::join(names, ", "),
                          fmt::join(words, "; "));
  if (line == missing_said_) return;
  missing_said_ = line;
  say(setup_.on_progress, line);
  announce(served_ ? net::engine_state::dead : net::engine_state::loading, "waiting for nodes",
           line);
}

// Its parent has not seen it end, and starts only what has ended.
void supervisor::end_frozen(const kept_child& child) {
  const auto& nodes = setup_.config->nodes;
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (nodes[i].name == nodes[child.index].parent && members_[i].worker)
      tell(self_, members_[i].worker,
           end_child{static_cast<std::uint32_t>(child.index), child.process});
}

void supervisor::fail(const fault& what) {
  if (phase_ == phase::ended || phase_ == phase::waiting) return;
  const auto why = what.why;
  const bool forming = phase_ == phase::forming;
  // Whoever keeps a node starts it again, not too often: its end is no failure to serve.
  if (!forming && (what.left || now(self_) - serving_since_ > stable_time)) failures_ = 0;
  ++attempt_;
  held_fault_.reset();
  phase_ = phase::waiting;
  resting_ = true;
  waiting_since_ = now(self_);
  missing_said_.clear();
  ++failures_;
  last_fault_ = told_fault_ = why.message;
  fault_at_ = now(self_);
  ++faults_;
  if (what.child) end_frozen(*what.child);
  if (setup_.on_fault)
    setup_.on_fault(what.node, what.cause.empty() ? std::string(to_string(why.code)) : what.cause);
  const bool hopeless =
      forming && (setup_.on_check || permanent(why.code));  // said once, by the node that ends
  if (!hopeless) say(setup_.on_error, why.message);
  if (scheduler_) tell(self_, scheduler_, interrupt_engine{why.message});
  announce(net::engine_state::dead, "starting over", why.message);
  if (hopeless) return give_up(runtime::exit_code_of(why.code), why.message);
  if (failures_ > most_failures)
    return give_up(
        runtime::exit_failure,
        fmt::format("gave up after {} failures in a row; the last: {}", failures_, why.message));
  // Shards that lived keep their weights once; when that does not work out they start afresh.
  rest(forming || failures_ > 1);
}

void supervisor::rest(bool fresh) {
  auto left = std::make_shared<std::size_t>(1);
  const auto one_less = [this, left, attempt = attempt_] {
    if (--*left > 0 || attempt != attempt_) return;
    later(self_, rest_after_failure, me<supervisor_actor>(self_), form_tick{attempt});
  };
  for (const auto& node : members_) {
    if (!node.worker) continue;
    ++*left;
    ask(self_, node.worker, answer_timeout, abort_shards{})
        .then([one_less] { one_less(); }, [one_less](const caf::error&) { one_less(); });
    if (fresh) tell(self_, node.worker, drop_shards{});
  }
  if (fresh) {
    for (auto& rank : ranks_) {
      if (rank.shard) watch_.forget(rank.shard);
      rank = {};
    }
  }
  one_less();
}

void supervisor::give_up(int code, const std::string& reason) {
  phase_ = phase::ended;
  if (scheduler_) {
    watch_.forget(scheduler_);
    tell(self_, scheduler_, fail_engine{reason});
    scheduler_ = scheduler_actor{};
  }
  announce(net::engine_state::dead, "ended", reason);
  for (std::size_t i = members_.size(); i-- > 0;)
    if (members_[i].worker)
      tell(self_, members_[i].worker, end_node{i == 0 ? code : runtime::exit_cluster, reason});
}

void supervisor::explain_overdue(const step_overdue& message) {
  if (phase_ != phase::serving || message.epoch != epoch_) return;
  auto known = std::make_shared<std::vector<rank_progress>>();
  auto left = std::make_shared<std::size_t>(1);
  const auto one_less = [this, left, known, message, attempt = attempt_] {
    if (--*left > 0 || attempt != attempt_) return;
    fail({{errc::timeout, overdue_words(*setup_.config, *plan_, message, *known), {}}});
  };
  for (const auto& node : members_) {
    if (!node.worker) continue;
    ++*left;
    ask(self_, node.worker, answer_timeout, progress_query{})
        .then(
            [known, one_less](const progress_report& report) {
              known->insert(known->end(), report.ranks.begin(), report.ranks.end());
              one_less();
            },
            [one_less](const caf::error&) { one_less(); });
  }
  one_less();
}

caf::result<drained> supervisor::drain(const drain_cluster& message) {
  auto promise = self_->make_response_promise<drained>();
  if (!scheduler_) {
    finish_drain(message.index, promise);
    return promise;
  }
  draining_.insert(message.index);
  if (phase_ == phase::serving)
    announce(net::engine_state::draining, "draining",
             fmt::format("node {} leaves", setup_.config->nodes[message.index].name));
  ask(self_, scheduler_, milliseconds(message.timeout_ms), drain_engine{message.timeout_ms})
      .then(
          [this, promise, index = message.index](const drained&) { finish_drain(index, promise); },
          [this, promise, index = message.index](const caf::error&) {
            finish_drain(index, promise);
          });
  return promise;
}

void supervisor::finish_drain(std::uint32_t index, caf::typed_response_promise<drained> promise) {
  draining_.erase(index);
  if (index == 0) {
    phase_ = phase::ended;
    for (std::size_t i = 1; i < members_.size(); ++i)
      if (members_[i].worker)
        tell(self_, members_[i].worker, end_node{runtime::exit_ok, "the cluster was shut down"});
  }
  promise.deliver(drained{});
}

void supervisor::announce(net::engine_state state, const std::string& stage,
                          const std::string& reason) {
  auto told = reason;
  if (state != net::engine_state::ready && told.find(last_fault_) == std::string::npos)
    told = told.empty() ? last_fault_ : last_fault_ + "; " + told;
  notice_ = {static_cast<std::uint8_t>(state), epoch_, stage, told};
  for (const auto& [index, gateway] : gateways_) tell(self_, gateway, notice_);
  for (const auto& node : members_)
    if (node.worker) tell(self_, node.worker, notice_);
}

void supervisor::say(const std::function<void(const std::string&)>& to, const std::string& line) {
  if (to) to(line);
}

}  // namespace dinfer::actors
