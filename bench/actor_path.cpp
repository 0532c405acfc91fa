// SPDX-License-Identifier: Apache-2.0
// How long devices wait for the actors: the time from the end of a step to the begin of the next
// one on every rank, with fake runners that note both. Four ranks of one stage, in one process
// or on two nodes beside a third that schedules; back to back and with steps of 5 ms; waiting for
// each result and one step ahead. Runs its nodes as child processes of itself.
//   bench_actor_path [steps [folder]]     folder: of dinfer certs --out, for nodes a b c; with TLS
#include "actors/fake_parts.hpp"
#include "actors/node_process.hpp"
#include "runtime/base/exit_code.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::actors {
namespace {

constexpr std::uint16_t port = 24'242;
constexpr std::uint32_t warm_up = 20;

struct scenario {
  std::size_t nodes = 1;
  std::uint32_t step_us = 0;
  std::uint32_t ahead = 1;
  std::uint32_t steps = 1000;
  std::string out;           // prefix of the files with the gaps
  std::string certificates;  // folder; empty: without TLS
};

std::int64_t clock_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// The gaps of one rank, written when it is destroyed with its runner.
class gap_log {
 public:
  explicit gap_log(std::string file) : file_(std::move(file)) {}
  ~gap_log() {
    std::ofstream out(file_);
    for (std::size_t i = warm_up; i < gaps_.size(); ++i) out << gaps_[i] << '\n';
  }
  void note(bool begins) {
    const auto time = clock_ns();
    if (begins && ended_ != 0) gaps_.push_back(time - ended_);
    if (!begins) ended_ = time;
  }

 private:
  std::string file_;
  std::int64_t ended_ = 0;
  std::vector<std::int64_t> gaps_;
};

// Asks for one stream of as many tokens as steps, then lets the cluster drain.
class one_stream : public front {
 public:
  one_stream(std::shared_ptr<net::engine_link> link, std::uint32_t steps)
      : link_(std::move(link)), steps_(steps) {}
  result<void> start() override { return {}; }
  std::uint16_t port() const noexcept override { return 0; }
  void model_ready(const net::served_model&) override {}
  void deliver(net::engine_events events) override {
    for (const auto& event : events.tokens) {
      if (event.finish == finish_reason::none) continue;
      const std::lock_guard lock(mutex_);
      done_ = true;
      changed_.notify_all();
    }
  }
  void stop(std::chrono::milliseconds) override {}

  void run() {
    while (link_->status().state != net::engine_state::ready)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    generate_request request;
    request.id = link_->next_id();
    request.prompt = {1, 2, 3};
    request.sampling.temperature = 0;
    request.sampling.max_tokens = steps_;
    request.sampling.ignore_eos = true;
    link_->submit(std::move(request));
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [this] { return done_; });
  }

 private:
  std::shared_ptr<net::engine_link> link_;
  std::uint32_t steps_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
};

cluster_config config_of(const scenario& s) {
  cluster_config config;
  for (std::size_t n = 0; n < s.nodes; ++n) {
    node_section node;
    node.name = std::string(1, static_cast<char>('a' + n));
    node.address = "127.0.0." + std::to_string(n + 1);
    node.port = port;
    config.nodes.push_back(std::move(node));
  }
  // The first of three nodes only schedules, so that every plan and result crosses a socket.
  for (std::size_t rank = 0; rank < 4; ++rank)
    config.nodes[s.nodes == 1 ? 0 : 1 + rank / 2].devices.push_back("fake:" + std::to_string(rank));
  config.parallel.tensor_parallel_size = 4;
  config.parallel.pipeline_parallel_size = 1;
  if (!s.certificates.empty())
    config.security = {false, s.certificates + "/ca.crt", s.certificates + "/{node}.crt",
                       s.certificates + "/{node}.key"};
  config.gateways.resize(1);
  config.model.max_model_len = s.steps + 16;
  config.cache.blocks = 2 * (s.steps / 16 + 4);
  return config;
}

