// SPDX-License-Identifier: Apache-2.0
// See node_process.hpp. Builds the actors of one process, and takes them down within a bound.
#include "actors/node_process.hpp"

#include "actors/child_keeper.hpp"
#include "actors/dialer.hpp"
#include "actors/directory.hpp"
#include "actors/gateway.hpp"
#include "actors/network.hpp"
#include "actors/node.hpp"
#include "actors/orders.hpp"
#include "actors/supervisor.hpp"
#include "actors/system.hpp"
#include "actors/wire.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/log.hpp"

#include <fmt/format.h>
#include <unistd.h>
#include <caf/io/all.hpp>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace dinfer::actors {

namespace {

constexpr milliseconds teardown_limit{3000}, last_words{250};

// Own fronts have no section; they are told apart by their nodes.
constexpr std::uint32_t own_fronts = 1 << 15;

struct served_gateway {
  std::shared_ptr<gateway_board> board;
  std::shared_ptr<front> face;
  gateway_actor actor;
};

}  // namespace

struct node_process::impl {
  explicit impl(node_options o)
      : options(std::move(o)), config(std::make_shared<cluster_config>(options.config)) {}

  result<void> start();
  void make_system();
  result<void> start_gateways(const net::served_model& model);
  template <class Make>
  result<void> start_gateway(std::uint32_t index, const net::served_model& model, Make make_front);
  result<void> publish();
  void spawn_first(const hello& ours);
  void spawn_node(const hello& ours);
  void keep_children();
  void end(int code, const std::string& why);
  void note(const engine_notice& notice);
  bool take_down();
  // Without a pool of our own every actor has a thread.
  bool apart() const noexcept { return options.system != nullptr; }
  void say(const std::function<void(const std::string&)>& to, const std::string& line) const {
    if (to) to(line);
  }

  node_options options;
  std::shared_ptr<const cluster_config> config;
  std::unique_ptr<own_system> own;
  caf::actor_system* system = nullptr;  // own's, or that of the options
  // Held by actors that have threads, which CAF's network keeps for good if it is stopped before it
  // was told of their end, and by what actors may call us back through; `all_ended` when the last
  // is gone.
  std::promise<void> no_caller;
  std::future<void> all_ended = no_caller.get_future();
  std::shared_ptr<void> life{nullptr, [this](void*) { no_caller.set_value(); }};
  std::vector<served_gateway> gateways;
  network_actor network;
  dialer_actor dialer;
  supervisor_actor supervisor;
  directory_actor directory;
  node_actor node;
  std::vector<std::size_t> children;  // indices of the nodes that this process keeps
  std::unique_ptr<child_keeper> keeper;

  mutable std::mutex mutex;
  std::condition_variable ended;
  std::optional<int> code;
  std::string reason;
  node_status status;
  std::chrono::steady_clock::time_point asked;
  std::uint64_t asked_generated = 0, asked_prompt = 0;
};

result<void> node_process::impl::start() {
  auto& parts = options.parts;
  DINFER_TRY(const auto head, parts.read_model(*config));
  const auto& mine = config->nodes[options.node_index];
  runtime::phase_clock clock;
  const auto end_phase = [&](const char* phase) {
    clock.end(phase);
    if (parts.on_phase) parts.on_phase(phase, clock.phases().back().ms / 1e3);
  };
  DINFER_TRY(const auto host, parts.host(mine));
  end_phase("find_devices");
  hello ours{mine.name,         static_cast<std::uint32_t>(options.node_index),
             parts.build,       parts.protocol,
             parts.config_text, head.fingerprint,
             words_of(host),    static_cast<std::uint32_t>(::getpid())};
  make_system();
  clock.resume();
  if (!options.on_check) DINFER_CHECK(start_gateways(head.served));
  end_phase("http");
  if (config->nodes.size() > 1) {
    network = spawn_network(*system, parts.own);
    dialer = spawn_state<actors::dialer>(*system, true, dialer_setup{network, parts.own});
    hold_until_end(dialer, life);
  }
  if (options.node_index == 0) spawn_first(ours);
  DINFER_CHECK(publish());
  spawn_node(ours);
  keep_children();
  return {};
}

void node_process::impl::make_system() {
  system = options.system;
  if (system != nullptr) return;
  own = std::make_unique<own_system>(
      system_options{config->health, options.parts.protocol, config->nodes.size() > 1, false});
  system = &own->system();
}

