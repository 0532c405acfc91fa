// SPDX-License-Identifier: Apache-2.0
// A node of fake devices as a process of its own, for process_test.cpp; with keep=1 instead a
// process that keeps a child and prints its id ("child <pid>"), for child_keeper_test.cpp. The
// first node's gateway asks for streams as soon as the engine is ready, and again after every
// failure; what happens goes to stdout, one line each:
//   state <number> <stage>: <reason>    when it changes
//   streaming                           every request has had a token
//   last <id> <finish> <message>        a request's last event
//   say <line>                          what a person would read
//   exit <code> <reason>
#include "actors/child_keeper.hpp"
#include "actors/fake_parts.hpp"
#include "actors/node_process.hpp"
#include "runtime/base/exit_code.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

namespace dinfer::actors {
namespace {

constexpr int streams = 4;
using std::chrono::milliseconds;
using arguments = std::map<std::string, std::string>;

void line(const std::string& text) {
  std::fprintf(stdout, "%s\n", text.c_str());
  std::fflush(stdout);
}

class stdout_front : public front {
 public:
  explicit stdout_front(std::shared_ptr<net::engine_link> link) : link_(std::move(link)) {}
  ~stdout_front() override { stop(milliseconds(0)); }

  result<void> start() override {
    thread_ = std::thread([this] { watch(); });
    return {};
  }
  std::uint16_t port() const noexcept override { return 0; }
  void model_ready(const net::served_model&) override {}
  void deliver(net::engine_events events) override {
    const std::lock_guard lock(mutex_);
    for (const auto& event : events.tokens) {
      if (!event.tokens.empty() && streaming_.insert({event.id, true}).second &&
          streaming_.size() == streams)
        line("streaming");
      if (event.finish != finish_reason::none)
        line("last " + std::to_string(event.id) + " " + std::string(to_string(event.finish)) + " " +
             event.message);
    }
    for (const auto& [id, why] : events.rejected)
      line("last " + std::to_string(id) + " rejected " + why.message);
  }
  void stop(milliseconds) override {
    done_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  void watch() {
    std::string seen;
    while (!done_) {
      const auto s = link_->status();
      const auto text =
          "state " + std::to_string(static_cast<int>(s.state)) + " " + s.stage + ": " + s.reason;
      if (text != seen) {
        line(text);
        if (s.state == net::engine_state::ready) ask();
      }
      seen = text;
      std::this_thread::sleep_for(milliseconds(1));
    }
  }
  void ask() {
    {
      const std::lock_guard lock(mutex_);
      streaming_.clear();
    }
    for (int i = 0; i < streams; ++i) {
      generate_request request;
      request.id = link_->next_id();
      request.prompt = {1, 2, 3, i};
      request.sampling.temperature = 0;
      request.sampling.max_tokens = 1'000'000;
      request.sampling.ignore_eos = true;
      link_->submit(std::move(request));
    }
  }

  std::shared_ptr<net::engine_link> link_;
  std::atomic<bool> done_{false};
  std::mutex mutex_;
  std::map<request_id, bool> streaming_;
  std::thread thread_;
};

cluster_config config_of(arguments& args) {
  cluster_config config;
  std::istringstream addresses(args["nodes"]);
  std::string address;
  while (std::getline(addresses, address, ',')) {
    node_section node;
    node.name = std::string(1, static_cast<char>('a' + config.nodes.size()));
    node.address = address;
    node.port = static_cast<std::uint16_t>(std::stoul(args["port"]));
    node.devices = {"fake:0"};
    config.nodes.push_back(std::move(node));
  }
  if (args.contains("first_port"))
    config.nodes.front().port = static_cast<std::uint16_t>(std::stoul(args["first_port"]));
  config.parallel.pipeline_parallel_size = static_cast<std::uint32_t>(config.nodes.size());
  config.parallel.tensor_parallel_size = 1;
  config.gateways.resize(1);
  config.model.max_model_len = 1 << 22;
  config.cache.blocks = 1 << 20;
  config.health.startup_timeout_ms =
      args.contains("startup_ms") ? static_cast<std::uint32_t>(std::stoul(args["startup_ms"]))
                                  : 30'000;
  return config;
}

int keep() {
  const child_keeper keeper({{"/bin/sh", "-c", "echo child $$; exec sleep 1000"}}, {});
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

int run(arguments args) {
  node_options options;
  options.config = config_of(args);
  options.node_index = std::stoul(args["index"]);
  fake_parts_options fakes;
  fakes.adjust = [](runtime::fake_options& fake) {
    fake.step_time = std::chrono::microseconds(2000);
    fake.sleep = [](std::chrono::microseconds time) { std::this_thread::sleep_for(time); };
  };
  options.parts = fake_parts(options.config, std::move(fakes));
  options.parts.config_text = "x = 1";
  options.parts.make_front = [](const gateway_section&, std::shared_ptr<net::engine_link> link)
      -> result<std::unique_ptr<front>> { return std::make_unique<stdout_front>(std::move(link)); };
  if (args.contains("build")) options.parts.build = args["build"];
  if (args.contains("protocol"))
    options.parts.protocol = static_cast<std::uint32_t>(std::stoul(args["protocol"]));
  if (args.contains("config")) options.parts.config_text = args["config"];
  if (args.contains("model"))
    options.parts.read_model = [model = args["model"]](const cluster_config&) {
      return result<model_head>{model_head{model, {}}};
    };
  options.on_progress = options.on_error =
      options.on_ready = [](const std::string& text) { line("say " + text); };
  node_process node(std::move(options));
  if (auto up = node.start(); !up) {
    line("exit " + std::to_string(runtime::exit_code_of(up.error().code)) + " " +
         up.error().message);
    return runtime::exit_code_of(up.error().code);
  }
  const int code = node.wait();
  line("exit " + std::to_string(code) + " " + node.reason());
  if (!node.stop()) std::_Exit(code);  // threads that are left behind outlive static data
  return code;
}

}  // namespace
}  // namespace dinfer::actors

int main(int argc, char** argv) {
  dinfer::actors::arguments args;
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const auto equals = text.find('=');
    if (equals == std::string::npos) return dinfer::runtime::exit_bad_config;
    args[text.substr(0, equals)] = text.substr(equals + 1);
  }
  if (args.contains("keep")) return dinfer::actors::keep();
  return dinfer::actors::run(std::move(args));
}
