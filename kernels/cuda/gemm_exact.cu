// SPDX-License-Identifier: Apache-2.0
// multiply_exact: f32 on the plain cores, bf16 and f16 on the tensor cores (mma.sync). A block
// computes a tile of BM rows of x by BN rows of w; slices of both, DEPTH deep in k, pass through a
// ring of STAGES in shared memory.
//
// Why the bits of a row do not depend on the tile that computes it: an output lives in one
// accumulator, which takes the terms in order of k, in steps of 4 (f32) or 16 whatever the tile,
// the last one filled with zeros; and no step is taken that lies wholly beyond k. A step of mma
// computes every output by itself, wherever in the tile it stands.
#include "kernels/cuda/gemm_exact.hpp"

#include "kernels/cuda/ptx.cuh"

#include <algorithm>

namespace dinfer::kernels::cuda {

namespace {

struct exact_args {
  const void* x;
  const void* w;
  void* out;
  std::int64_t ldx, ldw, ldo;
  std::int32_t rows, n, k;
  std::int32_t row_tiles, column_tiles;
  bool vectors;    // rows of x and w start at multiples of 16 bytes, and k is a multiple too
  bool pairs;      // two neighbours of out may be written at once
  bool float_out;  // out is f32, not the type of x
};

// Tiles in an order in which those that run at the same time share rows of x and of w.
struct tile_place {
  std::int32_t row, column;
};
__device__ __forceinline__ tile_place place_of(const exact_args& p, std::int32_t block) {
  constexpr std::int32_t band = 8;
  const std::int32_t first = block / (band * p.column_tiles) * band;
  const std::int32_t height = min(band, p.row_tiles - first);
  const std::int32_t inside = block - first * p.column_tiles;
  return {first + inside % height, inside / height};
}

// A slice in shared memory is [ROWS][DEPTH], 16 bytes further from row to row: eight rows' words of
// one column are then in different banks.
template <class T, int DEPTH>
constexpr int pitch = DEPTH + pack<T>::count;

// Columns column .. column + DEPTH of rows first .. first + ROWS; zeros outside of [limit, k].
template <class T, int ROWS, int DEPTH, int THREADS>
__device__ __forceinline__ void load_slice(T* slice, const T* from, std::int64_t stride,
                                           std::int32_t first, std::int32_t limit,
                                           std::int32_t column, std::int32_t k, bool vectors) {
  constexpr int per = pack<T>::count, words = DEPTH / per;
#pragma unroll
  for (int i = 0; i < (ROWS * words + THREADS - 1) / THREADS; ++i) {
    const int word = i * THREADS + static_cast<int>(threadIdx.x);
    if (ROWS * words % THREADS != 0 && word >= ROWS * words) break;
    const std::int32_t row = first + word / words, at = column + word % words * per;
    T* to = slice + word / words * pitch<T, DEPTH> + word % words * per;
    const T* source = from + row * stride + at;
    if (vectors) {
      const bool inside = row < limit && at < k;
      copy_async_16(to, inside ? source : from, inside);
    } else {
      for (int j = 0; j < per; ++j) {
        to[j] = row < limit && at + j < k ? source[j] : from_float<T>(0.0F);
      }
    }
  }
}

// The ring: calls compute(x slice, w slice, first column) for every slice of k in order.
template <class T, int BM, int BN, int DEPTH, int STAGES, int THREADS, class Compute>
__device__ __forceinline__ void for_slices(const exact_args& p, T* ring, std::int32_t row,
                                           std::int32_t column, Compute&& compute) {
  constexpr int x_size = BM * pitch<T, DEPTH>, size = x_size + BN * pitch<T, DEPTH>;
  const std::int32_t slices = (p.k + DEPTH - 1) / DEPTH;
  auto load = [&](std::int32_t slice) {
    if (slice < slices) {
      T* to = ring + slice % STAGES * size;
      load_slice<T, BM, DEPTH, THREADS>(to, static_cast<const T*>(p.x), p.ldx, row, p.rows,
                                        slice * DEPTH, p.k, p.vectors);
      load_slice<T, BN, DEPTH, THREADS>(to + x_size, static_cast<const T*>(p.w), p.ldw, column, p.n,
                                        slice * DEPTH, p.k, p.vectors);
    }
    copy_async_commit();  // empty groups too: the count below stays right
  };
  for (int s = 0; s < STAGES - 1; ++s) load(s);
  for (std::int32_t slice = 0; slice < slices; ++slice) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();           // everyone's part of this slice is there, and the last one is read
    load(slice + STAGES - 1);  // into its place
    const T* from = ring + slice % STAGES * size;
    compute(from, from + x_size, slice * DEPTH);
  }
}

// f32: a thread has TM x TN outputs, rows BM / TM and columns BN / TN apart.
template <int BM, int BN, int TM, int TN, int DEPTH, int STAGES>
__global__ void __launch_bounds__(BM / TM * BN / TN) multiply_f32(const exact_args p) {
  constexpr int across = BN / TN, down = BM / TM;
  DINFER_SHARED(float, ring);
  const tile_place place = place_of(p, static_cast<std::int32_t>(blockIdx.x));
  const std::int32_t row = place.row * BM, column = place.column * BN;
  const int y = static_cast<int>(threadIdx.x) / across, x = static_cast<int>(threadIdx.x) % across;
  const bool idle = row + y >= p.rows;
  float sum[TM][TN] = {};

  for_slices<float, BM, BN, DEPTH, STAGES, across * down>(
      p, ring, row, column, [&](const float* xs, const float* ws, std::int32_t first) {
        if (idle) return;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 4) {
          if (first + k >= p.k) break;
          pack<float> a[TM], b[TN];
#pragma unroll
          for (int i = 0; i < TM; ++i)
            a[i] = load_pack(xs + (y + i * down) * pitch<float, DEPTH> + k);
#pragma unroll
          for (int j = 0; j < TN; ++j) {
            b[j] = load_pack(ws + (x + j * across) * pitch<float, DEPTH> + k);
          }
#pragma unroll
          for (int q = 0; q < 4; ++q) {
#pragma unroll
            for (int i = 0; i < TM; ++i) {
#pragma unroll
              for (int j = 0; j < TN; ++j) sum[i][j] = fmaf(a[i].v[q], b[j].v[q], sum[i][j]);
            }
          }
        }
      });

