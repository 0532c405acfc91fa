// SPDX-License-Identifier: Apache-2.0
// Reference expansion of every weight type to f32, one row at a time, straight from the file's
// layout and bit for bit what the GGUF definition gives; f8_e4m3 without its scales. Slow and
// plain; linear() never calls it. Any thread.
#pragma once

#include "kernels/tensor.hpp"

#include <cstddef>
#include <cstdint>

namespace dinfer::kernels::cpu {

// True for the types that dequantize_row and prepare take.
bool is_weight_type(dtype type) noexcept;

// `n` elements, a multiple of the type's block.
void dequantize_row(dtype type, const std::byte* in, float* out, std::int64_t n);

// Elements begin .. end of the row that starts at `row`, wherever its blocks end.
void dequantize_columns(dtype type, const std::byte* row, std::int64_t begin, std::int64_t end,
                        float* out);

}  // namespace dinfer::kernels::cpu
