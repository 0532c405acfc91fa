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
//
// Shared memory holds rows of head_dim elements; their 16-byte pieces are stored at piece ^ (row %
// 8), so that neither ldmatrix nor the copies have bank conflicts.
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/ptx.cuh"

#include <cmath>

namespace dinfer::kernels::cuda {

void attend_prefill_generic(const attention_shape& shape, std::int32_t first_sequence,
                            std::int32_t tokens, dtype type, cudaStream_t stream);

namespace {

constexpr int threads = 128;
constexpr int tile_keys = 64;

// Tiles of 64 * Blocks rows: every warp has Blocks blocks of 16, the rows of an mma.
template <int HeadDim, int Blocks>
struct layout {
  static constexpr int rows = 64 * Blocks, warp_rows = 16 * Blocks;
  static constexpr int row_bytes = HeadDim * 2;
  static constexpr int pieces = row_bytes / 16;         // of a row
  static constexpr int pass_rows = threads / pieces;    // that the block copies at once
  static constexpr int query_bytes = rows * row_bytes;  // first in shared memory
  static constexpr int tile_bytes = tile_keys * row_bytes;
  static constexpr int stage_bytes = 2 * tile_bytes;  // keys, then values
  static constexpr int notes_at = query_bytes + 2 * stage_bytes;
  static constexpr int steps = HeadDim / 16;   // mma steps along head_dim
  static constexpr int columns = HeadDim / 8;  // of the sums, in mma tiles
  // Steps of the queries that stay in registers: all, or one, read again for every key tile.
  static constexpr int kept = Blocks * HeadDim <= 128 ? steps : 1;
};

// At the end of shared memory, where it costs no registers.
template <class L>
struct notes {
  query_tile tile;
  std::int32_t positions[L::rows];
};

template <class L>
constexpr int shared_bytes = L::notes_at + static_cast<int>(sizeof(notes<L>));

// Copies tiles of keys and values out of the pages. Eight keys in a row lie in one page, since a
// block has eight tokens at least.
template <class L>
struct key_loader {
  const unsigned char* keys;  // of the KV head in page 0, at this thread's piece and row % 8
  const std::int32_t* table;  // pages of the sequence
  std::int32_t end;           // no key is read from `end` on
  std::int32_t row, to;       // this thread's row of a pass, and where in a tile its piece goes
  std::int64_t eight = 0;     // of the next tile: lane l has where its keys l % 8 * 8 .. lie