result<void> node_process::impl::start_gateways(const net::served_model& model) {
  using link_ptr = std::shared_ptr<net::engine_link>;
  auto served = runtime::gateways_of(*config, options.node_index);
  // Who brings a front of its own has no use for the gateway that nobody listed.
  if (options.make_own_front && config->gateways.empty()) served.clear();
  for (const auto& [index, section] : served) {
    const auto make = [&, &listed = section](link_ptr link) {
      return options.parts.make_front(listed, std::move(link));
    };
    DINFER_CHECK(start_gateway(index, model, make));
  }
  if (!options.make_own_front) return {};
  const auto make = [&](link_ptr link) {
    return result<std::shared_ptr<front>>(options.make_own_front(std::move(link)));
  };
  return start_gateway(own_fronts + static_cast<std::uint32_t>(options.node_index), model, make);
}

template <class Make>
result<void> node_process::impl::start_gateway(std::uint32_t index, const net::served_model& model,
                                               Make make_front) {
  served_gateway made;
  made.board = std::make_shared<gateway_board>(index, options.parts.random());
  auto link = std::make_shared<gateway_link>(made.board);
  DINFER_TRY(auto face, make_front(link));
  made.face = std::move(face);
  made.actor = spawn_state<gateway>(
      *system, true, gateway_setup{index, made.board, [to = made.face](net::engine_events events) {
                                     to->deliver(std::move(events));
                                   }});
  hold_until_end(made.actor, life);
  link->bind(made.actor);
  gateways.push_back(made);
  DINFER_CHECK(made.face->start());
  made.face->model_ready(model);
  return {};
}

void node_process::impl::spawn_first(const hello& ours) {
  auto on_change = [this, alive = life](const runtime::scheduler& core) {
    const auto stats = core.stats();
    {
      const std::lock_guard lock(mutex);
      status.stats = stats;
    }
    if (options.parts.on_stats) options.parts.on_stats(stats);
  };
  supervisor = spawn_state<actors::supervisor>(
      *system, apart(),
      supervisor_setup{config, options.parts.make_plan, dialer, true, options.parts.steps_ahead,
                       on_change, options.parts.on_phase, options.parts.on_fault, options.on_check,
                       options.on_progress, options.on_plan, options.on_ready, options.on_error});
  directory =
      spawn_state<actors::directory>(*system, apart(), directory_setup{config, ours, supervisor});
}

result<void> node_process::impl::publish() {
  const auto& mine = config->nodes[options.node_index];
  if (config->nodes.size() < 2 || !mine.parent.empty()) return {};
  // Only the first node can be spoken to; the others keep their port so that the first can tell a
  // node that is not there from one that cannot join.
  const auto bound = open_port(*system, network, directory, mine.address, mine.port);
  if (!bound)
    return fail(errc::io_error,
                fmt::format("node {}: cannot listen on {}:{}: {}", mine.name, mine.address,
                            mine.port, bound.error().message),
                "port");
  return {};
}

void node_process::impl::spawn_node(const hello& ours) {
  node_setup setup;
  setup.config = config;
  setup.index = options.node_index;
  setup.make_runner = options.parts.make_runner;
  setup.life = life;
  setup.stages_too = apart();
  setup.ours = ours;
  for (const auto& made : gateways) {
    const auto index = static_cast<std::uint32_t>(made.board->next_id() >> 48);
    setup.gateways.emplace_back(index, made.actor);
  }
  setup.directory = directory;
  setup.dialer = dialer;
  setup.on_notice = [this](const engine_notice& notice) { note(notice); };
  setup.on_exit = [this](int c, const std::string& why) { end(c, why); };
  setup.on_progress = options.on_progress;
  for (std::size_t i = 0; i < config->nodes.size(); ++i)
    if (config->nodes[i].parent == config->nodes[options.node_index].name) children.push_back(i);
  setup.end_child = [this](std::size_t index, std::uint32_t process) {
    const auto found = std::find(children.begin(), children.end(), index);
    const std::lock_guard lock(mutex);
    if (keeper && found != children.end())
      keeper->kill(static_cast<std::size_t>(found - children.begin()), static_cast<pid_t>(process));
  };
  node = spawn_state<actors::node>(*system, apart(), std::move(setup));
}

void node_process::impl::keep_children() {
  if (options.command.empty()) return;
  std::vector<std::vector<std::string>> commands;
  for (const auto index : children) {
    commands.push_back(options.command);
    commands.back().insert(commands.back().end(), {"--node", config->nodes[index].name});
  }
  if (commands.empty()) return;
  const std::lock_guard lock(mutex);
  keeper = std::make_unique<child_keeper>(std::move(commands), [this](const child_end& end) {
    const auto index = children[end.child];
    if (options.on_check && end.how.starts_with("exit code")) return;  // told why, and not again
    say(end.how == "exit code 0" ? options.on_progress : options.on_error,
        fmt::format("the process of node {} ended: {}; it is started again in {} ms",
                    config->nodes[index].name, end.how, end.again.count()));
    post(node, child_ended{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(end.pid),
                           end.how});
  });
}