  float* out = static_cast<float*>(p.out);
#pragma unroll
  for (int i = 0; i < TM; ++i) {
#pragma unroll
    for (int j = 0; j < TN; ++j) {
      const std::int32_t r = row + y + i * down, c = column + x + j * across;
      if (r < p.rows && c < p.n) out[r * p.ldo + c] = sum[i][j];
    }
  }
}

// Outputs (row, column) and (row, column + 1).
template <class T>
__device__ __forceinline__ void store_two(const exact_args& p, std::int32_t row,
                                          std::int32_t column, float first, float second) {
  if (row >= p.rows || column >= p.n) return;
  const std::int64_t at = row * p.ldo + column;
  if (p.float_out) {
    float* out = static_cast<float*>(p.out) + at;
    if (p.pairs) {
      *reinterpret_cast<float2*>(out) = make_float2(first, second);
    } else {
      out[0] = first;
      if (column + 1 < p.n) out[1] = second;
    }
  } else {
    T* out = static_cast<T*>(p.out) + at;
    if (p.pairs) {
      *reinterpret_cast<std::uint32_t*>(out) = pack_two<T>(first, second);
    } else {
      out[0] = from_float<T>(first);
      if (column + 1 < p.n) out[1] = from_float<T>(second);
    }
  }
}

// bf16 and f16: a warp has WM x WN outputs, in fragments of 16 x 8.
template <class T, int BM, int BN, int WM, int WN, int DEPTH, int STAGES>
__global__ void __launch_bounds__(BM / WM * (BN / WN) * 32) multiply_half(const exact_args p) {
  constexpr int across = BN / WN, threads = BM / WM * across * 32, step = pitch<T, DEPTH>;
  DINFER_SHARED(T, ring);
  const tile_place place = place_of(p, static_cast<std::int32_t>(blockIdx.x));
  const std::int32_t row = place.row * BM, column = place.column * BN;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp / across * WM, warp_column = warp % across * WN;
  // Where this lane's row of an ldmatrix lies: x as 16 rows by 16 of k in order a0 .. a3 (rows 0-7,
  // rows 8-15, then k 8-15 of both), w as 16 rows in order b0, b1 of rows 0-7, b0, b1 of 8-15.
  const int x_at = (warp_row + lane % 16) * step + lane / 16 * 8;
  const int w_at = (warp_column + lane / 16 * 8 + lane % 8) * step + lane / 8 % 2 * 8;
  float sum[WM / 16][WN / 8][4] = {};

  for_slices<T, BM, BN, DEPTH, STAGES, threads>(
      p, ring, row, column, [&](const T* xs, const T* ws, std::int32_t first) {
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
          if (first + k >= p.k) break;
          std::uint32_t a[WM / 16][4];
#pragma unroll
          for (int i = 0; i < WM / 16; ++i) load_matrix_x4(a[i], xs + x_at + i * 16 * step + k);
#pragma unroll
          for (int j = 0; j < WN / 16; ++j) {
            std::uint32_t b[4];
            load_matrix_x4(b, ws + w_at + j * 16 * step + k);
            const std::uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
            for (int i = 0; i < WM / 16; ++i) {
              mma_16x8x16<T>(sum[i][2 * j], a[i], left);
              mma_16x8x16<T>(sum[i][2 * j + 1], a[i], right);
            }
          }
        }
      });

