// SPDX-License-Identifier: Apache-2.0
// Weights: rectangles of stored matrices on one side, opaque prepared weights on the other. What
// lies between, a backend's layout (interleaved, packed, quantised), is nobody else's business. See
// ops::prepare.
#pragma once

#include "kernels/tensor.hpp"

#include <cstddef>
#include <cstdint>

namespace dinfer::kernels {

// A rectangle of a stored row-major matrix [stored_rows, stored_columns] in host memory (usually
// mapped from a file). Vectors have one row. Column bounds are multiples of the type's block.
struct weight_slice {
  const std::byte* data = nullptr;  // of the whole stored matrix
  dtype type = dtype::f32;
  std::int64_t stored_columns = 0;
  std::int64_t row_begin = 0, row_end = 0;
  std::int64_t column_begin = 0, column_end = 0;
};

enum class weight_role : std::uint8_t {
  matrix,     // slices stacked by rows: [N, K], used by linear
  gate_up,    // two slices of equal shape, gate then up: [2F, K]; linear with epilogue swiglu gives
              // [T, F]
  embedding,  // [V, H], used by embed, and by linear as well (a tied head)
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
  bool dequantize = false;  // expand to f32
};

}  // namespace dinfer::kernels
