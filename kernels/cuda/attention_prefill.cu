// SPDX-License-Identifier: Apache-2.0
// attend_prefill on the tensor cores (sm_80 and later): FlashAttention-2 (Dao 2023) over pages. A
// block has four warps and takes a tile of query rows (attention_tiles.cuh) through the keys in
// order, 64 at a time. Its queries, and two tiles each of keys and values that copies fill one tile
// ahead, lie in shared memory; scores, probabilities and sums stay in registers.
//
// Row independence: key tiles start at multiples of 64 of the sequence, and what a row does with a
// tile does not depend on its place in the warp. A tile whose keys the row does not see changes
// nothing: its probabilities are zeros and its rescaling is by exactly 1 (by 0 of zeros, before the
// first seen key); only the sign of a zero may change, which the end sets to plus.
#include "kernels/cuda/attention_prefill.cuh"

#include <cmath>

namespace dinfer::kernels::cuda {

namespace {

using namespace prefill_tiles;

// Where a lane's row of ldmatrix begins in a tile, for a step of 16 elements along the rows.
// Across: row lane % 16 and the step's piece lane / 16, so the four matrices are an mma's first
// operand, or transposed two of its second. Along: row lane % 8 + lane / 16 * 8 and piece lane / 8
// % 2: two of its second. Steps differ in an xor, since pieces do.
template <class L>
__device__ __forceinline__ int lane_across() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return lane % 16 * L::row_bytes + (lane / 16 ^ lane % 8) * 16;
}
template <class L>
__device__ __forceinline__ int lane_along() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return (lane % 8 + lane / 16 * 8) * L::row_bytes + (lane / 8 % 2 ^ lane % 8) * 16;
}

// A warp's queries as mma operands. at: of the warp's queries in shared memory, and lane_across.
template <class L, int Blocks>
__device__ __forceinline__ void read_queries(std::uint32_t (&q)[Blocks][4],
                                             const unsigned char* shared, int at, int step) {
#pragma unroll
  for (int m = 0; m < Blocks; ++m) {
    load_matrix_x4(q[m], shared + (at ^ step * 32) + m * 16 * L::row_bytes);
  }
}

// s = q k^T: of Blocks * 16 rows and 64 keys, as mma sums. `q` holds all steps, or one at a time.
// key_at: of the keys in shared memory, and lane_along.
template <class T, class L, int Blocks, int Kept>
__device__ __forceinline__ void score(float (&s)[Blocks][8][4], std::uint32_t (&q)[Kept][Blocks][4],
                                      const unsigned char* shared, int query_at, int key_at) {
#pragma unroll
  for (int i = 0; i < Blocks * 32; ++i) s[i / 32][i / 4 % 8][i % 4] = 0;
#pragma unroll
  for (int step = 0; step < L::steps; ++step) {
    if constexpr (Kept == 1) read_queries<L>(q[0], shared, query_at, step);
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      std::uint32_t k[4];
      load_matrix_x4(k, shared + (key_at ^ step * 32) + n * 8 * L::row_bytes);
      const std::uint32_t low[2] = {k[0], k[1]}, high[2] = {k[2], k[3]};
#pragma unroll
      for (int m = 0; m < Blocks; ++m) {
        mma_16x8x16<T>(s[m][n], q[step % Kept][m], low);
        mma_16x8x16<T>(s[m][n + 1], q[step % Kept][m], high);
      }
    }
  }
}

// Takes the keys that a row does not see out of its scores. positions: from this lane's first row
// on; first_key: this lane's.
template <int Blocks>
__device__ __forceinline__ void hide(float (&s)[Blocks][8][4], const std::int32_t* positions,
                                     std::int32_t first_key, std::int32_t window) {
#pragma unroll
  for (int i = 0; i < 2 * Blocks; ++i) {
    const std::int32_t last = positions[i * 8];
    const std::int32_t first = window > 0 ? last - window + 1 : 0;
#pragma unroll
    for (int n = 0; n < 16; ++n) {
      const std::int32_t key = first_key + n / 2 * 8 + n % 2;
      if (key > last || key < first) s[i / 2][n / 2][i % 2 * 2 + n % 2] = -INFINITY;
    }
  }
}

