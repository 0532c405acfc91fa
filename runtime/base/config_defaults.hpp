// SPDX-License-Identifier: Apache-2.0
// What keys that were left open mean on the devices that are listed. Pure, but for the environment
// in tuning_directory(); any thread.
#pragma once

#include "dinfer/config.hpp"
#include "kernels/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::runtime {

// Whether a GPU is listed; check_config refuses other devices beside it.
bool on_cuda(const cluster_config& config);

// The gateways that a node serves, with their index in the configuration: one that names no node is
// the first node's, and where none is listed the first node serves one with the defaults.
std::vector<std::pair<std::uint32_t, gateway_section>> gateways_of(const cluster_config& config,
                                                                   std::size_t node);

// Of one step: as configured; else 512 on CPUs, what one computes in a second, and 8192 on GPUs:
// more make products no faster. A pipeline of several stages (as far as configured) has
// mixed_tokens(): a prompt is to lie on all of its stages.
std::uint32_t batched_tokens(std::uint32_t configured, bool cuda);
std::uint32_t batched_tokens(const cluster_config& config);
// Of one step in which sequences decode, which wait for the prompts beside them: as configured, at
// most batched_tokens(); else 512 on CPUs and 2048 for each GPU, 8192 at most: products of fewer
// rows become slower. Where only max_num_batched_tokens is configured, as that.
std::uint32_t mixed_tokens(const cluster_config& config);

// Of activations: as configured; else f32 on CPUs and bf16 on GPUs.
kernels::dtype activation_type(dtype_choice configured, bool cuda);
kernels::dtype activation_type(const cluster_config& config);
// What a device is asked for: the same, but on a CPU nothing unless float32 is configured. It then
// rounds activations to bytes in products of quantised weights.
std::optional<kernels::dtype> device_activation(dtype_choice configured, bool cuda);
// Of keys and values in their pages, beside such activations.
kernels::dtype page_type(cache_dtype_choice configured, kernels::dtype activation);

// Of a GPU's memory, for everything: as configured, else 0.92.
double memory_fraction(const cluster_config& config);

// Where GPUs keep which GEMM was fastest: as configured; else dinfer in $XDG_CACHE_HOME or in
// ~/.cache. Empty: nowhere ("off", or neither variable is set).
std::string tuning_directory(const cluster_config& config);

}  // namespace dinfer::runtime