  __device__ __forceinline__ void look_up(const attention_shape& shape, std::int32_t first_key) {
    const std::int32_t key = first_key + static_cast<std::int32_t>(threadIdx.x % 8) * 8;
    if (key >= end) return;
    const std::int64_t page = table[key >> shape.block_shift];
    eight = page * shape.page_elements * 2 + (key & (shape.block_size - 1)) * L::row_bytes;
  }
  __device__ __forceinline__ void load(const attention_shape& shape, std::int32_t first_key,
                                       unsigned char* stage) const {
    const std::int64_t to_values = std::int64_t{shape.kv_heads} * shape.block_size * L::row_bytes;
#pragma unroll
    for (int pass = 0; pass < tile_keys / L::pass_rows; ++pass) {
      const int first = pass * L::pass_rows;
      const unsigned char* from = keys + __shfl_sync(whole_warp, eight, (first + row) / 8);
      const bool valid = first < end - first_key - row;
      unsigned char* const at = stage + first * L::row_bytes + to;
      copy_async_16(at, from, valid);
      copy_async_16(at + L::tile_bytes, from + to_values, valid);
    }
  }
};

template <class L>
__device__ __forceinline__ key_loader<L> make_loader(const attention_shape& shape,
                                                     const query_tile& tile, std::int32_t end) {
  const int piece = static_cast<int>(threadIdx.x) % L::pieces;
  key_loader<L> loader;
  loader.row = static_cast<int>(threadIdx.x) / L::pieces;
  loader.to = loader.row * L::row_bytes + (piece ^ loader.row % 8) * 16;
  loader.keys = static_cast<const unsigned char*>(shape.pages) +
                std::int64_t{tile.kv_head} * shape.block_size * L::row_bytes +
                loader.row % 8 * L::row_bytes + piece * 16;
  loader.table =
      shape.block_table + std::int64_t{shape.table_rows[tile.sequence]} * shape.table_width;
  loader.end = end;
  return loader;
}

// Rows after the last repeat it, and are not stored.
template <class L, class T>
__device__ __forceinline__ void load_queries(const attention_shape& shape, const query_tile& tile,
                                             unsigned char* shared) {
  const int piece = static_cast<int>(threadIdx.x) % L::pieces;
#pragma unroll 4
  for (int at = static_cast<int>(threadIdx.x) / L::pieces; at < L::rows; at += L::pass_rows) {
    const std::int32_t row = min(tile.first_row + at, tile.rows - 1);
    const T* from = static_cast<const T*>(shape.qkv) + tile.token(row) * shape.qkv_columns +
                    tile.head(row) * shape.head_dim + piece * 8;
    copy_async_16(shared + at * L::row_bytes + (piece ^ (at % 8)) * 16, from, true);
  }
}

template <class L>
__device__ __forceinline__ void note(notes<L>& to, const query_tile& tile) {
  const auto at = static_cast<std::int32_t>(threadIdx.x);
  if (at == 0) to.tile = tile;
  if (at < L::rows) to.positions[at] = tile.position(min(tile.first_row + at, tile.rows - 1));
}

// What a lane tells ldmatrix, relative to a tile: row lane % 16, and each of the pairs of pieces
// that 128 bytes of a row have, its first in lanes below 16.
struct lane_rows {
  std::int32_t at[4];
};

template <class L>
__device__ __forceinline__ lane_rows rows_of_lane() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first = lane % 16 * L::row_bytes + (lane / 16 ^ lane % 8) * 16;
  return {{first, first ^ 32, first ^ 64, first ^ 96}};
}

// Of step `step` along the rows.
__device__ __forceinline__ std::int32_t at_step(const lane_rows& rows, int step) {
  return rows.at[step % 4] + step / 4 * 128;
}

// A warp's queries as mma operands.
template <class L, int Blocks>
__device__ __forceinline__ void read_queries(std::uint32_t (&q)[Blocks][4],
                                             const unsigned char* queries, const lane_rows& rows,
                                             int step) {
#pragma unroll
  for (int m = 0; m < Blocks; ++m) {
    load_matrix_x4(q[m], queries + m * 16 * L::row_bytes + at_step(rows, step));
  }
}

// s = q k^T: of Blocks * 16 rows and 64 keys, as mma sums. `q` holds all steps, or one at a time.
template <class T, class L, int Blocks, int Kept>
__device__ __forceinline__ void score(float (&s)[Blocks][8][4], std::uint32_t (&q)[Kept][Blocks][4],
                                      const unsigned char* queries, const unsigned char* keys,
                                      const lane_rows& rows) {
#pragma unroll
  for (int i = 0; i < Blocks * 32; ++i) s[i / 32][i / 4 % 8][i % 4] = 0;
#pragma unroll
  for (int step = 0; step < L::steps; ++step) {
    if constexpr (Kept == 1) read_queries<L>(q[0], queries, rows, step);
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      std::uint32_t k[4];
      load_matrix_x4(k, keys + n * 8 * L::row_bytes + at_step(rows, step));
      const std::uint32_t low[2] = {k[0], k[2]}, high[2] = {k[1], k[3]};
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

// Scores become probabilities relative to the largest score so far, and what was summed before is
// brought to the same measure. `total` is of this lane's columns.
template <int Blocks, int Columns>
__device__ __forceinline__ void soften(float (&s)[Blocks][8][4], float (&sums)[Blocks][Columns][4],
                                       float (&peak)[2 * Blocks], float (&total)[2 * Blocks],
                                       float scale) {
#pragma unroll
  for (int i = 0; i < 2 * Blocks; ++i) {
    const int m = i / 2, e = i % 2 * 2;
    float top = peak[i];
#pragma unroll
    for (int n = 0; n < 8; ++n) top = fmaxf(top, fmaxf(s[m][n][e], s[m][n][e + 1]));
    top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
    top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
    const float base = top == -INFINITY ? 0.0F : top;  // nothing seen yet
    const float rescale = exp2_fast((peak[i] - base) * scale);
    const float shift = base * scale;
    peak[i] = top;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      s[m][n][e] = exp2_fast(fmaf(s[m][n][e], scale, -shift));
      s[m][n][e + 1] = exp2_fast(fmaf(s[m][n][e + 1], scale, -shift));
      sum += s[m][n][e];
      sum += s[m][n][e + 1];
    }
    total[i] = fmaf(total[i], rescale, sum);
#pragma unroll
    for (int n = 0; n < Columns; ++n) {
      sums[m][n][e] *= rescale;
      sums[m][n][e + 1] *= rescale;
    }
  }
}

// sums += p v. The scores' layout as an mma's sums is that of its first operand.
template <class T, class L, int Blocks>
__device__ __forceinline__ void add_values(float (&sums)[Blocks][L::columns][4],
                                           const float (&p)[Blocks][8][4],
                                           const unsigned char* values, const lane_rows& rows) {
#pragma unroll
  for (int step = 0; step < tile_keys / 16; ++step) {
    std::uint32_t a[Blocks][4];
#pragma unroll
    for (int m = 0; m < Blocks; ++m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float* two = &p[m][2 * step + e / 2][e % 2 * 2];
        a[m][e] = pack_two<T>(two[0], two[1]);
      }
    }
#pragma unroll
    for (int n = 0; n < L::columns; n += 2) {
      std::uint32_t v[4];
      load_matrix_x4_transposed(v, values + step * 16 * L::row_bytes + at_step(rows, n / 2));
      const std::uint32_t low[2] = {v[0], v[1]}, high[2] = {v[2], v[3]};
#pragma unroll
      for (int m = 0; m < Blocks; ++m) {
        mma_16x8x16<T>(sums[m][n], a[m], low);
        mma_16x8x16<T>(sums[m][n + 1], a[m], high);
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
    T* out = static_cast<T*>(shape.out) +
             (tile.token(row) * shape.query_heads + tile.head(row)) * shape.head_dim + piece * 8;
    store_pack(out, load_pack(reinterpret_cast<const T*>(shared + at * L::row_bytes +
                                                         (piece ^ (at % 8)) * 16)));
  }
}

// Of padding.
template <class T>
__device__ void store_zeros(const attention_shape& shape, const query_tile& tile, int tile_rows) {
  const int pieces = shape.head_dim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < tile_rows * pieces; i += threads) {
    const std::int32_t row = tile.first_row + i / pieces;
    if (row >= tile.rows) break;
    T* out = static_cast<T*>(shape.out) +
             (tile.token(row) * shape.query_heads + tile.head(row)) * shape.head_dim;
    store_pack(out + i % pieces * 8, pack<T>{});
  }
}

template <class T, int HeadDim, int Blocks>
__global__ __launch_bounds__(threads, 2) void prefill(const __grid_constant__ attention_shape shape,
                                                      std::int32_t first_sequence) {
  using L = layout<HeadDim, Blocks>;
  DINFER_SHARED(unsigned char, shared);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  query_tile tile;
  if (!find_tile(shape, first_sequence, L::rows, tile)) return;
  if (tile.context == 0) return store_zeros<T>(shape, tile, L::rows);
  auto& kept = *reinterpret_cast<notes<L>*>(shared + L::notes_at);
  note(kept, tile);
  const std::int32_t last_row = min(tile.first_row + L::rows, tile.rows) - 1;
  const std::int32_t end = tile.position(last_row) + 1;
  const std::int32_t window = shape.window > 0 ? shape.window : end;  // end hides nothing
  const std::int32_t begin =
      max(0, tile.position(tile.first_row) - window + 1) / tile_keys * tile_keys;
  // What this warp's rows see; nothing where all of them repeat the last.
  const std::int32_t warp_row = tile.first_row + warp * L::warp_rows;
  const std::int32_t first = tile.position(min(warp_row, last_row));
  const std::int32_t last =
      warp_row > last_row ? -1 : tile.position(min(warp_row + L::warp_rows - 1, last_row));

  auto loader = make_loader<L>(shape, tile, end);
  loader.look_up(shape, begin);
  load_queries<L, T>(shape, tile, shared);
  loader.load(shape, begin, shared + L::query_bytes);
  copy_async_commit();
  loader.look_up(shape, begin + tile_keys);

  const lane_rows rows = rows_of_lane<L>();
  unsigned char* const queries = shared + warp * L::warp_rows * L::row_bytes;
  const float scale = shape.scale * 1.44269504088896340736F;  // exponents of 2
  float sums[Blocks][L::columns][4] = {}, total[2 * Blocks] = {}, peak[2 * Blocks];
  for (float& p : peak) p = -INFINITY;
  std::uint32_t q[L::kept][Blocks][4];
  unsigned char* stage = shared + L::query_bytes;
  int to_other = L::stage_bytes;
  for (std::int32_t key = begin; key < end; key += tile_keys) {
    copy_async_wait<0>();
    __syncthreads();  // the tile is there, and the one before it is read
    if (L::kept > 1 && key == begin) {
#pragma unroll
      for (int i = 0; i < L::kept; ++i) read_queries<L>(q[i], queries, rows, i);
    }
    if (key + tile_keys < end) {
      loader.load(shape, key + tile_keys, stage + to_other);
      copy_async_commit();
      loader.look_up(shape, key + 2 * tile_keys);
    }
    if (key <= last && key + tile_keys + window > first + 1) {
      float s[Blocks][8][4];
      score<T, L>(s, q, queries, stage, rows);
      if (key + tile_keys > first + 1 || key <= last - window) {
        hide(s, kept.positions + warp * L::warp_rows + lane / 4, key + lane % 4 * 2, shape.window);
      }
      soften(s, sums, peak, total, scale);
      add_values<T, L>(sums, s, stage + L::tile_bytes, rows);
    }
    stage += to_other;
    to_other = -to_other;
  }
  __syncwarp();
  store<T, L>(shape, kept.tile, sums, total, warp * L::warp_rows, queries);
}

template <class T, int HeadDim>
void launch_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    cudaStream_t stream) {
  // Small tiles, with the same bits, where large ones would leave multiprocessors idle.
  constexpr std::int64_t enough = 256;
  const bool large = std::int64_t{tokens} * shape.query_heads >= enough * 128;
  const std::int32_t rows = large ? 128 : 64;
  const dim3 grid(tile_blocks(shape, first_sequence, tokens, rows));
  if (large) {
    launch(prefill<T, HeadDim, 2>, grid, dim3(threads), shared_bytes<layout<HeadDim, 2>>, stream,
           shape, first_sequence);
  } else {
    launch(prefill<T, HeadDim, 1>, grid, dim3(threads), shared_bytes<layout<HeadDim, 1>>, stream,
           shape, first_sequence);
  }
}

}  // namespace

void attend_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    dtype type, cudaStream_t stream) {
  if (tokens == 0 || first_sequence >= shape.sequences) return;
  const bool fast = shape.head_dim == 64 || shape.head_dim == 128;
  if (type == dtype::f32 || !fast) {
    return attend_prefill_generic(shape, first_sequence, tokens, type, stream);
  }
  with_type(type, [&](auto element) {
    using T = decltype(element);
    if constexpr (sizeof(T) == 2) {
      if (shape.head_dim == 64) {
        launch_prefill<T, 64>(shape, first_sequence, tokens, stream);
      } else {
        launch_prefill<T, 128>(shape, first_sequence, tokens, stream);
      }
    }
  });
}

}  // namespace dinfer::kernels::cuda
