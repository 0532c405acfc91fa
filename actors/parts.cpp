// SPDX-License-Identifier: Apache-2.0
// The real parts of a node: model files, what the host has, runners and the CPU's transport, the
// HTTP server. See parts.hpp.
#include "actors/parts.hpp"

#include "actors/fake_parts.hpp"
#include "dinfer/version.hpp"
#include "net/comm/transport.hpp"
#include "net/openai/engine_metrics.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/log.hpp"
#include "runtime/base/toml_config.hpp"
#include "runtime/models/generation_config.hpp"
#include "runtime/models/model.hpp"
#include "runtime/parallel/model_plan.hpp"
#include "runtime/parallel/this_host.hpp"
#include "runtime/tokenizer/model_words.hpp"
#include "runtime/weights/source.hpp"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <utility>

namespace dinfer::actors {

namespace {

bool is_fake(const std::string& device) { return device.starts_with("fake:"); }

bool all_fake(const cluster_config& config) {
  return std::all_of(config.nodes.begin(), config.nodes.end(), [](const node_section& node) {
    return std::all_of(node.devices.begin(), node.devices.end(), is_fake);
  });
}

class http_front : public front {
 public:
  http_front(net::http_server::options settings, std::shared_ptr<net::engine_link> link,
             std::shared_ptr<runtime::metrics_registry> metrics)
      : server_(std::move(settings), std::move(link), std::move(metrics)) {}
  result<void> start() override { return server_.start(); }
  std::uint16_t port() const noexcept override { return server_.port(); }
  void model_ready(const net::served_model& model) override { server_.model_ready(model); }
  void deliver(net::engine_events events) override { server_.deliver(std::move(events)); }
  void stop(std::chrono::milliseconds drain) override { server_.stop(drain); }

 private:
  net::http_server server_;
};

std::uint64_t random_number() {
  std::random_device device;
  return static_cast<std::uint64_t>(device()) << 32 | device();
}

result<std::vector<std::string>> read_keys(const std::string& file) {
  std::vector<std::string> keys;
  if (file.empty()) return keys;
  std::ifstream in(file);
  if (!in) return fail(errc::not_found, file + ": cannot be read", "api_keys_file");
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) keys.push_back(line);
  }
  if (keys.empty()) return fail(errc::invalid_argument, file + ": holds no key", "api_keys_file");
  return keys;
}

front_factory http_fronts(std::shared_ptr<runtime::metrics_registry> metrics) {
  return [metrics = std::move(metrics)](
             const gateway_section& section,
             std::shared_ptr<net::engine_link> link) -> result<std::unique_ptr<front>> {
    net::http_server::options settings;
    settings.gateway = section;
    settings.limits.connections_per_address = section.connections_per_address;
    DINFER_TRY(settings.api_keys, read_keys(section.api_keys_file));
    settings.now_unix = [] { return static_cast<std::int64_t>(std::time(nullptr)); };
    settings.random_seed = random_number;
    return std::make_unique<http_front>(std::move(settings), std::move(link), metrics);
  };
}

// The file's name; of a config.json its folder's, since all are called alike.
std::string served_name_of(const cluster_config& config) {
  if (!config.model.served_name.empty()) return config.model.served_name;
  if (config.model.path.empty()) return "fake";
  const std::filesystem::path path = config.model.path;
  if (config.model.format != load_format::random) return path.stem().string();
  const bool folder = path.extension() != ".json" && !path.filename().empty();
  const auto name = (folder ? path : path.parent_path()).filename().string();
  return name.empty() ? path.stem().string() : name;
}

result<model_head> read_head(const cluster_config& config) {
  DINFER_TRY(const auto source, runtime::open_model(config));
  DINFER_TRY(const auto shape, runtime::read_model_shape(*source));
  DINFER_TRY(auto words, runtime::open_words(*source, config.model.path, config.model.tokenizer,
                                             shape.vocabulary));
  model_head head;
  head.fingerprint = source->fingerprint(false) + words.fingerprint;
  head.served.name = served_name_of(config);
  head.served.root = config.model.path;
  const auto trained = static_cast<std::uint32_t>(shape.max_positions);
  head.served.max_model_len =
      config.model.max_model_len != 0 ? config.model.max_model_len : trained;
  head.served.eos_tokens = shape.eos_tokens;
  DINFER_TRY(head.served.sampling, runtime::read_sampling_defaults(*source));
  head.served.words = std::move(words.words);
  if (!words.chat_template.empty()) {
    // Without it completions still work: a template that we cannot read is no reason not to start.
    if (auto chat = runtime::chat_template::parse(words.chat_template))
      head.served.chat = std::make_shared<const runtime::chat_template>(std::move(*chat));
    else DINFER_LOG_WARN("no chat: {}", chat.error().message);
  }
  return head;
}

