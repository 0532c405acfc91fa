// SPDX-License-Identifier: Apache-2.0
// One thread an element, four in all, or a block a row: the host's memory and the bus are far
// slower than this. Blocks of quantised types are described in kernels/cpu/dequantize.cpp and
// super_block.cpp.
#include "kernels/cuda/convert.hpp"
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/packed.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int per_thread = 4;
constexpr int threads = 256;

__device__ __forceinline__ std::uint32_t half_word(const std::uint8_t* p) {
  return *reinterpret_cast<const std::uint16_t*>(p);
}
__device__ __forceinline__ float half_at(const std::uint8_t* p) {
  return to_float(*reinterpret_cast<const f16*>(p));
}

// d * q + m as two roundings: the CPU fuses nothing.
__device__ __forceinline__ float scaled(float d, int q, float m) {
  return __fadd_rn(__fmul_rn(d, static_cast<float>(q)), m);
}

// Element i of a block of 32 whose nibbles begin at `quants`.
__device__ __forceinline__ int nibble(const std::uint8_t* quants, int i) {
  return i < 16 ? quants[i] & 15 : quants[i - 16] >> 4;
}
// The fifth bit of element i, in its place.
__device__ __forceinline__ int fifth(const std::uint8_t* bits, int i) {
  const std::uint32_t all = half_word(bits) | half_word(bits + 2) << 16;
  return static_cast<int>((all >> i) & 1U) << 4;
}

// Scale (part 0) or minimum (part 4) of block j of a super-block, out of its twelve bytes.
__device__ __forceinline__ int six_bits(const std::uint8_t* bytes, int j, int part) {
  if (j < 4) return bytes[j + part] & 63;
  const int low = part == 0 ? bytes[j + 4] & 15 : bytes[j + 4] >> 4;
  return low | bytes[j - 4 + part] >> 6 << 4;
}

// A quantised element: scale * code + minimum.
struct stored_number {
  float scale;
  int code;
  float minimum;
};

// Element i of a super-block of q4_k, or of q5_k.
template <bool Fifth>
__device__ __forceinline__ stored_number k45_number(const std::uint8_t* b, int i) {
  const int block = i / 32, at = i % 32;
  const std::uint8_t* quants = b + (Fifth ? 48 : 16);
  int q = quants[i / 64 * 32 + at] >> (block % 2 * 4) & 15;
  if (Fifth) q |= (b[16 + at] >> block & 1) << 4;
  const float d = __fmul_rn(half_at(b), static_cast<float>(six_bits(b + 4, block, 0)));
  const float m = __fmul_rn(half_at(b + 2), static_cast<float>(six_bits(b + 4, block, 4)));
  return {d, q, -m};
}