// Scores become probabilities p relative to the largest score so far, as an mma's first operand:
// the layout of its sums is the same. `total`, of this lane's columns, is brought to that measure
// and added to; the sums are left to the caller, with what to multiply them by.
template <class T, int Blocks>
__device__ __forceinline__ void soften(const float (&s)[Blocks][8][4],
                                       std::uint32_t (&p)[tile_keys / 16][Blocks][4],
                                       float (&peak)[2 * Blocks], float (&total)[2 * Blocks],
                                       float (&rescale)[2 * Blocks], float scale) {
#pragma unroll
  for (int i = 0; i < 2 * Blocks; ++i) {
    const int m = i / 2, e = i % 2 * 2;
    float top = peak[i];
#pragma unroll
    for (int n = 0; n < 8; ++n) top = fmaxf(top, fmaxf(s[m][n][e], s[m][n][e + 1]));
    top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
    top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
    const float base = top == -INFINITY ? 0.0F : top;  // nothing seen yet: anything does
    rescale[i] = exp2_fast((peak[i] - base) * scale);
    peak[i] = top;
    const float shift = base * scale;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float low = exp2_fast(fmaf(s[m][n][e], scale, -shift));
      const float high = exp2_fast(fmaf(s[m][n][e + 1], scale, -shift));
      sum += low;
      sum += high;
      p[n / 2][m][n % 2 * 2 + i % 2] = pack_two<T>(low, high);
    }
    total[i] = fmaf(total[i], rescale[i], sum);
  }
}

// Mostly no score is larger than all before, and a warp is done with a glance.
template <int Blocks, int Columns>
__device__ __forceinline__ void rescale_sums(float (&sums)[Blocks][Columns][4],
                                             const float (&total)[2 * Blocks],
                                             const float (&rescale)[2 * Blocks]) {
  // The totals are asked for, and never negative, so that they are complete here: compilers like to
  // put them off until after the products, which takes more registers than there are.
  bool changed = false;
#pragma unroll
  for (int i = 0; i < 2 * Blocks; ++i) changed = changed || rescale[i] != 1.0F || total[i] < 0;
  if (!__any_sync(whole_warp, changed)) return;
#pragma unroll
  for (int i = 0; i < Blocks * Columns * 4; ++i) {
    const int m = i / 4 / Columns, e = i % 4;
    sums[m][i / 4 % Columns][e] *= rescale[m * 2 + e / 2];
  }
}

// sums += p v. value_at: of the values in shared memory, and lane_across.
template <class T, class L, int Blocks>
__device__ __forceinline__ void add_values(float (&sums)[Blocks][L::columns][4],
                                           const std::uint32_t (&p)[tile_keys / 16][Blocks][4],
                                           const unsigned char* shared, int value_at) {
#pragma unroll
  for (int step = 0; step < tile_keys / 16; ++step) {
#pragma unroll
    for (int n = 0; n < L::columns; n += 2) {
      std::uint32_t v[4];
      load_matrix_x4_transposed(v, shared + (value_at ^ n * 16) + step * 16 * L::row_bytes);
      const std::uint32_t low[2] = {v[0], v[1]}, high[2] = {v[2], v[3]};
#pragma unroll
      for (int m = 0; m < Blocks; ++m) {
        mma_16x8x16<T>(sums[m][n], p[step][m], low);
        mma_16x8x16<T>(sums[m][n + 1], p[step][m], high);
      }
    }
  }
}

// Divides and stores a warp's rows, by way of where its queries were. warp_at: the warp's first
// row.
template <class T, class L, int Blocks>
__device__ __forceinline__ void store(const attention_shape& shape, const query_tile& tile,
                                      float (&sums)[Blocks][L::columns][4],
                                      float (&total)[2 * Blocks], int warp_at,
                                      unsigned char* shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * Blocks; ++i) {
    total[i] += __shfl_xor_sync(whole_warp, total[i], 1);
    total[i] += __shfl_xor_sync(whole_warp, total[i], 2);
    const float inverse = 1.0F / total[i];  // every row sees its own position
    const int at = i * 8 + lane / 4;
#pragma unroll
    for (int n = 0; n < L::columns; ++n) {
      const float* two = &sums[i / 2][n][i % 2 * 2];
      const auto packed = pack_two<T>(two[0] * inverse + 0.0F, two[1] * inverse + 0.0F);
      *reinterpret_cast<std::uint32_t*>(shared + at * L::row_bytes + (n ^ (at % 8)) * 16 +
                                        lane % 4 * 4) = packed;
    }
  }
  __syncwarp();
#pragma unroll 4
  for (int i = lane; i < L::warp_rows * L::pieces; i += 32) {
    const int at = i / L::pieces, piece = i % L::pieces;
    const std::int32_t row = tile.first_row + warp_at + at;
    if (row >= tile.rows) break;
    T* out = static_cast<T*>(shape.out) + tile.out_at(shape, row) + piece * 8;
    store_pack(out, load_pack(reinterpret_cast<const T*>(shared + at * L::row_bytes +
                                                         (piece ^ (at % 8)) * 16)));
  }
}

