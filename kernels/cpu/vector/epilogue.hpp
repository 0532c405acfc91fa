// SPDX-License-Identifier: Apache-2.0
// What follows a matrix product: bias, activation, output. For the sources of this folder alone.
#pragma once

#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

inline lanes activate(epilogue act, lanes x) {
  switch (act) {
    case epilogue::relu:
      return max(splat(0.0F), x);
    case epilogue::gelu_tanh: {  // x (1 + tanh u) / 2 = x / (1 + e^-2u)
      const lanes cube = x * x * x;
      const lanes u = fma(cube, splat(0.044715F), x) * splat(-1.59576912F);
      return x / (splat(1.0F) + exp(u));
    }
    case epilogue::gelu: {
      alignas(64) float values[16];
      store(values, x);
      for (auto& v : values) v = 0.5F * v * (1.0F + __builtin_erff(v * 0.70710678F));
      return load(values);
    }
    default:
      return x;
  }
}

// sums [rows][panels_apart lanes] to the output.
inline void finish(const linear_job& job, const panel* panels, int count, std::int64_t row_begin,
                   std::int64_t rows, const float* sums, std::int64_t sums_stride) {
  const bool paired = job.act == epilogue::swiglu;
  const auto bias_of = [&](const panel& p) {
    return job.bias == nullptr ? splat(0.0F) : load_partial(job.bias + p.first_row, p.rows, 0.0F);
  };
  for (int p = 0; p < count; p += paired ? 2 : 1) {
    const lanes bias = bias_of(panels[p]);
    const lanes up_bias = paired ? bias_of(panels[p + 1]) : bias;
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* in = sums + r * sums_stride + 16 * p;
      lanes value = load(in) + bias;
      if (paired) {  // silu(gate) * up
        const lanes up = load(in + 16) + up_bias;
        value = value / (splat(1.0F) + exp(splat(0.0F) - value)) * up;
      } else {
        value = activate(job.act, value);
      }
      float* out = job.out + (row_begin + r) * job.out_stride + panels[p].first_row;
      store_partial(out, panels[p].rows, value);
    }
  }
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
