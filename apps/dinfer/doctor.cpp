// SPDX-License-Identifier: Apache-2.0
// Which checks concern this host, and what came of them.
#include "apps/dinfer/doctor.hpp"

#include "apps/dinfer/host_checks.hpp"
#include "apps/dinfer/server.hpp"
#include "apps/findings_json.hpp"
#include "apps/own_node.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/toml_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace dinfer::apps {

namespace {

using runtime::verdict;

bool is_gpu(const std::string& device) { return device.starts_with("cuda:"); }

// Of the whole cluster: then one model may be spread over them.
std::ptrdiff_t gpus_of(const cluster_config& config) {
  std::ptrdiff_t out = 0;
  for (const auto& node : config.nodes)
    out += std::count_if(node.devices.begin(), node.devices.end(), is_gpu);
  return out;
}

result<cluster_config> read_config(const std::string& file) {
  DINFER_TRY(auto config, runtime::load_config(file));
  DINFER_CHECK(runtime::check_config(config));
  return config;
}

void check_ports(const cluster_config& config, std::size_t index, findings& out) {
  const auto& node = config.nodes[index];
  if (config.nodes.size() > 1 && node.port != 0)
    out.push_back(check_port("node port", node.address, node.port));
  for (const auto& [_, gateway] : runtime::gateways_of(config, index))
    out.push_back(check_port("gateway port", gateway.address, gateway.port));
}

// What a configuration wants of this host.
void check_node(const cluster_config& config, const std::string& name, findings& out) {
  const auto index = find_node(config, name);
  if (!index) {
    out.push_back({verdict::fail, "this host", index.error().message,
                   "give its [[node]] an address of this host, or say --node NAME"});
    return;
  }
  const auto& node = config.nodes[*index];
  out.push_back(
      {verdict::pass, "this host", fmt::format("node {} ({})", node.name, node.address), {}});
  std::vector<std::string> devices = node.devices;
  for (const auto& child : config.nodes)
    if (child.parent == node.name)
      devices.insert(devices.end(), child.devices.begin(), child.devices.end());
  check_ports(config, *index, out);
  check_files(config, *index, out);
  check_system(check_gpus(&devices, gpus_of(config) > 1, out), out);
}

findings examine(const doctor_options& options) {
  findings out;
  if (options.config.empty()) {
    check_system(check_gpus(nullptr, false, out), out);
    return out;
  }
  const auto config = read_config(options.config);
  if (!config) {
    out.push_back({verdict::fail, "configuration", config.error().message,
                   "conf/ has examples with every key explained"});
    return out;
  }
  out.push_back({verdict::pass, "configuration", options.config, {}});
  check_node(*config, options.node, out);
  return out;
}

}  // namespace

int doctor(const doctor_options& options) {
  if (options.config.empty() && !options.node.empty()) {
    std::fprintf(stderr, "dinfer doctor: --node names a node of a file: --config FILE\n");
    return exit_usage;
  }
  const auto all = examine(options);
  if (options.json) std::printf("%s\n", findings_json(all).c_str());
  else std::fputs(runtime::render(all).c_str(), stdout);
  return runtime::worst(all) == verdict::fail ? exit_refused : 0;
}

}  // namespace dinfer::apps