#pragma unroll
  for (int i = 0; i < WM / 16; ++i) {
#pragma unroll
    for (int j = 0; j < WN / 8; ++j) {
      const std::int32_t r = row + warp_row + i * 16 + lane / 4;
      const std::int32_t c = column + warp_column + j * 8 + lane % 4 * 2;
      store_two<T>(p, r, c, sum[i][j][0], sum[i][j][1]);
      store_two<T>(p, r + 8, c, sum[i][j][2], sum[i][j][3]);
    }
  }
}

std::int64_t tiles(const product& p, std::int64_t bm, std::int64_t bn) {
  return (p.rows + bm - 1) / bm * ((p.n + bn - 1) / bn);
}

bool aligned(const void* data, std::int64_t stride_bytes, std::uintptr_t to) {
  return (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride_bytes)) %
             to ==
         0;
}

exact_args args_of(const product& p) {
  const auto size = info(p.type).block_bytes, out_size = info(p.out_type).block_bytes;
  exact_args a{};
  a.x = p.x;
  a.w = p.w;
  a.out = p.out;
  a.ldx = p.ldx;
  a.ldw = p.ldw;
  a.ldo = p.ldo;
  a.rows = static_cast<std::int32_t>(p.rows);
  a.n = static_cast<std::int32_t>(p.n);
  a.k = static_cast<std::int32_t>(p.k);
  a.vectors =
      aligned(p.x, p.ldx * size, 16) && aligned(p.w, p.ldw * size, 16) && p.k * size % 16 == 0;
  a.pairs =
      aligned(p.out, p.ldo * out_size, static_cast<std::uintptr_t>(2 * out_size)) && p.n % 2 == 0;
  a.float_out = p.out_type == dtype::f32;
  return a;
}

template <class T, int BM, int BN, int DEPTH, int STAGES>
void launch_tiles(void (*kernel)(exact_args), int threads, const product& p, cudaStream_t stream) {
  exact_args a = args_of(p);
  a.row_tiles = static_cast<std::int32_t>((p.rows + BM - 1) / BM);
  a.column_tiles = static_cast<std::int32_t>((p.n + BN - 1) / BN);
  launch(kernel, dim3(static_cast<unsigned>(tiles(p, BM, BN))),
         dim3(static_cast<unsigned>(threads)), sizeof(T) * STAGES * (BM + BN) * pitch<T, DEPTH>,
         stream, a);
}

template <int BM, int BN, int TM, int TN, int DEPTH, int STAGES>
void launch_f32(const product& p, cudaStream_t stream) {
  launch_tiles<float, BM, BN, DEPTH, STAGES>(multiply_f32<BM, BN, TM, TN, DEPTH, STAGES>,
                                             BM / TM * (BN / TN), p, stream);
}
template <class T, int BM, int BN, int WM, int WN, int DEPTH, int STAGES>
void launch_half(const product& p, cudaStream_t stream) {
  launch_tiles<T, BM, BN, DEPTH, STAGES>(multiply_half<T, BM, BN, WM, WN, DEPTH, STAGES>,
                                         BM / WM * (BN / WN) * 32, p, stream);
}

// As many tiles as a large GPU has multiprocessors: fewer, and smaller tiles are faster.
constexpr std::int64_t enough_tiles = 128;

template <class T>
void multiply_half_any(const product& p, cudaStream_t stream) {
  if (p.rows <= 16) {
    launch_half<T, 16, 32, 16, 16, 128, 5>(p, stream);
  } else if (tiles(p, 64, 128) < enough_tiles) {
    launch_half<T, 32, 64, 16, 32, 64, 4>(p, stream);
  } else {
    launch_half<T, 64, 128, 32, 64, 32, 4>(p, stream);
  }
}

void multiply_f32_any(const product& p, cudaStream_t stream) {
  if (p.rows <= 8) {
    launch_f32<8, 32, 2, 1, 64, 6>(p, stream);
  } else if (tiles(p, 128, 64) < enough_tiles) {
    launch_f32<32, 64, 2, 4, 32, 4>(p, stream);
  } else {
    launch_f32<128, 64, 8, 4, 32, 3>(p, stream);
  }
}

}  // namespace

void multiply_exact(const product& p, cudaStream_t stream) {
  if (p.rows <= 0 || p.n <= 0) return;
  if (p.type == dtype::f32) return multiply_f32_any(p, stream);
  if (p.type == dtype::bf16) return multiply_half_any<bf16>(p, stream);
  if (p.type == dtype::f16) return multiply_half_any<f16>(p, stream);
  throw device_error(errc::internal, "no matrix product for this element type");
}

}  // namespace dinfer::kernels::cuda
