// SPDX-License-Identifier: Apache-2.0
// Finds or starts what is measured, runs the loads or rows, and tells what came of them.
#include "apps/dinfer/bench.hpp"

#include "apps/dinfer/bench_report.hpp"
#include "apps/dinfer/child_nodes.hpp"
#include "apps/dinfer/engine_rows.hpp"
#include "apps/dinfer/json_view.hpp"
#include "apps/dinfer/load.hpp"
#include "apps/own_node.hpp"
#include "apps/terminal.hpp"
#include "dinfer/version.hpp"
#include "kernels/device.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/exit_code.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>
#include <utility>

namespace dinfer::apps {

namespace {

using std::chrono::milliseconds;
using steady = std::chrono::steady_clock;

constexpr const char* usual_url = "http://127.0.0.1:8000";
constexpr std::uint32_t offline_seqs = 512;  // unless said: as the rows in bench/targets.json
constexpr auto glance = milliseconds(50), patience = milliseconds(5000);

// An error, and how the program ends with it.
struct ending {
  error problem;
  int code = exit_refused;
};
template <class T>
using outcome = tl::expected<T, ending>;

tl::unexpected<ending> end_with(error problem, int code) {
  return tl::unexpected(ending{std::move(problem), code});
}

tl::unexpected<ending> usage(std::string text) {
  return end_with({errc::invalid_argument, std::move(text), {}}, exit_usage);
}

outcome<cluster_config> configured(const bench_options& options, setting_overrides& given) {
  auto config = options.settings.configuration(options.config, given);
  if (!config) return end_with(config.error(), exit_usage);
  return std::move(*config);
}

// What all devices of the configuration are, by the first of them.
std::string device_words(const cluster_config& config) {
  std::string first;
  std::size_t count = 0;
  for (const auto& node : config.nodes) {
    if (first.empty() && !node.devices.empty()) first = node.devices.front();
    count += node.devices.size();
  }
  kernels::device_options all_cores;
  all_cores.cpu_threads = std::max(1U, std::thread::hardware_concurrency());
  const auto opened = kernels::open_device(first, all_cores);
  auto text = opened ? (*opened)->traits().description : first;
  return count > 1 ? fmt::format("{} x {}", count, text) : text;
}

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  socklen_t size = sizeof at;
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&at), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0;
  ::close(fd);
  return bound ? ntohs(at.sin_port) : std::uint16_t{0};
}

class measurement {
 public:
  explicit measurement(const bench_options& options) : options_(options) {
    told_.command = options.command;
    told_.commit = options.commit.empty() ? std::string(version()) : options.commit;
    told_.device = options.device;
    told_.config = options.label;
  }

  outcome<int> run() {
    if (!options_.out.empty())  // known before minutes are spent
      if (auto there = check_writable(options_.out); !there)
        return end_with(there.error(), exit_file);
    auto done = options_.offline.empty() ? serve() : offline();
    draw_progress({});
    if (!done) return done;
    const auto text = result_json(told_);
    if (options_.json) std::fputs(text.c_str(), stdout);
    if (!options_.out.empty())
      if (auto written = write_result(options_.out, text); !written)
        return end_with(written.error(), exit_file);
    return done;
  }

 private:
  // A line of the table, which programs do without.
  void print(const std::string& line) const {
    if (options_.json) return;
    draw_progress({});
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
  }

  outcome<int> offline() {
    setting_overrides given;
    auto config = configured(options_, given);
    if (!config) return tl::unexpected(config.error());
    const auto& devices = config->nodes.front().devices;
    if (config->nodes.size() != 1 || devices.size() != 1)
      return usage("--offline measures one device; several serve a model: measure them without it");
    if (told_.config.empty())
      told_.config = std::filesystem::path(config->model.path).stem().string();
    offline_run run;
    run.options = engine_of(*config, given);
    run.vocabulary = static_cast<std::int32_t>(options_.vocabulary);
    run.rows = options_.offline;
    run.on_begin = [&, began = 0.0](const std::string& row) mutable {
      draw_progress(bar(began++ / static_cast<double>(run.rows.size() + 1)) + row);
    };
    run.on_figure = [&](const figure& row) {
      print(fmt::format("{:<16} {:>10.2f} {}\n", row.workload, row.value, row.unit));
      told_.rows.push_back(row);
    };
    if (auto done = measure_offline(run); !done)
      return end_with(done.error(), runtime::exit_code_of(done.error().code));
    if (told_.device.empty()) told_.device = device_words(*config);  // late: start_s is over
    return 0;
  }

