// SPDX-License-Identifier: Apache-2.0
// See cluster.hpp.
#include "tests/sim/cluster.hpp"

#include "tests/sim/sabotage.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::sim {

namespace {

constexpr usec look_interval = 50 * millisecond;
// After the last fault: rejoining, and requests that are done after that.
constexpr usec patience = 20 * second;
constexpr usec grace = 12 * second;  // until a fault's consequences are over
constexpr usec longest_goodbye = 20 * millisecond;
constexpr std::uint32_t patient_ms = 30'000;
constexpr usec rest = 1100 * millisecond;  // two heartbeats of the scheduler

usec of_ms(std::uint32_t ms) { return usec{ms} * millisecond; }

}  // namespace

cluster::cluster(std::uint64_t seed, scenario what, plant bug, bool tracing)
    : scenario_(std::move(what)),
      bug_(bug),
      world_(seed, tracing),
      settings_({.health = {}, .protocol = 1, .network = false, .deterministic = true}),
      net_(world_, static_cast<std::uint32_t>(scenario_.config->nodes.size()),
           of_ms(scenario_.config->health.heartbeat_ms),
           of_ms(scenario_.config->health.timeout_ms)),
      people_(world_),
      devices_(world_, net_, of_ms(scenario_.config->health.collective_timeout_ms),
               [this](process_id id, usec delay, std::function<void()> event) {
                 in_process(id, delay, std::move(event));
               }),
      around_{
          world_,
          net_,
          devices_,
          people_,
          scenario_.config,
          settings_,
          [this](process_id id, int code) { leave(id, code); },
          [this](process_id child) { kill_child(child); },
          [this](const runtime::scheduler& core) { note_change(core); },
          [this](const std::string& node, const std::string& cause) { note_fault(node, cause); }},
      processes_(scenario_.config->nodes.size()) {
  plan_faults();
  plan_requests();
  plan_bug();
}

outcome cluster::run() {
  for (std::uint32_t n = 0; n < processes_.size(); ++n)
    if (!parent_of(n))
      world_.after(world_.random.between(0, 200) * millisecond, [this, n] { start(n); });
  look();
  while (phase_ != phase::done && world_.failure().empty()) step();
  outcome out;
  out.failure = world_.failure();
  out.hash = world_.hash();
  out.counts = people_.counts();
  out.messages = messages_;
  out.lives = lives_;
  out.faults_told = faults_told_;
  out.time = world_.now();
  out.recovery = recovery_;
  return out;
}

void cluster::step() {
  if (run_message()) return;
  // Nobody has anything to do: time passes.
  usec next = world_.next_event();  // look() is always among them
  for (const auto& p : processes_)
    if (p)
      if (const auto timer = p->next_timer()) next = std::min(next, *timer);
  world_.advance_to(next);
  for (const auto& p : processes_)
    if (p && !p->paused()) p->catch_up();
  if (world_.next_event() <= world_.now()) world_.run_event();
}

bool cluster::run_message() {
  std::size_t jobs = 0;
  for (const auto& p : processes_)
    if (p) jobs += p->jobs();
  if (jobs == 0) return false;
  auto pick = static_cast<std::size_t>(world_.random.below(jobs));
  for (const auto& p : processes_) {
    if (!p) continue;
    if (pick < p->jobs()) {
      ++messages_;
      p->run_job(pick);
      break;
    }
    pick -= p->jobs();
  }
  return true;
}

std::optional<std::uint32_t> cluster::parent_of(std::uint32_t node) const {
  const auto& nodes = scenario_.config->nodes;
  for (std::uint32_t n = 0; n < nodes.size(); ++n)
    if (nodes[n].name == nodes[node].parent) return n;
  return std::nullopt;
}

void cluster::start(std::uint32_t node) {
  const auto parent = parent_of(node);
  if (processes_[node] || (parent && !processes_[*parent])) return;  // its parent will start it
  processes_[node] = std::make_unique<process>(around_, ++lives_, node);
  if (node == 0 && first_life_ == 0) first_life_ = processes_[node]->id();
  for (std::uint32_t n = 0; n < processes_.size(); ++n)
    if (parent_of(n) == node)
      world_.after(world_.random.between(5, 50) * millisecond, [this, n] { start(n); });
}

