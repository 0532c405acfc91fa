// SPDX-License-Identifier: Apache-2.0
// What the arguments of operations are on the CPU. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/cpu/weights.hpp"
#include "kernels/tensor.hpp"

#include <cstdint>

namespace dinfer::kernels::cpu {

inline const cpu_weight& of(const weight* w) {
  DINFER_ASSERT(w != nullptr);
  return *static_cast<const cpu_weight*>(w);
}

// The values of a vector of `n`, or null for null.
inline const float* vector_of(const weight* w, std::int64_t n) {
  if (w == nullptr) return nullptr;
  const auto& v = of(w);
  DINFER_ASSERT(v.role() == weight_role::vector && v.columns() == n);
  return v.values();
}

inline bool is_f32(const tensor& t) { return t.data != nullptr && t.type == dtype::f32; }

// Activations rounded to bytes (dot.cpp), which an x of linear may be instead of floats: a tensor
// of type u8 in memory for floats, the bytes of all rows and then their scales.
struct byte_rows {
  std::int8_t* bytes = nullptr;  // [rows][k]
  float* scales = nullptr;       // [rows][k / 32][2]
};

inline byte_rows byte_rows_of(const tensor& t) {
  DINFER_ASSERT(t.type == dtype::u8 && t.columns() % 32 == 0);
  auto* const bytes = t.as<std::int8_t>();
  return {bytes, reinterpret_cast<float*>(bytes + t.elements())};
}

}  // namespace dinfer::kernels::cpu
