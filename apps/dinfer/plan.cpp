// SPDX-License-Identifier: Apache-2.0
// Hosts as the flags describe them, and the plan that the first node would make for them.
#include "apps/dinfer/plan.hpp"

#include "apps/dinfer/server.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/toml_config.hpp"
#include "runtime/parallel/model_plan.hpp"
#include "runtime/parallel/this_host.hpp"

#include <boost/json.hpp>
#include <cstdio>

namespace dinfer::apps {

namespace {

namespace json = boost::json;

result<std::uint64_t> size_of(const char* flag, const std::string& text) {
  auto bytes = runtime::parse_size(text);
  if (!bytes) return fail(bytes.error().code, std::string(flag) + ": " + bytes.error().message);
  if (*bytes == 0) return fail(errc::invalid_argument, std::string(flag) + ": more than 0");
  return bytes;
}

// Every node a host like the one that the flags describe; nodes of one address share it. Without
// flags: none, and plan_model takes this host.
result<std::vector<runtime::host_facts>> described(const plan_options& options,
                                                   const cluster_config& config) {
  std::vector<runtime::host_facts> out;
  if (options.device_memory.empty() && options.host_memory.empty() && options.cores == 0)
    return out;
  for (const auto& node : config.nodes) {
    runtime::host_facts host;
    if (options.device_memory.empty()) {
      DINFER_TRY(host, runtime::this_host(node));
    } else {
      host = runtime::this_machine();
      DINFER_TRY(const auto bytes, size_of("--device-memory", options.device_memory));
      for (const auto& device : node.devices)
        host.device_bytes.push_back(device.starts_with("cuda:") ? bytes : 0);
      host.device_free_bytes = host.device_bytes;
    }
    host.machine = node.address;
    if (options.cores > 0) host.cores = options.cores;
    if (!options.host_memory.empty()) {
      DINFER_TRY(host.memory_bytes, size_of("--host-memory", options.host_memory));
    }
    out.push_back(std::move(host));
  }
  return out;
}

json::object rank_object(const runtime::placed_rank& rank, const cluster_config& config) {
  const auto& layout = rank.layout;
  json::object out{{"rank", layout.rank},
                   {"stage", layout.stage},
                   {"tp_rank", layout.tp_rank},
                   {"node", config.nodes[rank.node].name},
                   {"device", rank.device},
                   {"first_layer", layout.layers.begin},
                   {"end_layer", layout.layers.end},
                   {"weight_bytes", rank.weight_bytes},
                   {"activation_bytes", rank.steps.activations},
                   {"logit_bytes", rank.steps.logits},
                   {"sampler_bytes", rank.steps.sampler},
                   {"workspace_bytes", rank.steps.workspace},
                   {"reserve_bytes", rank.steps.reserve},
                   {"cache_bytes", rank.cache_bytes}};
  if (rank.budget_bytes > 0) out["budget_bytes"] = rank.budget_bytes;
  return out;
}

std::string plan_json(const runtime::placement& placed, const cluster_config& config) {
  json::array ranks, idle;
  for (const auto& rank : placed.ranks) ranks.push_back(rank_object(rank, config));
  for (const auto& device : placed.idle) idle.emplace_back(device);
  return json::serialize(json::object{{"tensor_parallel_size", placed.tensor_parallel_size},
                                      {"pipeline_parallel_size", placed.pipeline_parallel_size},
                                      {"reason", placed.reason},
                                      {"max_model_len", placed.max_model_len},
                                      {"block_size", placed.block_size},
                                      {"cache_blocks", placed.cache_blocks},
                                      {"ranks", std::move(ranks)},
                                      {"idle", std::move(idle)}});
}

result<std::string> text_of(const plan_options& options, const cluster_config& config) {
  DINFER_TRY(const auto hosts, described(options, config));
  const auto made = runtime::plan_model(config, hosts);
  if (!made) {
    const bool blind = made.error().code == errc::unsupported && runtime::on_cuda(config) &&
                       options.device_memory.empty();
    return fail(made.error().code,
                made.error().message + (blind ? "; for GPUs that are not here say what each has: "
                                                "--device-memory 80G"
                                              : ""));
  }
  if (options.json) return plan_json(made->placed, config);
  return runtime::render_plan(made->placed, config, made->shape);
}

int complain(const error& problem, int code) {
  std::fprintf(stderr, "dinfer plan: %s\n", problem.message.c_str());
  return code;
}

}  // namespace

int plan(const plan_options& options) {
  setting_overrides ignored;
  const auto config = options.settings.configuration(options.config, ignored);
  if (!config) return complain(config.error(), exit_usage);
  const auto text = text_of(options, *config);
  if (!text) return complain(text.error(), runtime::exit_code_of(text.error().code));
  std::printf("%s\n", text->c_str());
  return 0;
}

}  // namespace dinfer::apps