int run_node(std::size_t index, const scenario& s) {
  node_options options;
  options.config = config_of(s);
  options.node_index = index;
  fake_parts_options fakes;
  fakes.adjust = [&s](runtime::fake_options& fake) {
    auto log = std::make_shared<gap_log>(s.out + std::to_string(fake.layout.rank));
    fake.on_step = [log](runtime::step_id, bool begins) { log->note(begins); };
    fake.step_time = std::chrono::microseconds(s.step_us);
    if (s.step_us > 0)
      fake.sleep = [](std::chrono::microseconds time) { std::this_thread::sleep_for(time); };
  };
  options.parts = fake_parts(options.config, std::move(fakes));
  options.parts.steps_ahead = s.ahead;
  auto own = net::tls_identity::load(options.config.security, options.config.nodes[index].name);
  if (!own) {
    std::fprintf(stderr, "%s\n", own.error().message.c_str());
    return runtime::exit_failure;
  }
  options.parts.own = std::move(*own);
  one_stream* stream = nullptr;
  options.parts.make_front =
      [&](const gateway_section&,
          std::shared_ptr<net::engine_link> link) -> result<std::unique_ptr<front>> {
    auto made = std::make_unique<one_stream>(std::move(link), s.steps);
    stream = made.get();
    return made;
  };
  options.on_error = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  node_process node(std::move(options));
  if (auto up = node.start(); !up) {
    std::fprintf(stderr, "%s\n", up.error().message.c_str());
    return runtime::exit_failure;
  }
  if (stream != nullptr) {
    stream->run();
    node.drain(std::chrono::milliseconds(2000));
  }
  return node.wait();
}

void report(const scenario& s, double target_us) {
  std::vector<double> all;
  for (int rank = 0; rank < 4; ++rank) {
    const auto file = s.out + std::to_string(rank);
    std::ifstream in(file);
    for (double ns = 0; in >> ns;) all.push_back(ns / 1000);
    ::unlink(file.c_str());
  }
  std::sort(all.begin(), all.end());
  const auto at = [&](double q) {
    return all.empty() ? 0 : all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))];
  };
  const auto text = fmt::format(
      "{:<12} {:<13} {:<15} gap median {:8.1f} us  p99 {:8.1f} us  target {:5.0f} us  {:4.2f} of "
      "it "
      "({} gaps)",
      s.nodes == 1 ? "one process" : "3 processes", s.step_us == 0 ? "back to back" : "5 ms steps",
      s.ahead == 0 ? "result awaited" : "one step ahead", at(0.5), at(0.99), target_us,
      at(0.5) / target_us, all.size());
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void measure(scenario s, double target_us) {
  s.out = "/tmp/dinfer_actor_path." + std::to_string(::getpid()) + ".";
  std::vector<pid_t> children;
  for (std::size_t index = 0; index < s.nodes; ++index) {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto arguments = std::to_string(index) + " " + std::to_string(s.nodes) + " " +
                             std::to_string(s.step_us) + " " + std::to_string(s.ahead) + " " +
                             std::to_string(s.steps) + " " + s.out;
      ::execl("/proc/self/exe", "bench_actor_path", "--node", arguments.c_str(),
              s.certificates.c_str(), nullptr);
      ::_exit(127);
    }
    children.push_back(child);
  }
  for (const auto child : children) ::waitpid(child, nullptr, 0);
  report(s, target_us);
}

int main_of(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--node") {
    scenario s;
    std::size_t index = 0;
    char out[256] = {};
    if (std::sscanf(argv[2], "%zu %zu %u %u %u %255s", &index, &s.nodes, &s.step_us, &s.ahead,
                    &s.steps, out) != 6)
      return runtime::exit_bad_config;
    s.out = out;
    s.certificates = argv[3];
    return run_node(index, s);
  }
  // Steps without length cannot hide the way; steps with one should, but for taking the next plan
  // from the mailbox.
  const auto steps = argc > 1 ? static_cast<std::uint32_t>(std::max(50, std::atoi(argv[1]))) : 500;
  for (const std::size_t nodes : {std::size_t{1}, std::size_t{3}})
    for (const std::uint32_t step_us : {0U, 5000U})
      for (const std::uint32_t ahead : {0U, 1U})
        measure({nodes, step_us, ahead, steps, {}, argc > 2 ? argv[2] : ""},
                ahead == 1 && step_us > 0 ? 20
                : nodes == 1              ? 100
                                          : 300);
  return 0;
}

}  // namespace
}  // namespace dinfer::actors

int main(int argc, char** argv) { return dinfer::actors::main_of(argc, argv); }
