// SPDX-License-Identifier: Apache-2.0
// The vectorised inner loops. Their sources are compiled several times, once per instruction set,
// each into a namespace of its own; `best_kernels` picks at run time. Hazard: an inline function of
// a library that one of these objects emits could be the copy that the linker keeps, and then runs
// on a machine without those instructions. So the sources in this folder use no library type and
// none of tensor.hpp's functions: pointers and numbers only. Any thread.
#pragma once

#include "kernels/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace dinfer::kernels::cpu {

inline constexpr std::int32_t panel_rows = 16;  // lanes of a vector, whatever the hardware's width

// 16 output rows of a weight: weights.hpp.
struct panel {
  const std::byte* data = nullptr;
  std::int64_t first_row = 0;  // of the weight
  std::int32_t rows = 0;       // 1..16 that count
  dtype type = dtype::f32;
};

enum class epilogue : std::uint8_t { none, swiglu, gelu_tanh, gelu, relu };

// out[r][panel.first_row + lane] = f(sum over k of x[r][k] * w[k][lane] + bias), k = 0, 1, 2, ...
// in one chain of fused multiply-adds per output.
struct linear_job {
  std::int64_t k = 0;
  const float* x = nullptr;  // [rows, x_stride]
  std::int64_t x_stride = 0;
  const std::int8_t* bytes = nullptr;  // for dot, instead of x: [rows][k], and for each 32 of them
  const float* byte_scales = nullptr;  // [rows][k / 32][2]: the scale; scale * sum of the bytes
  const float* bias = nullptr;         // by row of the weight, or null
  epilogue act = epilogue::none;
  float* out = nullptr;  // [rows, out_stride]
  std::int64_t out_stride = 0;
};

inline constexpr std::int64_t linear_group = 4;        // panels that one call may take
inline constexpr std::int64_t linear_row_chunk = 128;  // rows that one call may take
inline constexpr std::int64_t linear_k_chunk = 128;    // expanded at a time
inline constexpr std::size_t linear_scratch = 2 * panel_rows * (linear_k_chunk + linear_row_chunk);
constexpr std::size_t dot_scratch(std::int64_t k) {  // sums, and a panel in bytes with its factors
  return 2 * panel_rows * linear_row_chunk + static_cast<std::size_t>(k / 32) * 10 * panel_rows;
}

// One run of query rows against the keys of one KV head. Row i is token first_token + i / heads,
// head i % heads; it sees keys [first_key(i), position(i)].
struct attention_job {
  const float* q = nullptr;   // of row 0; [token][head][head_dim], heads contiguous
  std::int64_t q_stride = 0;  // between tokens
  float* out = nullptr;
  std::int64_t out_stride = 0;
  std::int32_t tokens = 0, heads = 0, head_dim = 0;
  std::int32_t first_position = 0;  // of the first token; the others follow
  std::int32_t window = 0;          // 0: all
  float scale = 0;
  const std::int32_t* blocks = nullptr;  // page of each block of the sequence
  std::int32_t block_size = 0;
  const std::byte* keys = nullptr;    // of page 0, this layer and KV head: [block_size][head_dim]
  const std::byte* values = nullptr;  // the same
  std::int64_t page_bytes = 0;
  dtype type = dtype::f32;
};

inline constexpr std::int32_t attention_keys = 32;  // taken together, from multiples of 32
inline constexpr std::int32_t attention_rows = 64;  // at most, in one call
constexpr std::size_t attention_scratch(std::int32_t head_dim) {
  const auto padded = static_cast<std::size_t>((head_dim + 31) / 32 * 32);
  return (2 * attention_keys + 2 * attention_rows + 16) * padded +
         static_cast<std::size_t>(attention_rows) * (attention_keys + 32);
}

struct norm_row {
  std::span<const float* const> partials;  // of each rank, in rank order: matrices of n columns
  std::int64_t row = 0;                    // of theirs
  float* residual = nullptr;               // [n]
  const float* gain = nullptr;             // [n]; null: the sum alone, out is left alone
  const float* bias = nullptr;             // [n] or null
  float epsilon = 0;
  float* out = nullptr;  // [n]
  std::int64_t n = 0;
};

struct noise_key {
  std::uint64_t seed = 0, position = 0;
  std::uint32_t first_token = 0;
};

struct kernel_table {
  const char* name;  // "AVX-512"
  // `count` <= linear_group panels (with swiglu: pairs of gate and up, so even), `rows` <=
  // linear_row_chunk rows from row_begin on. scratch: linear_scratch floats.
  void (*linear)(const linear_job&, const panel* panels, std::int64_t count, std::int64_t row_begin,
                 std::int64_t rows, float* scratch);
  // The same where x is bytes and every panel takes_bytes(). scratch: dot_scratch(k) floats.
  void (*dot)(const linear_job&, const panel* panels, std::int64_t count, std::int64_t row_begin,
              std::int64_t rows, float* scratch);
  // One row of x as bytes, with its scales. k is a multiple of 32. NaN and infinities make the
  // scale of their block NaN.
  void (*round_to_bytes)(const float* x, std::int64_t k, std::int8_t* bytes, float* scales);
  void (*attention)(const attention_job&, float* scratch);
  // residual += partial (null: nothing); out = norm(residual) * gain + bias.
  void (*rms_norm)(const norm_row&);
  void (*layer_norm)(const norm_row&);
  // The largest value of x and its lowest index; NaN is less than all; -infinity and 0 when none.
  void (*find_max)(const float* x, std::int64_t n, float* value, std::int64_t* index);
  // x[i] = x[i] * scale + a Gumbel number keyed by (seed, position, first_token + i).
  void (*add_gumbel)(float* x, std::int64_t n, float scale, const noise_key& key);
  // Sum of exp((x[i] - shift) * scale).
  double (*sum_exp)(const float* x, std::int64_t n, float shift, float scale);
};

// Of this machine, best first; the last one runs anywhere.
std::span<const kernel_table* const> kernel_tables();
const kernel_table& best_kernels();

}  // namespace dinfer::kernels::cpu