result<cluster_plan> plan_model(const cluster_config& config,
                                const std::vector<runtime::host_facts>& hosts) {
  DINFER_TRY(const auto made, runtime::plan_model(config, hosts));
  const auto& placed = made.placed;
  cluster_plan plan;
  plan.stages = placed.pipeline_parallel_size;
  plan.tensor_parallel_size = placed.tensor_parallel_size;
  plan.max_model_len = placed.max_model_len;
  plan.eos_tokens = made.shape.eos_tokens;
  plan.text = runtime::render_plan(placed, config, made.shape);
  // What a GPU has left is measured on it, once everything else is there.
  const bool measured = runtime::on_cuda(config) && config.cache.memory_bytes == 0;
  for (const auto& rank : placed.ranks)
    plan.ranks.push_back({rank.layout, static_cast<std::uint32_t>(rank.node), rank.device,
                          rank.cpu_threads, rank.first_core, measured ? 0 : rank.cache_bytes});
  return plan;
}

result<std::unique_ptr<runtime::runner>> make_real_runner(
    const runtime::runner_options& options, const node_section& here, const cluster_config& config,
    std::shared_ptr<const net::tls_identity> identity) {
  auto own = options;
  if (options.device.starts_with("cuda:"))
    own.device_options.tuning_directory = runtime::tuning_directory(config);
  return runtime::make_model_runner(own, make_wires(options, here, config, std::move(identity)));
}

// A gauge for each phase of a start.
std::function<void(const std::string&, double)> phase_gauges(
    std::shared_ptr<runtime::metrics_registry> metrics) {
  struct gauges {
    std::mutex mutex;
    std::map<std::string, runtime::gauge*> by_phase;
  };
  return [metrics = std::move(metrics), known = std::make_shared<gauges>()](
             const std::string& phase, double seconds) {
    const std::lock_guard lock(known->mutex);
    auto& gauge = known->by_phase[phase];
    if (gauge == nullptr)
      gauge = &metrics->make_gauge("dinfer_start_seconds",
                                   "Seconds that a phase of the start took.", {{"phase", phase}});
    gauge->set(seconds);
  };
}

// A counter for each node and cause. Causes are the names of errors and the ends of processes: few.
std::function<void(const std::string&, const std::string&)> fault_counters(
    std::shared_ptr<runtime::metrics_registry> metrics) {
  return [metrics = std::move(metrics),
          known = std::make_shared<std::map<std::string, runtime::counter*>>()](
             const std::string& node, const std::string& cause) {
    auto& counter = (*known)[node + '\n' + cause];
    if (counter == nullptr)
      counter = &metrics->make_counter("dinfer_faults_total",
                                       "Faults that interrupted the engine, by node and cause.",
                                       {{"node", node}, {"cause", cause}});
    counter->add(1);
  };
}

// The engine's gauges and counters follow the scheduler.
std::function<void(const runtime::scheduler_stats&)> feed_metrics(
    const std::string& model, const std::shared_ptr<runtime::metrics_registry>& metrics) {
  struct feed {
    feed(runtime::metrics_registry& registry, const std::string& name) : out(registry, name) {}
    net::engine_metrics out;
    runtime::scheduler_stats before;
    std::chrono::steady_clock::time_point at = std::chrono::steady_clock::now();
  };
  auto state = std::make_shared<feed>(*metrics, model);
  return [state, metrics](const runtime::scheduler_stats& stats) {
    const auto now = std::chrono::steady_clock::now();
    if (stats.steps > state->before.steps) {
      const auto tokens = stats.prompt_tokens + stats.generation_tokens -
                          state->before.prompt_tokens - state->before.generation_tokens;
      state->out.step(static_cast<std::uint32_t>(tokens),
                      std::chrono::duration<double>(now - state->at).count());
    }
    state->at = now;
    state->before = stats;
    state->out.update(stats);
  };
}

}  // namespace

std::unique_ptr<runtime::transport> make_wires(const runtime::runner_options& options,
                                               const node_section& here,
                                               const cluster_config& config,
                                               std::shared_ptr<const net::tls_identity> own) {
  net::cpu_transport_options wires;
  wires.address = here.address;
  wires.choice = config.cpu.transport;
  wires.timeout = options.collective_timeout;
  wires.name = here.name + "/" + options.device;
  wires.own = std::move(own);
  return net::make_cpu_transport(wires);
}

node_parts default_parts(const cluster_config& config,
                         std::shared_ptr<runtime::metrics_registry> metrics,
                         std::shared_ptr<const net::tls_identity> own) {
  auto parts = fake_parts(config, {});
  parts.own = own;
  parts.config_text = runtime::canonical_text(config);
  parts.host = runtime::this_host;
  parts.random = random_number;
  parts.on_stats = feed_metrics(served_name_of(config), metrics);
  parts.on_phase = phase_gauges(metrics);
  parts.on_fault = fault_counters(metrics);
  parts.make_front = http_fronts(std::move(metrics));
  if (!config.model.path.empty()) parts.read_model = read_head;
  if (all_fake(config)) return parts;
  parts.make_plan = plan_model;
  parts.make_runner = [fake = parts.make_runner, cluster = config, own = std::move(own)](
                          const runtime::runner_options& options, const node_section& here) {
    if (is_fake(options.device)) return fake(options, here);
    return make_real_runner(options, here, cluster, own);
  };
  return parts;
}

}  // namespace dinfer::actors