void node_process::impl::note(const engine_notice& notice) {
  const std::lock_guard lock(mutex);
  status.engine.state = static_cast<net::engine_state>(notice.state);
  status.engine.stage = notice.stage;
  status.engine.reason = notice.reason;
  if (notice.epoch != UINT32_MAX) status.epoch = notice.epoch;
}

void node_process::impl::end(int c, const std::string& why) {
  {
    const std::lock_guard lock(mutex);
    if (code) return;
    code = c;
    if (c != runtime::exit_ok) reason = why;
  }
  if (c != runtime::exit_ok) say(options.on_error, why);
  ended.notify_all();
}

// Actors end on request, except a shard whose device hangs: it is left behind with its thread.
// False then; somebody may still call back.
bool node_process::impl::take_down() {
  if (!system) return true;
  // Children that were told to end do so; those of a node that leaves alone drain the engine first.
  if (keeper)
    keeper->stop(code == runtime::exit_ok
                     ? milliseconds(config->health.shutdown_timeout_ms) + last_words
                     : last_words);
  const auto stop = [](auto& handle) {
    if (handle) caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
    handle = std::decay_t<decltype(handle)>{};
  };
  {
    // A gateway that ends tells its clients; then their streams may close.
    const caf::scoped_actor self{*system};
    for (auto& made : gateways) {
      self->monitor(made.actor);
      caf::anon_send_exit(made.actor, caf::exit_reason::user_shutdown);
      bool told = true;
      self->receive([](const caf::down_msg&) {},
                    caf::after(teardown_limit) >> [&] { told = false; });
      if (!told) DINFER_LOG_ERROR("a gateway does not end; leaving without it");
      made.face->stop(last_words);
    }
  }
  stop(node);
  stop(directory);
  stop(supervisor);
  stop(dialer);
  end_network(network, options.parts.own != nullptr);
  gateways.clear();
  life.reset();
  system = nullptr;
  if (all_ended.wait_for(teardown_limit) == std::future_status::ready)
    return own == nullptr || own->end(teardown_limit);
  return false;
}

node_process::node_process(node_options options)
    : impl_(std::make_unique<impl>(std::move(options))) {}

node_process::~node_process() {
  if (auto stopped = stop(); !stopped) DINFER_LOG_ERROR("{}", stopped.error().message);
}

result<void> node_process::stop() {
  if (!impl_) return {};
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->code) impl_->code = runtime::exit_failure;
  }
  impl_->ended.notify_all();
  if (impl_->take_down()) return {};
  [[maybe_unused]] auto* abandoned = impl_.release();
  return fail(errc::timeout, fmt::format("actors do not end within {} ms; they are left behind",
                                         teardown_limit.count()));
}

result<void> node_process::start() {
  impl_->asked = std::chrono::steady_clock::now();
  return impl_->start();
}

int node_process::wait() {
  std::unique_lock lock(impl_->mutex);
  impl_->ended.wait(lock, [this] { return impl_->code.has_value(); });
  return *impl_->code;
}

void node_process::drain(std::chrono::milliseconds timeout) {
  post(impl_->node, drain_engine{static_cast<std::uint32_t>(timeout.count())});
  {
    std::unique_lock lock(impl_->mutex);
    impl_->ended.wait_for(lock, timeout + last_words, [this] { return impl_->code.has_value(); });
  }
  impl_->end(runtime::exit_ok, "drained");
}

void node_process::abort() { impl_->end(runtime::exit_failure, "aborted"); }

node_status node_process::status() {
  const std::lock_guard lock(impl_->mutex);
  auto out = impl_->status;
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - impl_->asked).count();
  if (seconds > 0) {
    // A new life of the engine counts from zero again.
    const auto since = [&](std::uint64_t total, std::uint64_t before) {
      return static_cast<double>(total >= before ? total - before : total) / seconds;
    };
    out.generated_per_second = since(out.stats.generation_tokens, impl_->asked_generated);
    out.prompt_per_second = since(out.stats.prompt_tokens, impl_->asked_prompt);
  }
  impl_->asked = now;
  impl_->asked_generated = out.stats.generation_tokens;
  impl_->asked_prompt = out.stats.prompt_tokens;
  if (!impl_->gateways.empty()) {
    const auto seen = impl_->gateways.front().board->status();
    out.engine.running = seen.running;
    out.engine.waiting = seen.waiting;
    out.engine.last_step_age_ms = seen.last_step_age_ms;
  }
  return out;
}

std::uint16_t node_process::gateway_port(std::size_t i) const noexcept {
  return i < impl_->gateways.size() ? impl_->gateways[i].face->port() : 0;
}

bool node_process::ended() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->code.has_value();
}

std::string node_process::reason() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->reason;
}

}  // namespace dinfer::actors