  static engine_options engine_of(const cluster_config& config, const setting_overrides& given) {
    engine_options out;
    out.model_path = config.model.path;
    out.format = config.model.format;
    out.seed = config.model.seed;
    out.tokenizer = config.model.tokenizer;
    out.device = config.nodes.front().devices.front();
    out.dtype = config.model.dtype;
    out.batch_invariant = config.scheduler.batch_invariant;
    out.cuda_graphs = config.cuda.graphs;
    out.tuning_directory = runtime::tuning_directory(config);
    out.threads = config.cpu.threads;
    out.max_model_len = config.model.max_model_len;
    bool said = config.lines.contains("scheduler.max_num_seqs");
    for (const auto& [name, _] : given) said = said || name == "max-num-seqs";
    out.max_num_seqs = said ? config.scheduler.max_num_seqs : offline_seqs;
    out.max_num_batched_tokens = config.scheduler.max_num_batched_tokens;
    out.cache_bytes = config.cache.memory_bytes;
    out.memory_fraction = config.cache.fraction;
    out.kv_cache_dtype = config.cache.kv_cache_dtype;
    out.prefix_caching = false;
    out.dequantize = config.model.dequantize;
    out.quantization = config.model.quantization;
    return out;
  }

  outcome<int> serve() {
    const bool own = !options_.config.empty() || !options_.settings.words().empty();
    if (own && !options_.server.url.empty())
      return usage(
          "--url measures a server that runs, --config and the flags of a node start one: "
          "give one of both");
    auto server = options_.server;
    if (server.url.empty()) server.url = usual_url;
    child_nodes nodes;
    milliseconds startup{0};
    if (own) {
      setting_overrides ignored;
      auto config = configured(options_, ignored);
      if (!config) return tl::unexpected(config.error());
      startup = milliseconds(config->health.startup_timeout_ms);
      auto started = start_nodes(*config, nodes);
      if (!started) return tl::unexpected(started.error());
      server.url = *started;
    }
    auto address = address_of(server);
    if (!address) return end_with(address.error(), exit_usage);
    auto ready = wait_until_ready(*address, nodes, startup);
    if (!ready) return tl::unexpected(ready.error());
    if (told_.device.empty()) told_.device = server.url;
    auto model = find_model(*address, server.url);
    if (!model) return tl::unexpected(model.error());
    if (told_.config.empty()) told_.config = *model;
    return measure_loads(*address, *model);
  }

  // All nodes, on this host; the URL of the first gateway.
  outcome<std::string> start_nodes(const cluster_config& config, child_nodes& nodes) {
    const auto here = nodes_here(config);
    std::size_t parents = 0;
    for (const auto& node : config.nodes) parents += node.parent.empty() ? 1 : 0;
    if (here.size() != parents)
      return usage("not all nodes of " + config.file +
                   " are of this host: start them, and measure their gateway with --url");
    if (told_.device.empty()) told_.device = device_words(config);
    const auto port = free_port();
    const auto started = nodes.start_all(config, here, options_.settings,
                                         {"--host=127.0.0.1", "--port=" + std::to_string(port)});
    if (!started) return end_with(started.error(), exit_refused);
    return "http://127.0.0.1:" + std::to_string(port);
  }

  outcome<void> wait_until_ready(const net::http_client::options& at, child_nodes& nodes,
                                 milliseconds time) {
    auto quick = at;
    quick.timeout = patience;
    const net::http_client client(quick);
    const auto began = steady::now();
    while (true) {
      const auto answer = client.get("/health");
      if (answer && answer->status == 200) return {};
      for (std::size_t i = 0; i < nodes.size(); ++i)
        if (const auto code = nodes.ended(i)) {
          const auto why = fmt::format("{}", fmt::join(nodes.complaints(i), "\n"));
          return end_with({errc::unavailable, why, {}}, *code == 0 ? exit_no_server : *code);
        }
      const auto waited = steady::now() - began;
      if (waited >= time)
        return end_with({errc::unavailable,
                         answer ? refusal_text(*answer, "the gateway")
                                : answer.error().message + "; --model or --config starts a node",
                         {}},
                        exit_no_server);
      draw_progress(
          fmt::format("starting: {:.1f} s", std::chrono::duration<double>(waited).count()));
      std::this_thread::sleep_for(glance);
    }
  }

