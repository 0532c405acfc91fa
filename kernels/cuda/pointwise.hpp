// SPDX-License-Identifier: Apache-2.0
// Launchers of the kernels that memory bounds: embedding, norms, positions, activations, row
// copies. Host code; the launches are asynchronous on `stream`, may be recorded, and throw
// device_error. All pointers are of device memory, rows are contiguous; `type` is of activations
// (f32, bf16, f16), in which every stored result is rounded once from f32 unless stated. Each row's
// bits depend on that row alone.
//
// Bounds against exact arithmetic, relative to the largest value of the row: f32 2e-5, bf16 1.5e-2,
// f16 2e-3.
#pragma once

#include "kernels/cuda/packed_layout.hpp"
#include "kernels/ops.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

// out[t] = table[ids[t] - first_row] + position_table[positions[t]]; zeros for a row outside of its
// table.
struct embed_job {
  const std::int32_t* ids = nullptr;  // [T]
  const void* table = nullptr;        // [rows, columns]
  std::int64_t rows = 0, first_row = 0;
  const void* position_table = nullptr;  // [position_rows, columns], or null
  std::int64_t position_rows = 0;
  const std::int32_t* positions = nullptr;  // [T]
  void* out = nullptr;                      // [T, columns]
  std::int64_t tokens = 0, columns = 0;
  // How the tables are packed; then columns are a multiple of 4.
  packed_kind packed = packed_kind::none, position_packed = packed_kind::none;
};
void embed(const embed_job& job, dtype type, cudaStream_t stream);

// residual = residual + partial, rounded; normed = norm of that. RMS: x / rms is rounded before
// gain multiplies it, as Hugging Face does; layer: rounded once at the end. `partial` and `normed`
// may be the same memory. With scales, normed is then turned into f8_e4m3 (fp8.hpp).
struct add_norm_job {
  const void* partial = nullptr;   // [rows, columns]; null: nothing is added
  void* residual = nullptr;        // [rows, columns]
  const float* gain = nullptr;     // [columns]; null: no norm, `normed` is left alone
  const float* bias = nullptr;     // [columns], or null
  void* normed = nullptr;          // [rows, columns]
  float* normed_scales = nullptr;  // [rows]; null: normed is of `type`
  norm_kind kind = norm_kind::rms;
  float epsilon = 0;
  std::int64_t rows = 0, columns = 0;  // columns: at most 16384
};
void add_norm(const add_norm_job& job, dtype type, cudaStream_t stream);

// qkv and pages have one type. Turned in f32 and rounded once; what is stored in a page is what
// stands in qkv.
void rope_store(const rope_store_args& args, cudaStream_t stream);

// out[t][i] = silu(gate) * up of a product with a gate_up weight (weights.hpp): columns 16 i .. 16
// i + 7 of gate_up are gates 8 i .. 8 i + 7, the next eight their ups. With scales, out is then
// turned into f8_e4m3.
struct gate_job {
  const void* gate_up = nullptr;  // [rows, 2 * columns rounded up to 8]
  const float* bias = nullptr;    // [2 * columns], gates then ups; or null
  void* out = nullptr;            // [rows, columns]
  std::int64_t rows = 0, columns = 0;
  float* out_scales = nullptr;  // [rows]; null: out is of `type`
};
void gate(const gate_job& job, dtype type, cudaStream_t stream);

// x = activation(x + bias) in place, for all activations but swiglu.
struct activate_job {
  void* x = nullptr;            // [rows, columns]
  const float* bias = nullptr;  // [columns], or null
  activation act = activation::none;
  std::int64_t rows = 0, columns = 0;
};
void activate(const activate_job& job, dtype type, cudaStream_t stream);

// out[i] = in[rows[i]], zeros for a row outside of `in`; any type of 2 or 4 bytes.
void gather_rows(const tensor& in, const tensor& rows, const tensor& out, cudaStream_t stream);
// table[entries[i][0]] = entries[i][1]; an index outside of the table is passed over.
void put_entries(const tensor& table, const tensor& entries, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
