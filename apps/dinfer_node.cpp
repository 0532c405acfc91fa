// SPDX-License-Identifier: Apache-2.0
// dinfer-node: one process of a cluster, or all of it. Parses the command, starts the node, turns
// signals into drain and abort, and prints what a person wants to see: the plan, the address to
// talk to, a line of figures.
#include "actors/check_parts.hpp"
#include "actors/node_process.hpp"
#include "apps/findings_json.hpp"
#include "apps/options.hpp"
#include "apps/terminal.hpp"
#include "dinfer/version.hpp"
#include "net/tls/identity.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/log.hpp"
#include "runtime/base/metrics.hpp"
#include "runtime/base/toml_config.hpp"

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::apps {
namespace {

constexpr auto stat_period = std::chrono::seconds(10);

// Progress for a terminal is one line that changes; elsewhere every line stays.
class console {
 public:
  void progress(const std::string& line) {
    if (!terminal_) return say(line);
    draw_progress(share_of(line) + line);
    open_ = true;
  }

  void say(const std::string& line) {
    if (open_.exchange(false)) draw_progress({});
    std::fprintf(stderr, "%s\n", line.c_str());
    std::fflush(stderr);
  }

 private:
  // "loading weights: 72 %" gets a bar in front; other lines none.
  static std::string share_of(const std::string& line) {
    const auto colon = line.rfind(": ");
    if (colon == std::string::npos || !line.ends_with(" %")) return {};
    return bar(std::atoi(line.c_str() + colon + 2) / 100.0);
  }

  const bool terminal_ = progress_is_drawn();
  std::atomic<bool> open_{false};
};

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  return set;
}

// Waits for signals and prints figures while the node runs. Ends when `done` is set.
class watcher {
 public:
  watcher(actors::node_process& node, console& out, std::chrono::milliseconds drain)
      : node_(node), out_(out), drain_(drain), thread_([this] { run(); }) {}
  ~watcher() {
    done_ = true;
    thread_.join();
  }
  int last_signal() const noexcept { return signal_; }
  bool aborted() const noexcept { return aborted_; }

 private:
  void run() {
    const auto set = handled_signals();
    auto next = std::chrono::steady_clock::now() + stat_period;
    while (!done_) {
      const timespec tick{0, 100'000'000};
      const int caught = ::sigtimedwait(&set, nullptr, &tick);
      if (caught == SIGTERM || caught == SIGINT) on_signal(caught);
      if (std::chrono::steady_clock::now() < next) continue;
      next += stat_period;
      print_figures();
    }
    if (drainer_.joinable()) drainer_.join();
  }

  void on_signal(int caught) {
    if (signal_ != 0) {
      aborted_ = true;
      out_.say("stopping now");
      node_.abort();
      return;
    }
    signal_ = caught;
    out_.say("draining: running requests may finish; a second signal stops at once");
    drainer_ = std::thread([this] { node_.drain(drain_); });
  }

  void print_figures() {
    const auto s = node_.status();
    if (s.stats.running + s.stats.waiting == 0 && s.generated_per_second == 0) return;
    const double blocks = s.stats.blocks_total > 0 ? s.stats.blocks_total : 1;
    out_.say(
        fmt::format("running {} waiting {} | prompt {:.1f} tok/s, generated {:.1f} tok/s | "
                    "kv cache {:.1f} %, prefix hits {:.1f} % | preemptions {}",
                    s.stats.running, s.stats.waiting, s.prompt_per_second, s.generated_per_second,
                    100.0 * s.stats.blocks_used / blocks,
                    s.stats.prefix_queries > 0 ? 100.0 * static_cast<double>(s.stats.prefix_hits) /
                                                     static_cast<double>(s.stats.prefix_queries)
                                               : 0.0,
                    s.stats.preemptions));
  }

  actors::node_process& node_;
  console& out_;
  const std::chrono::milliseconds drain_;
  std::atomic<bool> done_{false}, aborted_{false};
  std::atomic<int> signal_{0};
  std::thread drainer_;
  std::thread thread_;  // last: starts when all else is there
};

void apply_environment(const node_section& node) {
  for (const auto& [name, value] : node.env) ::setenv(name.c_str(), value.c_str(), 1);
}

// What is worth a person's attention before a certificate ends: to exchange it takes a restart.
constexpr auto certificate_notice = std::chrono::hours(24 * 30);

void greet_network(console& out, const cluster_config& config, const net::tls_identity* own) {
  if (config.security.insecure_network)
    out.say(own == nullptr
                ? "warning: insecure_network = true: anyone who reaches this network can control "
                  "the cluster"
                : "insecure_network = true, but nodes speak TLS: it is not needed for them");
  if (own == nullptr) return;
  out.say("TLS between nodes: " + own->description());
  if (own->valid_until() - std::chrono::system_clock::now() < certificate_notice)
    out.say(
        "warning: the certificate ends soon; dinfer certs makes a new one, and a restart of "
        "the node takes it");
  if (runtime::on_cuda(config) && config.nodes.size() > 1)
    out.say(
        "warning: NCCL does not encrypt what GPUs of different hosts exchange; keep its network "
        "closed (NCCL_SOCKET_IFNAME)");
}

void greet(console& out, const node_command& command, const net::tls_identity* own) {
  const auto& config = command.config;
  const auto& node = config.nodes[command.node_index];
  out.say(fmt::format("dinfer {}, node {} of {} ({}:{})", version(), node.name, config.nodes.size(),
                      node.address, node.port));
  if (!config.file.empty()) out.say("configuration: " + config.file);
  for (const auto& [name, value] : command.overrides) out.say("  " + name + " = " + value);
  greet_network(out, config, own);
}

int print_plan(const node_command& command, const actors::node_parts& parts) {
  auto plan = parts.make_plan(command.config, {});
  if (!plan) {
    std::fprintf(stderr, "dinfer-node: %s\n", plan.error().message.c_str());
    return runtime::exit_code_of(plan.error().code);
  }
  std::printf("%s\n", plan->text.c_str());
  return 0;
}

// A plan may be asked for where no certificates are.
result<std::shared_ptr<const net::tls_identity>> identity_of(const node_command& command) {
  if (command.action == node_action::plan) return nullptr;
  const auto& node = command.config.nodes[command.node_index];
  return net::tls_identity::load(command.config.security,
                                 node.parent.empty() ? node.name : node.parent);
}

// To run this program again the way that it was run.
std::vector<std::string> own_command(int argc, char** argv) {
  std::error_code absent;
  std::vector<std::string> out{std::filesystem::read_symlink("/proc/self/exe", absent).string()};
  out.insert(out.end(), argv + 1, argv + argc);
  return out;
}

int run(node_command command, actors::node_parts parts, std::vector<std::string> own_command) {
  console out;
  greet(out, command, parts.own.get());
  const std::chrono::milliseconds drain(command.config.health.shutdown_timeout_ms);
  actors::node_options options;
  options.config = std::move(command.config);
  options.node_index = command.node_index;
  options.parts = std::move(parts);
  options.command = std::move(own_command);
  if (command.action == node_action::check) {
    options.on_check = [json = command.json](const std::vector<runtime::finding>& found) {
      std::fputs((json ? findings_json(found) + "\n" : runtime::render(found)).c_str(), stdout);
      std::fflush(stdout);
    };
  }
  options.on_progress = [&](const std::string& line) { out.progress(line); };
  options.on_plan = [&](const std::string& text) { out.say(text); };
  options.on_ready = [&](const std::string& text) { out.say(text); };
  options.on_error = [&](const std::string& text) { out.say("dinfer-node: " + text); };
  actors::node_process node(std::move(options));
  if (auto up = node.start(); !up) {
    out.say("dinfer-node: " + up.error().message);
    return runtime::exit_code_of(up.error().code);
  }
  int code = 0;
  {
    watcher signals(node, out, drain);
    code = node.wait();
    if (signals.aborted()) code = 128 + signals.last_signal();
  }
  if (auto stopped = node.stop(); !stopped) {
    out.say("dinfer-node: " + stopped.error().message);
    runtime::close_log();
    std::_Exit(code);  // those that are left behind still use what exit() would destroy
  }
  return code;
}

int main_of(int argc, char** argv) {
  auto parsed = parse_node_command(argc, argv);
  if (!parsed.run) return parsed.exit_code;
  auto& command = parsed.command;
  const auto& node = command.config.nodes[command.node_index];
  apply_environment(node);
  auto own = identity_of(command);
  if (!own) {
    std::fprintf(stderr, "dinfer-node: %s\n", own.error().message.c_str());
    return runtime::exit_code_of(own.error().code);
  }
  // Every thread inherits the mask: signals are taken by the watcher alone. A closed socket is an
  // error code.
  const auto set = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  runtime::open_log(command.config.log.level, command.config.log.format == "json", node.name);
  auto metrics = std::make_shared<runtime::metrics_registry>();
  auto parts = actors::default_parts(command.config, metrics, std::move(*own));
  if (command.action == node_action::check)
    parts = actors::check_parts(command.config, std::move(parts));
  const int code = command.action == node_action::plan
                       ? print_plan(command, parts)
                       : run(std::move(command), std::move(parts), own_command(argc, argv));
  runtime::close_log();
  return code;
}

}  // namespace
}  // namespace dinfer::apps

int main(int argc, char** argv) { return dinfer::apps::main_of(argc, argv); }
