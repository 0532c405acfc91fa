// SPDX-License-Identifier: Apache-2.0
// Norms over one row. Sums run in 16 lanes and are folded in one order, so a row's result depends
// on that row alone.
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"
#include "kernels/cpu/vector/variant.inc"

namespace dinfer::kernels::cpu::DINFER_ISA {

namespace {

// Ranks' sum first, then the residual: the order in which an all-reduce would add.
void add_partials(const norm_row& row) {
  if (row.partials.empty()) return;
  for (std::int64_t i = 0; i < row.n; i += 16) {
    const std::int64_t left = row.n - i, at = row.row * row.n + i;
    lanes total = load_partial(row.partials.front() + at, left, 0.0F);
    for (const float* const partial : row.partials.subspan(1))
      total = total + load_partial(partial + at, left, 0.0F);
    store_partial(row.residual + i, left, load_partial(row.residual + i, left, 0.0F) + total);
  }
}

// Sum of (x - shift)^2.
float squares(const float* x, std::int64_t n, float shift) {
  lanes total = splat(0.0F);
  const lanes offset = splat(shift);
  for (std::int64_t i = 0; i < n; i += 16) {
    const lanes v = load_partial(x + i, n - i, shift) - offset;
    total = fma(v, v, total);
  }
  return sum(total);
}

void scale_row(const norm_row& row, float shift, float scale) {
  for (std::int64_t i = 0; i < row.n; i += 16) {
    const std::int64_t left = row.n - i;
    lanes v = (load_partial(row.residual + i, left, 0.0F) - splat(shift)) * splat(scale);
    v = v * load_partial(row.gain + i, left, 0.0F);
    if (row.bias != nullptr) v = v + load_partial(row.bias + i, left, 0.0F);
    store_partial(row.out + i, left, v);
  }
}

}  // namespace

void rms_norm(const norm_row& row) {
  add_partials(row);
  if (row.gain == nullptr) return;
  const float mean = squares(row.residual, row.n, 0.0F) / static_cast<float>(row.n);
  scale_row(row, 0.0F, 1.0F / __builtin_sqrtf(mean + row.epsilon));
}

void layer_norm(const norm_row& row) {
  add_partials(row);
  if (row.gain == nullptr) return;
  lanes total = splat(0.0F);
  for (std::int64_t i = 0; i < row.n; i += 16) {
    total = total + load_partial(row.residual + i, row.n - i, 0.0F);
  }
  const float mean = sum(total) / static_cast<float>(row.n);
  const float variance = squares(row.residual, row.n, mean) / static_cast<float>(row.n);
  scale_row(row, mean, 1.0F / __builtin_sqrtf(variance + row.epsilon));
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