// Element i of a super-block of q6_k.
__device__ __forceinline__ stored_number k6_number(const std::uint8_t* b, int i) {
  const int half = i / 128, quarter = i / 32 % 4, at = i % 32;
  const int low = b[64 * half + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
  const int high = b[128 + 32 * half + at] >> (2 * quarter) & 3;
  const auto scale = static_cast<std::int8_t>(b[192 + i / 16]);
  const float d = __fmul_rn(half_at(b + 208), static_cast<float>(scale));
  return {d, (low | high << 4) - 32, -0.0F};
}

// Element k of a row of a quantised type.
__device__ stored_number number_at(dtype type, const std::uint8_t* row, std::int64_t k) {
  const auto i = static_cast<int>(k % 32);
  const std::int64_t block = k / 32;
  switch (type) {
    case dtype::q4_0: {
      const std::uint8_t* b = row + block * 18;
      return {half_at(b), nibble(b + 2, i) - 8, -0.0F};
    }
    case dtype::q4_1: {
      const std::uint8_t* b = row + block * 20;
      return {half_at(b), nibble(b + 4, i), half_at(b + 2)};
    }
    case dtype::q5_0: {
      const std::uint8_t* b = row + block * 22;
      return {half_at(b), (nibble(b + 6, i) | fifth(b + 2, i)) - 16, -0.0F};
    }
    case dtype::q5_1: {
      const std::uint8_t* b = row + block * 24;
      return {half_at(b), nibble(b + 8, i) | fifth(b + 4, i), half_at(b + 2)};
    }
    case dtype::q8_0: {
      const std::uint8_t* b = row + block * 34;
      return {half_at(b), static_cast<std::int8_t>(b[2 + i]), -0.0F};
    }
    case dtype::q4_k:
      return k45_number<false>(row + k / 256 * 144, static_cast<int>(k % 256));
    case dtype::q5_k:
      return k45_number<true>(row + k / 256 * 176, static_cast<int>(k % 256));
    case dtype::q6_k:
      return k6_number(row + k / 256 * 210, static_cast<int>(k % 256));
    default:
      return {};
  }
}

// An exponent of f16 is biased by eight more.
__device__ __forceinline__ float f8_value(std::uint8_t code) {
  if ((code & 0x7FU) == 0x7FU) return __uint_as_float(0x7FC00000U);
  const auto half = static_cast<std::uint16_t>((code & 0x80U) << 8 | (code & 0x7FU) << 7);
  return __fmul_rn(half_at(reinterpret_cast<const std::uint8_t*>(&half)), 256.0F);
}

// Element k of a row.
__device__ float element(dtype type, const std::uint8_t* row, std::int64_t k) {
  switch (type) {
    case dtype::f32:
      return reinterpret_cast<const float*>(row)[k];
    case dtype::f16:
      return half_at(row + 2 * k);
    case dtype::bf16:
      return to_float(reinterpret_cast<const bf16*>(row)[k]);
    case dtype::f8_e4m3:
      return f8_value(row[k]);
    default: {
      const stored_number n = number_at(type, row, k);
      return scaled(n.scale, n.code, n.minimum);
    }
  }
}

template <class T>
__device__ __forceinline__ T* placed(const placed_rows& to, std::int64_t row) {
  return static_cast<T*>(to.data) + mapped_row(to.map, to.first_row + row) * to.leading;
}

// Column of this thread's element e; blocks along y share a row.
__device__ __forceinline__ std::int64_t own_column(int e) {
  return (std::int64_t{blockIdx.y} * per_thread + e) * blockDim.x + threadIdx.x;
}

// What stands in column c of a row: stored, or made up.
struct stored_row {
  const std::uint8_t* in;
  std::int64_t first_column;
  dtype type;
  weight_scales scales;
  std::int64_t scaled_row, scaled_column;

  __device__ __forceinline__ stored_row(const stored_rows& from, std::int64_t row)
      : in(static_cast<const std::uint8_t*>(from.data) + row * from.row_bytes),
        first_column(from.first_column),
        type(from.type),
        scales(from.scales),
        scaled_row(from.scaled_row + row),
        scaled_column(from.scaled_column) {}
  __device__ __forceinline__ float operator()(std::int64_t c) const {
    const float value = element(type, in, first_column + c);
    if (scales.data == nullptr) return value;
    return __fmul_rn(value, scales.at(scaled_row, scaled_column + c));
  }
  // As a packed matrix of this type's kind has it.
  __device__ __forceinline__ stored_number number(std::int64_t c) const {
    stored_number n = number_at(type, in, first_column + c);
    if (type == dtype::q4_0) n = {n.scale, n.code + 8, -8 * n.scale};
    return n;
  }
};
struct made_up_row {
  made_up_weights numbers;
  std::uint64_t first;

  __device__ __forceinline__ made_up_row(const made_up_rows& from, std::int64_t row)
      : numbers(from.numbers),
        first(from.first_index + static_cast<std::uint64_t>(row) * from.index_stride) {}
  // made_up_value, as two roundings
  __device__ __forceinline__ float operator()(std::int64_t c) const {
    const int number = made_up_number(numbers.seed, first + static_cast<std::uint64_t>(c));
    return __fadd_rn(numbers.offset, __fmul_rn(static_cast<float>(number), numbers.step));
  }
  __device__ __forceinline__ stored_number number(std::int64_t) const { return {}; }
};

template <class T, class Row, class From>
__global__ void __launch_bounds__(threads) convert_kernel(From from, placed_rows to) {
  const std::int64_t row = blockIdx.x;
  const Row value(from, row);
  T* out = placed<T>(to, row);
  for (int e = 0; e < per_thread; ++e) {
    const std::int64_t c = own_column(e);
    if (c < from.columns) out[c] = from_float<T>(value(c));
  }
}

// A block a row, which is computed twice: for its scale, and for its elements.
template <class Row, class From>
__global__ void __launch_bounds__(threads) convert_f8_kernel(From from, placed_rows to) {
  DINFER_SHARED(std::uint32_t, space);
  const std::int64_t row = blockIdx.x;
  const Row value(from, row);
  std::uint32_t largest = 0;
  for (std::int64_t c = threadIdx.x; c < from.columns; c += blockDim.x) {
    largest = max(largest, size_bits(value(c)));
  }
  const f8_scale s = f8_scale_of(block_max(largest, space));
  auto* out = reinterpret_cast<std::uint32_t*>(placed<std::uint8_t>(to, row));
  for (std::int64_t c = 4 * threadIdx.x; c < from.columns; c += 4 * blockDim.x) {
    out[c / 4] = four_f8(value(c) * s.inverse, value(c + 1) * s.inverse, value(c + 2) * s.inverse,
                         value(c + 3) * s.inverse);
  }
  if (threadIdx.x == 0) to.scales[mapped_row(to.map, to.first_row + row)] = s.scale;
}

// 8-bit floats that stay as they are.
__global__ void __launch_bounds__(threads) keep_f8_kernel(stored_rows from, placed_rows to) {
  const std::int64_t row = blockIdx.x;
  const auto* in = static_cast<const std::uint8_t*>(from.data) + row * from.row_bytes;
  auto* out = placed<std::uint8_t>(to, row);
  for (std::int64_t c = threadIdx.x; c < from.columns; c += blockDim.x) out[c] = in[c];
}

// A thread has four columns, also of those that fill up the last block.
template <class Row, class From>
__global__ void __launch_bounds__(threads) pack_kernel(From from, placed_rows to) {
  const std::int64_t column = 4 * (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x);
  if (column >= packed_spans(to.leading) * packed_span) return;
  const Row value(from, blockIdx.x);
  stored_number n[4] = {};
  for (int i = 0; i < 4 && column < from.columns; ++i) n[i] = value.number(column + i);
  const packed_kind kind = to.packed;
  const std::int64_t row = mapped_row(to.map, to.first_row + blockIdx.x);
  std::uint8_t* block =
      static_cast<std::uint8_t*>(to.data) + packed_block_at(kind, row, column, to.leading);
  const packed_place place(row, column);
  std::uint8_t* word = block + place.word_byte(kind);
  if (kind == packed_kind::four) {
    std::uint8_t* low = word + place.step % 2;  // the other bytes are of another step
    low[0] = static_cast<std::uint8_t>(n[0].code | n[2].code << 4);
    low[2] = static_cast<std::uint8_t>(n[1].code | n[3].code << 4);
  } else {
    for (int i = 0; i < 4; ++i) word[i] = static_cast<std::uint8_t>(n[i].code + 128);
  }
  if (column % (kind == packed_kind::eight_halves ? packed_step : packed_group) != 0) return;
  f16* scales = reinterpret_cast<f16*>(block + packed_code_bytes(kind) +
                                       place.thread / 4 * packed_scale_bytes(kind)) +
                packed_scale_index(kind, place.half, place.step);
  scales[0] = from_float<f16>(n[0].scale);
  if (has_minimum(kind)) scales[1] = from_float<f16>(n[0].minimum);
}

template <class Row, class From>
void over_rows(const From& from, const placed_rows& to, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(from.rows);
  if (to.packed != packed_kind::none) {
    const std::int64_t fours = packed_spans(to.leading) * packed_span / 4;
    const dim3 grid(rows, static_cast<unsigned>(divide_up(fours, std::int64_t{threads})));
    return launch(pack_kernel<Row, From>, grid, dim3(threads), 0, stream, from, to);
  }
  if (to.type == dtype::f8_e4m3) {
    return launch(convert_f8_kernel<Row, From>, dim3(rows), dim3(threads),
                  32 * sizeof(std::uint32_t), stream, from, to);
  }
  const dim3 grid(rows, static_cast<unsigned>(divide_up(from.columns, per_thread * threads)));
  with_type(to.type, [&](auto zero) {
    launch(convert_kernel<decltype(zero), Row, From>, grid, dim3(threads), 0, stream, from, to);
  });
}

}  // namespace

void convert_rows(const stored_rows& from, const placed_rows& to, cudaStream_t stream) {
  if (to.type != dtype::f8_e4m3 || to.scales != nullptr)
    return over_rows<stored_row>(from, to, stream);
  launch(keep_f8_kernel, dim3(static_cast<unsigned>(from.rows)), dim3(threads), 0, stream, from,
         to);
}

void make_up_rows(const made_up_rows& from, const placed_rows& to, cudaStream_t stream) {
  over_rows<made_up_row>(from, to, stream);
}

}  // namespace dinfer::kernels::cuda
