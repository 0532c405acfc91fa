// SPDX-License-Identifier: Apache-2.0
// unpack_rows: a thread has its part of a block, 16 elements of two rows.
#include "kernels/cuda/packed.hpp"

#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/rows.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int warps = 8;

struct unpack_args {
  packed_matrix from;
  std::int64_t first, rows;
  void* out;
};

template <class T>
struct alignas(4 * sizeof(T)) four_of {
  T v[4];
};

// A block of threads has eight blocks of 16 rows, along columns.
template <class T, packed_kind Kind>
__global__ void __launch_bounds__(warps * 32) unpack_kernel(const unpack_args p) {
  const int thread = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t span = std::int64_t{blockIdx.y} * warps + threadIdx.x / 32;
  const std::int64_t columns = p.from.columns;
  if (span >= packed_spans(columns)) return;
  const std::int64_t tile = p.first / packed_tile + blockIdx.x;
  packed_part<Kind> part;
  part.load(reinterpret_cast<const std::uint8_t*>(p.from.data) +
                (tile * packed_spans(columns) + span) * packed_block_bytes(Kind),
            thread);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = tile * packed_tile + thread / 4 + 8 * half - p.first;
    if (row < 0 || row >= p.rows) continue;
    T* out = static_cast<T*>(p.out) + row * columns;
#pragma unroll
    for (int step = 0; step < packed_span / packed_step; ++step) {
      const std::int64_t column = span * packed_span + step * packed_step + thread % 4 * 4;
      if (column >= columns) continue;
      const float scale = part.scale(half, step), minimum = part.minimum(half, step);
      four_of<T> values;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int code = packed_code(Kind, part.word(half, step), step, i);
        values.v[i] = from_float<T>(packed_value(scale, code, minimum));
      }
      *reinterpret_cast<four_of<T>*>(out + column) = values;
    }
  }
}

}  // namespace

void unpack_rows(const packed_matrix& from, std::int64_t first, std::int64_t rows, void* out,
                 dtype type, cudaStream_t stream) {
  if (rows <= 0) return;
  const std::int64_t tiles =
      divide_up(first + rows, std::int64_t{packed_tile}) - first / packed_tile;
  const dim3 grid(static_cast<unsigned>(tiles),
                  static_cast<unsigned>(divide_up(packed_spans(from.columns), warps)));
  with_type(type, [&](auto zero) {
    with_kind(from.kind, [&](auto kind) {
      launch(unpack_kernel<decltype(zero), decltype(kind)::value>, grid, dim3(warps * 32), 0,
             stream, unpack_args{from, first, rows, out});
    });
  });
}

}  // namespace dinfer::kernels::cuda
