// SPDX-License-Identifier: Apache-2.0
// See config_defaults.hpp.
#include "runtime/base/config_defaults.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace dinfer::runtime {
namespace {

constexpr std::uint32_t cpu_batched_tokens = 512;
constexpr std::uint32_t cuda_batched_tokens = 8192, cuda_mixed_tokens = 2048;  // for each GPU
constexpr double cuda_memory_fraction = 0.92;

// The value of an environment variable that names an absolute path; else empty.
std::string path_in(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && value[0] == '/' ? value : std::string();
}

std::uint32_t default_mixed_tokens(const cluster_config& config) {
  if (!on_cuda(config)) return cpu_batched_tokens;
  const std::uint64_t gpus = std::uint64_t{std::max(config.parallel.tensor_parallel_size, 1U)} *
                             std::max(config.parallel.pipeline_parallel_size, 1U);
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(gpus * cuda_mixed_tokens, cuda_batched_tokens));
}

}  // namespace

bool on_cuda(const cluster_config& config) {
  return std::any_of(config.nodes.begin(), config.nodes.end(), [](const node_section& node) {
    return std::any_of(node.devices.begin(), node.devices.end(),
                       [](const std::string& device) { return device.starts_with("cuda:"); });
  });
}

std::vector<std::pair<std::uint32_t, gateway_section>> gateways_of(const cluster_config& config,
                                                                   std::size_t node) {
  std::vector<std::pair<std::uint32_t, gateway_section>> out;
  if (config.gateways.empty() && node == 0) out.emplace_back(0, gateway_section{});
  for (std::uint32_t i = 0; i < config.gateways.size(); ++i) {
    const auto& name = config.gateways[i].node;
    if (name == config.nodes[node].name || (name.empty() && node == 0))
      out.emplace_back(i, config.gateways[i]);
  }
  return out;
}

std::uint32_t batched_tokens(std::uint32_t configured, bool cuda) {
  if (configured != 0) return configured;
  return cuda ? cuda_batched_tokens : cpu_batched_tokens;
}

std::uint32_t batched_tokens(const cluster_config& config) {
  const auto& s = config.scheduler;
  if (s.max_num_batched_tokens == 0 && config.parallel.pipeline_parallel_size > 1)
    return std::max(s.max_num_mixed_tokens, default_mixed_tokens(config));
  return batched_tokens(s.max_num_batched_tokens, on_cuda(config));
}

std::uint32_t mixed_tokens(const cluster_config& config) {
  const auto& s = config.scheduler;
  const std::uint32_t most = batched_tokens(config);
  if (s.max_num_mixed_tokens != 0) return std::min(s.max_num_mixed_tokens, most);
  return s.max_num_batched_tokens != 0 ? most : default_mixed_tokens(config);
}

kernels::dtype activation_type(dtype_choice configured, bool cuda) {
  switch (configured) {
    case dtype_choice::float32:
      return kernels::dtype::f32;
    case dtype_choice::bfloat16:
      return kernels::dtype::bf16;
    case dtype_choice::float16:
      return kernels::dtype::f16;
    case dtype_choice::automatic:
      break;
  }
  return cuda ? kernels::dtype::bf16 : kernels::dtype::f32;
}

std::optional<kernels::dtype> device_activation(dtype_choice configured, bool cuda) {
  if (configured == dtype_choice::automatic && !cuda) return std::nullopt;
  return activation_type(configured, cuda);
}

kernels::dtype activation_type(const cluster_config& config) {
  return activation_type(config.model.dtype, on_cuda(config));
}

kernels::dtype page_type(cache_dtype_choice configured, kernels::dtype activation) {
  return configured == cache_dtype_choice::fp8 ? kernels::dtype::f8_e4m3 : activation;
}

double memory_fraction(const cluster_config& config) {
  return config.cache.fraction > 0 ? config.cache.fraction : cuda_memory_fraction;
}

std::string tuning_directory(const cluster_config& config) {
  const std::string& configured = config.cuda.tuning_directory;
  if (configured == "off") return {};
  if (!configured.empty()) return configured;
  std::filesystem::path base = path_in("XDG_CACHE_HOME");
  if (const auto home = path_in("HOME"); base.empty() && !home.empty())
    base = std::filesystem::path(home) / ".cache";
  return base.empty() ? std::string() : (base / "dinfer").string();
}

}  // namespace dinfer::runtime