template <class T, int HeadDim, int Blocks, class Stored>
__global__ __launch_bounds__(threads, 2) void prefill(const __grid_constant__ attention_shape shape,
                                                      std::int32_t first_sequence, float scale) {
  using L = layout<HeadDim, Blocks, Stored>;
  DINFER_SHARED(unsigned char, shared);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = __shfl_sync(whole_warp, static_cast<int>(threadIdx.x) / 32, 0);  // uniform
  auto& kept = *reinterpret_cast<notes<L>*>(shared + L::notes_at);
  {
    query_tile tile;
    if (!find_tile(shape, first_sequence, L::rows, tile)) return;
    if (tile.context == 0) return store_zeros<T>(shape, tile, L::rows);
    write_notes(kept, shape, tile);
  }
  __syncthreads();
  auto loader = make_loader<L>();
  loader.look_up(shape, kept, kept.begin);
  load_queries<L, T>(shape, kept.tile, shared + L::queries_at);
  loader.load(shape, kept, kept.begin, shared);
  copy_async_commit();
  loader.look_up(shape, kept, kept.begin + tile_keys);

  const int queries = L::queries_at + warp * L::warp_rows * L::row_bytes;
  float sums[Blocks][L::columns][4] = {}, total[2 * Blocks] = {}, peak[2 * Blocks];
  for (float& p : peak) p = -INFINITY;
  std::uint32_t q[L::kept][Blocks][4];
  int across = lane_across<L>(), along = lane_along<L>();  // in the stage that is read
  for (std::int32_t key = kept.begin; key < kept.end; key += tile_keys) {
    copy_async_wait<0>();
    __syncthreads();  // the tile is there, and the one before it is read
    if constexpr (L::narrow) {
      widen_tile<L, T>(shared);
      __syncthreads();
    }
    const int query_at = queries + (across & ~L::stage_bytes);
    if (L::kept > 1 && key == kept.begin) {
#pragma unroll
      for (int i = 0; i < L::kept; ++i) read_queries<L>(q[i], shared, query_at, i);
    }
    loader.to ^= L::flip;
    if (key + tile_keys < kept.end) {
      loader.load(shape, kept, key + tile_keys, shared);
      copy_async_commit();
      loader.look_up(shape, kept, key + 2 * tile_keys);
    }
    const auto seen = kept.warps[warp];
    if (key <= seen.last) {
      float s[Blocks][8][4];
      score<T, L>(s, q, shared, query_at, along);
      if (key + tile_keys > seen.first + 1 ||
          (shape.window > 0 && key + shape.window <= seen.last)) {
        hide(s, kept.positions + warp * L::warp_rows + lane / 4, key + lane % 4 * 2, shape.window);
      }
      std::uint32_t p[tile_keys / 16][Blocks][4];
      float rescale[2 * Blocks];
      soften<T>(s, p, peak, total, rescale, scale);
      rescale_sums(sums, total, rescale);
      add_values<T, L>(sums, p, shared, across + L::tile_bytes);
    }
    across ^= L::flip;
    along ^= L::flip;
  }
  __syncwarp();
  store<T, L>(shape, kept.tile, sums, total, warp * L::warp_rows, shared + queries);
}

template <class T, int HeadDim, class Stored>
void launch_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    cudaStream_t stream) {
  // Small tiles, with the same bits, where large ones would leave multiprocessors idle.
  constexpr std::int64_t enough = 256;
  const bool large = std::int64_t{tokens} * shape.query_heads >= enough * 128;
  const std::int32_t rows = large ? 128 : 64;
  const dim3 grid(tile_blocks(shape, first_sequence, tokens, rows));
  const float scale = exponent_scale(shape);
  if (large) {
    launch(prefill<T, HeadDim, 2, Stored>, grid, dim3(threads),
           shared_bytes<layout<HeadDim, 2, Stored>>, stream, shape, first_sequence, scale);
  } else {
    launch(prefill<T, HeadDim, 1, Stored>, grid, dim3(threads),
           shared_bytes<layout<HeadDim, 1, Stored>>, stream, shape, first_sequence, scale);
  }
}

}  // namespace

void attend_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    attention_types types, cudaStream_t stream) {
  if (tokens == 0 || first_sequence >= shape.sequences) return;
  const bool fast = shape.head_dim == 64 || shape.head_dim == 128;
  if (types.activations == dtype::f32 || !fast) {
    return attend_prefill_generic(shape, first_sequence, tokens, types, stream);
  }
  with_page_type(types, [&](auto element, auto stored) {
    using T = decltype(element);
    using S = decltype(stored);
    if constexpr (sizeof(T) == 2) {
      if (shape.head_dim == 64) {
        launch_prefill<T, 64, S>(shape, first_sequence, tokens, stream);
      } else {
        launch_prefill<T, 128, S>(shape, first_sequence, tokens, stream);
      }
    }
  });
}

}  // namespace dinfer::kernels::cuda
