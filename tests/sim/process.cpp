// SPDX-License-Identifier: Apache-2.0
// See process.hpp.
#include "tests/sim/process.hpp"

#include "actors/fake_parts.hpp"
#include "actors/wire.hpp"
#include "runtime/schedule/step_codec.hpp"

#include <caf/scoped_execution_unit.hpp>

#include <algorithm>
#include <utility>

namespace dinfer::sim {

namespace {

using namespace actors;

constexpr actors::clock_time begin{std::chrono::seconds(1)};  // of every clock

clock_time clock_at(usec time) { return begin + std::chrono::microseconds(time); }

// The middleman would do this; it has to be done before the first actor is there.
void name_system(caf::actor_system& system, process_id id) {
  const_cast<caf::node_id&>(system.node()) = node_id_of(id);
}

node_parts make_parts(const surroundings& around, process_id id, std::uint32_t node) {
  fake_parts_options fakes;
  fakes.vocabulary = vocabulary;
  auto parts = fake_parts(*around.config, std::move(fakes));
  parts.make_runner = [make = parts.make_runner, room = &around.devices, id, node](
                          const runtime::runner_options& rank,
                          const node_section& here) -> result<std::unique_ptr<runtime::runner>> {
    DINFER_TRY(auto fake, make(rank, here));
    return room->make(std::move(fake), id, node);
  };
  parts.random = [time = &around.time] { return time->random.next() >> 24; };
  return parts;
}

}  // namespace

dialer_actor::behavior_type sim_dialer::make_behavior() {
  return {
      [this](const dial& message) -> caf::result<directory_actor> {
        auto promise = self_->make_response_promise<directory_actor>();
        const auto node = static_cast<std::uint32_t>(std::stoul(message.address));
        setup_.net->dial(setup_.id, node, [this, promise](result<caf::strong_actor_ptr> found) {
          caf::scoped_execution_unit unit{&self_->home_system()};
          self_->context(&unit);  // nobody runs this actor now
          auto answer = promise;
          if (found) answer.deliver(caf::actor_cast<directory_actor>(*found));
          else answer.deliver(to_caf(found.error()));
        });
        return promise;
      },
      // Only words for people come from it.
      [](const probe&) -> caf::result<welcome> {
        return to_caf({errc::peer_lost, "refused", {}});
      },
  };
}

process::process(surroundings& around, process_id id, std::uint32_t node)
    : around_(around),
      id_(id),
      node_index_(node),
      system_(around.settings),
      scheduler_(dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler())),
      end_(around.net, id, node, system_),
      parts_(make_parts(around, id, node)) {
  name_system(system_, id);
  system_.await_actors_before_shutdown(false);
  scheduler_.clock().current_time = clock_at(around.time.now());
  around.time.note(packed(30, id, node), "process {} of node {} starts", id,
                   around.config->nodes[node].name);
  spawn_gateways();
  dialer_ = spawn_state<sim_dialer>(system_, false, sim_dialer::setup{&around.net, id});
  if (node == 0) spawn_first();
  spawn_node();
}

process::~process() {
  dead_ = true;
  around_.time.note(packed(31, id_), "process {} ends", id_);
  end_.close();
  const auto stop = [](auto& handle) {
    if (handle) caf::anon_send_exit(handle, caf::exit_reason::kill);
    handle = std::decay_t<decltype(handle)>{};
  };
  stop(node_);
  stop(directory_);
  stop(supervisor_);
  stop(dialer_);
  for (auto& made : gateways_) {
    stop(made.actor);
    made.link->bind(gateway_actor{});
  }
  while (scheduler_.try_run_once()) {
  }
}

void process::spawn_gateways() {
  const auto& config = *around_.config;
  for (std::uint32_t i = 0; i < config.gateways.size(); ++i) {
    if (config.gateways[i].node != config.nodes[node_index_].name) continue;
    served_gateway made;
    made.index = i;
    made.board = std::make_shared<gateway_board>(i, parts_.random());
    made.link = std::make_shared<gateway_link>(made.board);
    made.actor = spawn_state<actors::gateway>(
        system_, false, gateway_setup{i, made.board, [this](const net::engine_events& events) {
                                        if (!dead_) around_.people.take(id_, events);
                                      }});
    made.link->bind(made.actor);
    gateways_.push_back(std::move(made));
  }
}

void process::spawn_first() {
  supervisor_setup setup;
  setup.config = around_.config;
  setup.make_plan = parts_.make_plan;
  setup.dialer = dialer_;
  setup.detached = false;
  setup.on_change = [this](const runtime::scheduler& core) {
    if (dead_) return;
    steps_ = core.stats().steps;
    epoch_ = core.config().epoch;
    around_.on_change(core);
  };
  setup.on_fault = [this](const std::string& node, const std::string& cause) {
    if (!dead_) around_.on_fault(node, cause);
  };
  setup.on_progress = setup.on_ready = setup.on_error = [this](const std::string& line) {
    around_.time.note(packed(32, line.size()), "supervisor: {}", line);
  };
  supervisor_ = spawn_state<supervisor>(system_, false, std::move(setup));
  hello ours{around_.config->nodes[0].name,
             0,
             parts_.build,
             parts_.protocol,
             parts_.config_text,
             "fake",
             {}};
  directory_ =
      spawn_state<directory>(system_, false, directory_setup{around_.config, ours, supervisor_});
  end_.publish(caf::actor_cast<caf::strong_actor_ptr>(directory_));
}

