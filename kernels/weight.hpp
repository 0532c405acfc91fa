// SPDX-License-Identifier: Apache-2.0
// Weights: rectangles of stored matrices on one side, opaque prepared weights on the other. What
// lies between, a backend's layout (interleaved, packed, quantised), is nobody else's business. See
// ops::prepare.
#pragma once

#include "kernels/tensor.hpp"

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define DINFER_HOST_DEVICE __host__ __device__
#else
#define DINFER_HOST_DEVICE
#endif

namespace dinfer::kernels {

// Weights without a file: offset + k * step, k a whole number in -127..127 that depends on the seed
// and the element's index alone. With step a power of two and no offset every float type holds them
// exactly.
struct made_up_weights {
  std::uint64_t seed = 0;
  float step = 0, offset = 0;
};

// k of element `index`: the finaliser of splitmix64 (Steele et al. 2014).
DINFER_HOST_DEVICE constexpr std::int32_t made_up_number(std::uint64_t seed,
                                                         std::uint64_t index) noexcept {
  std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<std::int32_t>(z % 255) - 127;
}

// The same numbers on every backend, given that the product is rounded before the sum. Host code
// that is compiled without contraction; kernels say it with __fmul_rn and __fadd_rn.
constexpr float made_up_value(const made_up_weights& w, std::uint64_t index) noexcept {
  return w.offset + static_cast<float>(made_up_number(w.seed, index)) * w.step;
}

// What elements of f8_e4m3 are multiplied by: (r, c) of the stored matrix by
// data[r / rows * stride + c / columns]. One scale for every `rows` times `columns` of them.
struct weight_scales {
  const float* data = nullptr;  // stays as the matrix does
  std::int64_t rows = 1, columns = 1, stride = 1;

  bool by_row() const noexcept { return data != nullptr && rows == 1 && stride == 1; }
  DINFER_HOST_DEVICE float at(std::int64_t r, std::int64_t c) const noexcept {
    return data[r / rows * stride + c / columns];
  }
};

// A rectangle of a stored row-major matrix [stored_rows, stored_columns] in host memory (usually
// mapped from a file), which must stay until the device is synchronised. Vectors have one row.
// Column bounds may cut through blocks; a backend that keeps blocks then keeps the slice expanded.
// Without data it is made up: element (r, c) is made_up_value(made_up, r * stored_columns + c).
struct weight_slice {
  const std::byte* data = nullptr;  // of the whole stored matrix
  dtype type = dtype::f32;
  std::int64_t stored_columns = 0;
  std::int64_t row_begin = 0, row_end = 0;
  std::int64_t column_begin = 0, column_end = 0;
  made_up_weights made_up = {};  // when there is no data
  weight_scales scales = {};     // of f8_e4m3, none: 1
};

enum class weight_role : std::uint8_t {
  matrix,     // slices stacked by rows: [N, K], used by linear
  gate_up,    // two slices of equal shape, gate then up: [2F, K]; linear with epilogue swiglu gives
              // [T, F]
  embedding,  // [V, H], used by embed, and by linear as well (a tied head)
  head,       // [V, H], used by linear for logits
  vector,     // one row: norms and biases, kept in f32
};

// A weight as a backend wants it. Opaque: only the backend that prepared it looks inside.
class weight {
 public:
  virtual ~weight() = default;
  virtual std::int64_t rows() const noexcept = 0;
  virtual std::int64_t columns() const noexcept = 0;
  virtual std::uint64_t bytes() const noexcept = 0;  // device memory held
};

struct prepare_options {
  bool dequantize = false;  // expand what is quantised
  bool fp8 = false;  // f8_e4m3 with a scale a row, of roles matrix and gate_up; device_traits::fp8
};

}  // namespace dinfer::kernels