void cluster::end(std::uint32_t node, usec restart_after, const std::string& how) {
  if (!processes_[node]) return;
  const auto id = processes_[node]->id();
  processes_[node].reset();
  people_.disconnect(id);
  for (std::uint32_t n = 0; n < processes_.size(); ++n)
    if (parent_of(n) == node) end(n, restart_after, how);
  if (const auto parent = parent_of(node); parent && processes_[*parent]) {
    const auto keeper = processes_[*parent]->id();
    in_process(keeper, world_.random.between(0, 5) * millisecond,
               [this, keeper, node, id, how] { find(keeper)->tell_child_ended(node, id, how); });
  }
  world_.after(restart_after, [this, node] { start(node); });
}

// Not from within a job of the process that keeps it.
void cluster::kill_child(process_id child) {
  world_.after(millisecond, [this, child] {
    const auto again = world_.random.between(100, 400) * millisecond;
    if (auto* p = find(child)) end(p->node(), again, "did not answer and was killed");
  });
}

process* cluster::find(process_id id) {
  for (const auto& p : processes_)
    if (p && p->id() == id) return p.get();
  return nullptr;
}

void cluster::in_process(process_id id, usec delay, std::function<void()> event) {
  world_.after(delay, [this, id, event = std::move(event)]() mutable {
    if (auto* p = find(id)) p->when_awake(std::move(event));
  });
}

// As node_process and what keeps it: the gateways say goodbye, the process ends, another one is
// started.
void cluster::leave(process_id id, int code) {
  find(id)->set_leaving();
  in_process(id, world_.random.between(1, longest_goodbye), [this, id, code] {
    find(id)->close_gateways();
    in_process(id, millisecond, [this, id, code] {
      people_.check_told(id);
      // Not from within an event of the process itself.
      world_.after(0, [this, id, how = fmt::format("exit code {}", code)] {
        const auto again = world_.random.between(100, 1500) * millisecond;
        if (auto* p = find(id)) end(p->node(), again, how);
      });
    });
  });
}

void cluster::plan_faults() {
  for (const auto& f : scenario_.faults) {
    scripted_until_ = std::max(scripted_until_, f.at + f.lasts);
    world_.after(f.at, [this, f] { begin_fault(f); });
  }
}

void cluster::begin_fault(const fault& f) {
  world_.note(packed(40, static_cast<std::uint64_t>(f.kind), f.node), "FAULT {}", words_of(f));
  people_.expect_errors();
  excused_until_ = std::max(excused_until_, world_.now() + f.lasts + grace);
  const auto from = f.to_first ? f.node : 0, to = f.to_first ? 0 : f.node;
  auto* target = processes_[f.node].get();
  switch (f.kind) {
    case fault_kind::kill:
      return end(f.node, f.lasts, "killed by SIGKILL");
    case fault_kind::terminate:
      if (target != nullptr) target->terminate(actors::milliseconds(f.lasts / millisecond));
      return;
    case fault_kind::pause:
      return freeze(f);
    case fault_kind::partition:
      net_.block(0, f.node, true);
      net_.block(f.node, 0, true);
      break;
    case fault_kind::one_way:
      net_.block(from, to, true);
      break;
    case fault_kind::slow:
      net_.slow_down(from, to, f.extra);
      break;
    case fault_kind::cut:
      return net_.cut(0, f.node);
    case fault_kind::device_fails:
      devices_.fail_on(f.node);
      break;
    case fault_kind::device_hangs:
      devices_.hang_on(f.node);
      break;
  }
  world_.after(f.lasts, [this, f] { end_fault(f); });
}

void cluster::freeze(const fault& f) {
  auto* target = processes_[f.node].get();
  if (target == nullptr || target->paused()) return;
  target->pause();
  world_.after(f.lasts, [this, id = target->id()] {
    if (auto* p = find(id)) p->resume();
  });
}

// Faults of one link may overlap; the first that ends ends them all. A device that had no step
// meanwhile stays whole.
void cluster::end_fault(const fault& f) {
  world_.note(packed(41, static_cast<std::uint64_t>(f.kind), f.node), "HEALED {}", words_of(f));
  net_.block(0, f.node, false);
  net_.block(f.node, 0, false);
  net_.slow_down(0, f.node, 0);
  net_.slow_down(f.node, 0, 0);
  devices_.spare();
}

void cluster::plan_requests() {
  for (const auto& r : scenario_.requests) {
    scripted_until_ = std::max(scripted_until_, r.at);
    ++unplayed_;
    world_.after(r.at, [this, &r] { submit(r, 100); });
  }
}

