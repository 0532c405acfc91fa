// SPDX-License-Identifier: Apache-2.0
// Rows of 8-bit floats (dtype::f8_e4m3), of weights and of what meets them: an element times its
// row's scale is what was there, so that a row's largest becomes 448, the largest there is. Scaling
// and rounding are the same everywhere (fp8.cuh): multiplied by 448 / largest, rounded to nearest
// even. A row whose largest is below 2^-100 has the scale 1, and zeros; one with an infinity or a
// NaN has a scale that is none either, and all its products are NaN. Host code.
#pragma once

#include "kernels/tensor.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace dinfer::kernels::cuda {

// Elements come first, rows one after another; then, from the next multiple of 16 bytes, an f32
// scale for every row.
constexpr std::int64_t f8_scales_at(std::int64_t rows, std::int64_t columns) noexcept {
  return (rows * columns + 15) / 16 * 16;
}
constexpr std::int64_t f8_bytes(std::int64_t rows, std::int64_t columns) noexcept {
  return f8_scales_at(rows, columns) + rows * static_cast<std::int64_t>(sizeof(float));
}
inline float* f8_scales(void* data, std::int64_t rows, std::int64_t columns) noexcept {
  return reinterpret_cast<float*>(static_cast<std::byte*>(data) + f8_scales_at(rows, columns));
}
inline const float* f8_scales(const void* data, std::int64_t rows, std::int64_t columns) noexcept {
  return f8_scales(const_cast<void*>(data), rows, columns);
}

// Whether a weight [rows, columns] is kept so. What meets it then fits in the memory that it has in
// `activation`'s type, and into one block's registers.
constexpr bool f8_takes(std::int64_t rows, std::int64_t columns, dtype activation) noexcept {
  const std::int64_t most = activation == dtype::f32 ? 16384 : 32768;
  return rows > 0 && rows % 16 == 0 && columns >= 32 && columns % 16 == 0 && columns <= most;
}

// x, of `type` (f32, bf16, f16), as 8-bit floats. Columns as f8_takes says; both at multiples of 16
// bytes. Asynchronous; a row depends on itself alone. Throws device_error.
struct quantise_job {
  const void* x = nullptr;  // [rows, columns]
  void* out = nullptr;      // [rows, columns] of f8_e4m3
  float* scales = nullptr;  // [rows]
  std::int64_t rows = 0, columns = 0;
};
void quantise(const quantise_job& job, dtype type, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
