// SPDX-License-Identifier: Apache-2.0
// The sum of several ranks' numbers in rank order, in f32, rounded once at the end: the same bits
// on every rank and every wire. Pure arithmetic; any thread.
#pragma once

#include "kernels/tensor.hpp"

#include <cstdint>
#include <span>

namespace dinfer::net {

constexpr bool summable(kernels::dtype type) noexcept {
  return type == kernels::dtype::f32 || type == kernels::dtype::bf16 || type == kernels::dtype::f16;
}

// out[i] = parts[0][i] + parts[1][i] + ... `out` may be one of the parts.
void sum_in_order(kernels::dtype type, std::span<const void* const> parts, void* out,
                  std::int64_t elements);

}  // namespace dinfer::net
