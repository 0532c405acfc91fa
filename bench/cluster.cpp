// SPDX-License-Identifier: Apache-2.0
// The rows of apps/dinfer/engine_rows.hpp on whatever a cluster.conf describes, in one process: a
// node with all its actors and devices, and this program in the place of its gateway. Token ids in
// and out, no tokenizer, prefix cache off, 512 sequences at once, and prompts hold nobody up: steps
// are as large beside running answers as without. Other flags are those of dinfer-node, and have a
// value. The row "-" stands for those that standard input names, a line each, measured as they come
// (bench/turns.py).
//
//   bench_cluster --config FILE [--vocabulary N] [--repetitions N] [--NAME VALUE...] [ROW...]
#include "actors/node_process.hpp"
#include "apps/dinfer/engine_rows.hpp"
#include "bench/rows.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/toml_config.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace dinfer;
using bench::die;

namespace {

constexpr std::chrono::minutes patience{5};

// Submits requests and waits until all have ended.
class caller final : public actors::front {
 public:
  explicit caller(std::shared_ptr<net::engine_link> link) : link_(std::move(link)) {}
  result<void> start() override { return {}; }
  std::uint16_t port() const noexcept override { return 0; }
  void model_ready(const net::served_model&) override {}
  void stop(std::chrono::milliseconds) override {}

  void deliver(net::engine_events events) override {
    const std::lock_guard lock(mutex_);
    for (const auto& refused : events.rejected) end(refused.second.message);
    for (const auto& event : events.tokens) {
      tokens_ += event.tokens.size();
      if (event.finish != finish_reason::none) end(event.message);
    }
  }

  void wait_ready() {
    const auto begin = std::chrono::steady_clock::now();
    while (link_->status().state != net::engine_state::ready) {
      if (std::chrono::steady_clock::now() - begin > patience) die("the engine is not ready");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  void generate(const apps::engine_rows::prompt_list& prompts, const sampling_params& sampling) {
    {
      const std::lock_guard lock(mutex_);
      open_ = prompts.size();
      tokens_ = 0;
    }
    for (const auto& prompt : prompts) {
      generate_request request;
      request.id = link_->next_id();
      request.prompt = prompt;
      request.sampling = sampling;
      link_->submit(std::move(request));
    }
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, patience, [this] { return open_ == 0; }))
      die(std::to_string(open_) + " requests did not end in time");
    if (!failure_.empty()) die(failure_);
    if (tokens_ != prompts.size() * sampling.max_tokens)
      die(std::to_string(tokens_) + " tokens came");
  }

 private:
  void end(const std::string& failure) {
    if (!failure.empty()) failure_ = failure;
    if (--open_ == 0) changed_.notify_all();
  }

  std::shared_ptr<net::engine_link> link_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t open_ = 0, tokens_ = 0;
  std::string failure_;
};

struct settings {
  std::string config;
  std::int32_t vocabulary = 49152;
  int repetitions = 5;
  std::vector<std::pair<std::string, std::string>> flags;
  std::vector<std::string> rows;
};

settings read(int argc, char** argv) {
  settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      return i + 1 < argc ? argv[++i] : (die(flag + " needs a value"), "");
    };
    if (flag == "--config") s.config = value();
    else if (flag == "--vocabulary") s.vocabulary = std::atoi(value());
    else if (flag == "--repetitions") s.repetitions = std::max(1, std::atoi(value()));
    else if (flag.starts_with("--")) s.flags.emplace_back(flag.substr(2), value());
    else s.rows.push_back(flag);
  }
  return s;
}

cluster_config configure(const settings& s) {
  auto config = runtime::load_config(s.config);
  if (!config) die(config.error().message);
  config->model.tokenizer.clear();
  config->scheduler.max_num_seqs = 512;
  config->cache.prefix_caching = false;
  for (const auto& [name, value] : s.flags)
    if (auto set = runtime::apply_setting(*config, name, value); !set) die(set.error().message);
  auto& mixed = config->scheduler.max_num_mixed_tokens;
  if (mixed == 0) mixed = runtime::batched_tokens(*config);
  if (auto checked = runtime::check_config(*config); !checked) die(checked.error().message);
  return std::move(*config);
}

}  // namespace

int main(int argc, char** argv) {
  const settings s = read(argc, argv);
  actors::node_options options;
  options.config = configure(s);
  options.parts =
      actors::default_parts(options.config, std::make_shared<runtime::metrics_registry>());
  caller* calls = nullptr;
  options.parts.make_front =
      [&calls](const gateway_section&,
               std::shared_ptr<net::engine_link> link) -> result<std::unique_ptr<actors::front>> {
    auto made = std::make_unique<caller>(std::move(link));
    calls = made.get();
    return made;
  };
  options.on_error = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  actors::node_process node(std::move(options));
  if (auto up = node.start(); !up) die(up.error().message);
  if (calls == nullptr) die(s.config + ": no gateway is on the first node");
  calls->wait_ready();
  apps::engine_rows measured(
      [&](const apps::engine_rows::prompt_list& prompts,
          const sampling_params& sampling) -> result<void> {
        calls->generate(prompts, sampling);
        return {};
      },
      s.vocabulary, static_cast<std::size_t>(s.repetitions));
  const auto show = [](const result<apps::figure>& row) {
    if (!row) die(row.error().message);
    bench::print(row->workload, row->value, row->unit);
  };
  show(measured.start());
  for (const auto& row : s.rows) {
    std::string line;
    if (row != "-") show(measured.measure(row));
    else
      while (std::getline(std::cin, line)) show(measured.measure(line));
  }
  node.drain(std::chrono::seconds(2));
  const int code = node.wait();
  if (auto stopped = node.stop(); !stopped) {
    std::fprintf(stderr, "%s\n", stopped.error().message.c_str());
    std::_Exit(code);  // those that are left behind still use what exit() would destroy
  }
  return code;
}
