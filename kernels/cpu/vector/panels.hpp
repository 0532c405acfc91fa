// SPDX-License-Identifier: Apache-2.0
// How a product goes over its panels, whatever it multiplies: by type of weight, by runs of one
// type for a single row, by pairs for many rows. For the sources of this folder alone.
#pragma once

#include "kernels/cpu/vector/epilogue.hpp"
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/readers.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// The types whose blocks have one scale: cpu_weight::takes_bytes().
template <class F>
void with_quad_reader(dtype type, F&& f) {
  switch (type) {
    case dtype::q4_0:
      return f.template operator()<nibble_reader<false, false, 288>>();
    case dtype::q4_1:
      return f.template operator()<nibble_reader<false, true, 320>>();
    case dtype::q5_0:
      return f.template operator()<nibble_reader<true, false, 352>>();
    case dtype::q5_1:
      return f.template operator()<nibble_reader<true, true, 384>>();
    case dtype::q4_k:
      return f.template operator()<k_nibble_reader<false, 288>>();
    case dtype::q5_k:
      return f.template operator()<k_nibble_reader<true, 352>>();
    default:
      return f.template operator()<q8_0_reader>();
  }
}

template <class F>
void with_reader(dtype type, F&& f) {
  switch (type) {
    case dtype::f32:
      return f.template operator()<f32_reader>();
    case dtype::f16:
      return f.template operator()<f16_reader>();
    case dtype::bf16:
      return f.template operator()<bf16_reader>();
    case dtype::q6_k:
      return f.template operator()<q6_k_reader>();
    default:
      return with_quad_reader(type, f);
  }
}

static_assert(linear_group == 4);

template <class F>
void with_count(int panels, F&& f) {
  switch (panels) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    default:
      return f.template operator()<4>();
  }
}

// multiply(panels, n, sums): sums[p][lane] of n neighbours of one type, which run together so that
// more sums are in flight.
template <class F>
void one_row(const linear_job& job, const panel* panels, std::int64_t count, std::int64_t row,
             F&& multiply) {
  alignas(64) float sums[16 * linear_group];
  for (std::int64_t p = 0; p < count;) {
    std::int64_t end = p + 1;
    while (end < count && panels[end].type == panels[p].type) ++end;
    multiply(panels + p, static_cast<int>(end - p), sums + 16 * p);
    p = end;
  }
  finish(job, panels, static_cast<int>(count), row, 1, sums, 16 * linear_group);
}

// multiply(panels, n): two panels, or the last one.
template <class F>
void in_pairs(const panel* panels, std::int64_t count, F&& multiply) {
  for (std::int64_t p = 0; p < count; p += 2)
    multiply(panels + p, static_cast<int>(count - p < 2 ? count - p : 2));
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
