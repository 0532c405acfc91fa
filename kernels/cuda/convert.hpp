// SPDX-License-Identifier: Apache-2.0
// Launchers that turn stored weights, which lie on the device as they do in the file, into rows of
// activations' type, f32, or f8_e4m3 with a scale each (fp8.hpp). Values are what the CPU's
// dequantize_row gives, bit for bit but for NaNs' payloads, and then scaled and rounded once. Or
// into rows of a packed matrix (packed_layout.hpp), whose codes are those that are stored. Host
// code; asynchronous on `stream`; throws device_error.
#pragma once

#include "kernels/cuda/packed_layout.hpp"
#include "kernels/weight.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

// Where row r of a matrix goes in a weight: gates and ups alternate in groups of eight.
enum class row_map : std::uint8_t {
  plain,  // r
  gate,   // 16 (r / 8) + r % 8
  up      // the same + 8
};

DINFER_HOST_DEVICE constexpr std::int64_t mapped_row(row_map map, std::int64_t r) {
  return map == row_map::plain ? r : r / 8 * 16 + r % 8 + (map == row_map::up ? 8 : 0);
}

struct stored_rows {
  const void* data = nullptr;  // row r at byte r * row_bytes, 2-byte aligned
  dtype type = dtype::f32;
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_bytes = 0;
  std::int64_t first_column = 0;                   // of the `columns`: blocks begin at 0
  weight_scales scales{};                          // f8_e4m3: on the device, none: 1
  std::int64_t scaled_row = 0, scaled_column = 0;  // what the first element is to them
};

// Rows first_row, first_row + 1, ... before they are mapped; `columns` from the first one on.
struct placed_rows {
  void* data = nullptr;  // of row 0, at the first column that is written
  dtype type = dtype::f32;
  std::int64_t leading = 0;  // elements from row to row
  row_map map = row_map::plain;
  std::int64_t first_row = 0;
  // Of row 0; f8_e4m3 alone, whose rows are written whole. null: elements stay as they are stored.
  float* scales = nullptr;
  // Not none: data is a packed matrix with `leading` columns, whose rows are written whole, from
  // stored ones of this kind, or from made-up zeros.
  packed_kind packed = packed_kind::none;
};

void convert_rows(const stored_rows& from, const placed_rows& to, cudaStream_t stream);

// Element (r, c) of the rectangle is made_up_value(from, first_index + r * index_stride + c).
struct made_up_rows {
  made_up_weights numbers;
  std::uint64_t first_index = 0, index_stride = 0;
  std::int64_t rows = 0, columns = 0;
};
void make_up_rows(const made_up_rows& from, const placed_rows& to, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