  static outcome<std::string> find_model(const net::http_client::options& at,
                                         const std::string& url) {
    const auto answer = net::http_client(at).get("/v1/models");
    if (!answer) return end_with(answer.error(), exit_no_server);
    if (answer->status != 200)
      return end_with({errc::unavailable, refusal_text(*answer, url), {}}, exit_no_server);
    const auto models = json_view::parse(answer->body)["data"].items();
    if (models.empty())
      return end_with({errc::unavailable, url + " lists no model in /v1/models", {}},
                      exit_no_server);
    return models.front()["id"].text();
  }

  outcome<int> measure_loads(const net::http_client::options& at, const std::string& model) {
    load_plan plan;
    plan.server = at;
    plan.server.silence = std::chrono::seconds(options_.silence_seconds);
    plan.model = model;
    plan.prompt_tokens = options_.prompt_tokens;
    plan.output_tokens = options_.output_tokens;
    plan.vocabulary = options_.vocabulary;
    plan.rate = options_.rate;
    auto streams = options_.streams;
    if (streams.empty()) streams = plan.rate > 0 ? std::vector{0U} : std::vector{1U, 4U, 16U};
    print(load_summary::table_head());
    std::uint64_t failed = 0;
    for (const auto count : streams) {
      plan.streams = count;
      plan.requests = plan.rate > 0 ? options_.requests : count;
      auto summary = measure_load(plan);
      if (!summary) return end_with(summary.error(), exit_no_server);
      failed += summary->failed();
      print(summary->table_line(load_words(plan)));
      if (summary->failed() > 0) complain("a request failed: " + summary->first_failure());
      for (auto& row : summary->figures("serve_" + load_name(plan)))
        told_.rows.push_back(std::move(row));
    }
    return failed > 0 ? exit_refused : 0;
  }

  static std::string load_name(const load_plan& plan) {
    const auto streams = fmt::format("c{}", plan.streams);
    if (plan.rate == 0) return streams;
    return fmt::format("r{:g}{}", plan.rate, plan.streams == 0 ? "" : "_" + streams);
  }

  static std::string load_words(const load_plan& plan) {
    if (plan.rate == 0) return std::to_string(plan.streams);
    return fmt::format("{:g}/s{}", plan.rate,
                       plan.streams == 0 ? "" : fmt::format(" <={}", plan.streams));
  }

  result<load_summary> measure_load(load_plan plan) {
    load_summary out;
    auto warm = plan;  // prompts of its own: no prefix of a measured one is in the cache
    warm.rate = 0;
    warm.requests = std::max(1U, plan.streams);
    const auto repetitions = plan.rate > 0 ? 1U : options_.repetitions;
    const auto all = options_.warm_up * warm.requests + repetitions * plan.requests;
    std::uint32_t before = 0;
    const auto show = [&](const load_progress& at) {
      draw_progress(bar(static_cast<double>(before + at.ended) / all) +
                    fmt::format("{}: {} of {} requests", load_words(plan), before + at.ended, all));
    };
    for (std::uint32_t i = 0; i < options_.warm_up + repetitions; ++i) {
      const bool measured = i >= options_.warm_up;
      auto& part = measured ? plan : warm;
      part.seed = ++seed_;
      DINFER_TRY(const auto times, run_load(part, show));
      before += part.requests;
      if (measured) out.add(times);
    }
    return out;
  }

  static void complain(const std::string& text) {
    draw_progress({});
    std::fprintf(stderr, "dinfer bench: %s\n", text.c_str());
  }

  const bench_options& options_;
  bench_result told_;
  std::uint64_t seed_ = std::random_device{}();  // a server may remember the prompts of last time
};

}  // namespace

int bench(const bench_options& options) {
  const auto done = measurement(options).run();
  if (done) return *done;
  std::fprintf(stderr, "dinfer bench: %s\n", done.error().problem.message.c_str());
  return done.error().code;
}

}  // namespace dinfer::apps