void process::spawn_node() {
  node_setup setup;
  setup.config = around_.config;
  setup.index = node_index_;
  setup.make_runner = parts_.make_runner;
  setup.ours = {around_.config->nodes[node_index_].name,
                node_index_,
                parts_.build,
                parts_.protocol,
                parts_.config_text,
                "fake",
                {},
                id_};
  for (const auto& made : gateways_) setup.gateways.emplace_back(made.index, made.actor);
  setup.directory = directory_;
  setup.dialer = dialer_;
  setup.detached = false;
  setup.on_exit = [this](int code, const std::string& why) {
    around_.time.note(packed(33, id_, static_cast<std::uint64_t>(code)),
                      "process {} wants to end with {}: {}", id_, code, why);
    if (!dead_) around_.on_exit(id_, code);
  };
  setup.end_child = [this](std::size_t, std::uint32_t child) {
    if (!dead_) around_.end_child(child);
  };
  node_ = spawn_state<actors::node>(system_, false, std::move(setup));
}

void process::run_job(std::size_t which) {
  auto& queue = scheduler_.jobs;
  std::rotate(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(which),
              queue.begin() + static_cast<std::ptrdiff_t>(which) + 1);
  if (queue.front()->subtype() != caf::resumable::scheduled_actor) return scheduler_.run_once();
  auto* actor = static_cast<caf::scheduled_actor*>(queue.front());
  const auto* next = actor->mailbox().peek();
  if (next == nullptr) return scheduler_.run_once();
  around_.time.note(packed(34, id_, actor->id(), next->mid.integer_value()), "{} {} takes {}", id_,
                    actor->name(),
                    around_.time.tracing() ? next->content().stringify().substr(0, 120) : "");
  if (!next->content().match_elements<step_done>()) return scheduler_.run_once();
  const auto done = next->content().get_as<step_done>(0);
  const auto before = steps_;
  scheduler_.run_once();
  if (steps_ == before) return;  // it was not applied
  const auto result = runtime::decode_result(done.blob);
  if (done.epoch != epoch_ || result->epoch != epoch_)
    around_.time.broken(
        fmt::format("a result of epoch {} was applied in epoch {}", done.epoch, epoch_));
  if (!around_.devices.computed(*result))
    around_.time.broken(
        fmt::format("a result was applied as step {} of epoch {}, which is not "
                    "what was computed there",
                    done.step, epoch_));
}

std::optional<usec> process::next_timer() const {
  const auto& timers = scheduler_.clock().schedule();
  if (paused() || timers.empty()) return std::nullopt;
  const auto left = timers.begin()->first - begin;
  return std::max(around_.time.now(), std::chrono::ceil<std::chrono::microseconds>(left).count());
}

void process::catch_up() {
  auto& clock = scheduler_.clock();
  const auto time = clock_at(around_.time.now());
  const auto& timers = clock.schedule();
  if (timers.empty() || timers.begin()->first > time) clock.current_time = time;
  else scheduler_.advance_time(time - clock.current_time);
}

void process::pause() {
  around_.time.note(packed(35, id_), "process {} stands still", id_);
  around_.net.pause(end_);
}

void process::resume() {
  around_.time.note(packed(36, id_), "process {} goes on", id_);
  around_.net.resume(end_);
  catch_up();
  for (auto& event : std::exchange(held_, {})) event();
}

void process::when_awake(std::function<void()> event) {
  if (paused()) held_.push_back(std::move(event));
  else event();
}

void process::terminate(milliseconds timeout) {
  post(node_, drain_engine{static_cast<std::uint32_t>(timeout.count())});
}

void process::tell_child_ended(std::uint32_t node, process_id child, const std::string& how) {
  post(node_, child_ended{node, child, how});
}

void process::close_gateways() {
  for (auto& made : gateways_) caf::anon_send_exit(made.actor, caf::exit_reason::user_shutdown);
}

bool process::ready() const {
  return !paused() && !leaving_ &&
         std::all_of(gateways_.begin(), gateways_.end(), [](const served_gateway& made) {
           return made.board->status().state == net::engine_state::ready;
         });
}

const process::served_gateway* process::gateway(std::uint32_t index) const {
  for (const auto& made : gateways_)
    if (made.index == index) return &made;
  return nullptr;
}

net::engine_link* process::link(std::uint32_t index) const {
  const auto* found = gateway(index);
  return found == nullptr ? nullptr : found->link.get();
}

}  // namespace dinfer::sim