// A client whose server is not there tries again.
void cluster::submit(const planned_request& planned, int tries) {
  if (give(planned.request, planned.gateway, planned.cancel_after) || tries == 0) {
    --unplayed_;
    return;
  }
  world_.after(100 * millisecond, [this, &planned, tries] { submit(planned, tries - 1); });
}

bool cluster::give(generate_request request, std::uint32_t gateway, usec cancel_after) {
  for (const auto& p : processes_) {
    if (!p || p->leaving() || !p->has_gateway(gateway)) continue;
    auto* link = p->link(gateway);
    const auto id = request.id = link->next_id();
    people_.submitted(request, p->id());
    if (phase_ == phase::asking) fresh_.push_back(id);
    link->submit(std::move(request));
    if (cancel_after > 0)
      in_process(p->id(), cancel_after, [this, life = p->id(), gateway, id] {
        people_.cancelled(id);
        find(life)->link(gateway)->cancel(id, finish_reason::abort);
      });
    return true;
  }
  return false;
}

void cluster::plan_bug() {
  if (bug_ == plant::stale_epoch) devices_.reuse_results();
  if (bug_ != plant::lost_result) return;
  const auto kind = [results = world_.random.chance(50)](const caf::message& message) {
    return results ? message.match_elements<actors::step_done>()
                   : message.match_elements<actors::token_batch>();
  };
  world_.after(world_.random.between(600, 6000) * millisecond,
               [this, kind] { net_.lose_one(kind); });
}

bool cluster::healthy() const {
  return std::all_of(processes_.begin(), processes_.end(),
                     [](const auto& p) { return p && p->ready(); });
}

// Once nothing is broken any more: everything has ended, the cluster serves, and then holds
// nothing.
void cluster::look() {
  world_.after(look_interval, [this] { look(); });
  if (world_.now() < scripted_until_) return;
  const bool ended = unplayed_ == 0 && people_.all_ended();
  if (world_.now() > scripted_until_ + patience)
    return world_.broken(ended ? "the cluster does not serve again"
                               : "requests do not end: " + people_.open_words());
  if (phase_ == phase::playing && ended && healthy() && devices_.idle()) {
    phase_ = phase::asking;
    recovery_ = world_.now() - scripted_until_;
    for (std::uint32_t g = 0; g < scenario_.config->gateways.size(); ++g) {
      generate_request request;
      request.prompt = {7, 7, static_cast<token_id>(g)};
      request.sampling.temperature = 0;
      request.sampling.max_tokens = 4;
      give(std::move(request), g, 0);
    }
  } else if (phase_ == phase::asking && ended) {
    phase_ = phase::resting;
    rest_until_ = world_.now() + rest;
    for (const auto id : fresh_)
      if (!people_.served(id)) world_.broken("a fresh request is not served: " + people_.how(id));
  } else if (phase_ == phase::resting && world_.now() >= rest_until_) {
    check_idle();
    check_patience();
    phase_ = phase::done;
  }
}

void cluster::check_idle() {
  if (stats_.running + stats_.waiting + stats_.in_flight + stats_.blocks_used != 0)
    world_.broken(fmt::format(
        "an idle scheduler holds {} running, {} waiting, {} steps, {} of {} "
        "blocks",
        stats_.running, stats_.waiting, stats_.in_flight, stats_.blocks_used, stats_.blocks_total));
}

// Streams outlast a fault where they may wait for long enough. Not those of a gateway that ended,
// and not a second fault: what was in flight both times may be its cause.
void cluster::check_patience() {
  const bool first_lives = processes_.front()->id() == first_life_;
  if (!first_lives || faults_told_ > 1 || scenario_.config->health.resume_timeout_ms < patient_ms)
    return;
  if (const auto failed = people_.failures(0); failed != 0)
    world_.broken(
        fmt::format("{} requests failed with a fault that they should have outlasted", failed));
}

void cluster::note_change(const runtime::scheduler& core) {
  core.check_integrity();
  stats_ = core.stats();
  if (bug_ == plant::double_free && world_.random.chance(5) && free_twice(core)) {
    world_.note(packed(42), "the blocks of a running sequence are freed: planted");
    bug_ = plant::none;
  }
}

void cluster::note_fault(const std::string& node, const std::string& cause) {
  ++faults_told_;
  world_.note(packed(43, node.size(), cause.size()), "a fault of \"{}\" is told: {}", node, cause);
  if (world_.now() > excused_until_)
    world_.broken(
        fmt::format("a fault of \"{}\" was told ({}), and nothing was broken", node, cause));
}

}  // namespace dinfer::sim
