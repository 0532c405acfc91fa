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

// What all threads of a block know; at the end of shared memory, where it costs no registers.
template <class L>
struct notes {
  query_tile tile;
  const std::int32_t* table;  // pages of the sequence
  std::int32_t begin, end;    // the keys that the block reads; a multiple of tile_keys
  struct {
    std::int32_t first, last;  // positions of a warp's rows; -1: it has none
  } warps[threads / 32];
  std::int32_t positions[L::rows];  // -1: no row
};

template <class L>
constexpr int shared_bytes = L::notes_at + static_cast<int>(sizeof(notes<L>));

// By all threads, for all.
template <class L>
__device__ __forceinline__ void write_notes(notes<L>& to, const attention_shape& shape,
                                            const query_tile& tile) {
  const auto at = static_cast<std::int32_t>(threadIdx.x);
  const auto position = [&](std::int32_t row) {
    return tile.first_row + row < tile.rows ? tile.position(tile.first_row + row) : -1;
  };
  const std::int32_t last = min(L::rows, tile.rows - tile.first_row) - 1;
  if (at < L::rows) to.positions[at] = position(at);
  if (at < threads / 32) {
    to.warps[at].first = position(at * L::warp_rows);
    to.warps[at].last =
        at * L::warp_rows > last ? -1 : position(min(at * L::warp_rows + L::warp_rows - 1, last));
  }
  if (at == 0) {
    to.tile = tile;
    to.table =
        shape.block_table + std::int64_t{shape.table_rows[tile.sequence]} * shape.table_width;
    const std::int32_t begin = shape.window > 0 ? max(0, position(0) - shape.window + 1) : 0;
    to.begin = begin / tile_keys * tile_keys;
    to.end = position(last) + 1;
  }
}

// Copies tiles of keys and values out of the pages. Eight keys in a row lie in one page, since a
// block has eight tokens at least.
template <class L>
struct key_loader {
  std::int32_t from, to;  // this thread's piece: in eight keys, and in a tile in shared memory
  std::int32_t page = 0;  // of the next tile: lane l has that of keys l % 8 * 8 ..

  __device__ __forceinline__ void look_up(const attention_shape& shape, const notes<L>& kept,
                                          std::int32_t first_key) {
    const std::int32_t key = first_key + static_cast<std::int32_t>(threadIdx.x % 8) * 8;
    if (key < kept.end) page = kept.table[key >> shape.block_shift];
  }
  __device__ __forceinline__ void load(const attention_shape& shape, const notes<L>& kept,
                                       std::int32_t first_key, unsigned char* tile) const {
    const std::int64_t head_bytes = std::int64_t{shape.block_size} * L::row_bytes;
    const std::int64_t to_values = shape.kv_heads * head_bytes;
    const std::int32_t key = first_key + static_cast<std::int32_t>(threadIdx.x % 8) * 8;
    const unsigned char* const eight =
        static_cast<const unsigned char*>(shape.pages) + page * shape.page_elements * 2 +
        kept.tile.kv_head * head_bytes + (key & (shape.block_size - 1)) * L::row_bytes;
    const std::int32_t left = min(kept.end - first_key, tile_keys) * L::row_bytes - to;
#pragma unroll
    for (int pass = 0; pass < tile_keys / L::pass_rows; ++pass) {
      const int first = pass * L::pass_rows;
      const int lane = L::pass_rows == 8 ? pass : first / 8 + to / (8 * L::row_bytes);
      const unsigned char* const keys =
          reinterpret_cast<const unsigned char*>(
              __shfl_sync(whole_warp, reinterpret_cast<unsigned long long>(eight), lane)) +
          from;
      const bool valid = first * L::row_bytes < left;
      unsigned char* const at = tile + first * L::row_bytes + to;
      copy_async_16(at, keys, valid);
      copy_async_16(at + L::tile_bytes, keys + to_values, valid);
    }
  }
};

template <class L>
__device__ __forceinline__ key_loader<L> make_loader() {
  const int piece = static_cast<int>(threadIdx.x) % L::pieces;
  const int row = static_cast<int>(threadIdx.x) / L::pieces;
  return {row % 8 * L::row_bytes + piece * 16, row * L::row_bytes + (piece ^ row % 8) * 16};
}

// Rows after the last repeat it; nothing is seen by them, and they are not stored.
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
                                                      std::int32_t first_sequence, float scale) {
  using L = layout<HeadDim, Blocks>;
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
  load_queries<L, T>(shape, kept.tile, shared);
  loader.load(shape, kept, kept.begin, shared + L::query_bytes);
  copy_async_commit();
  loader.look_up(shape, kept, kept.begin + tile_keys);

  const int queries = warp * L::warp_rows * L::row_bytes;
  const int across = lane_across<L>(), along = lane_along<L>();
  float sums[Blocks][L::columns][4] = {}, total[2 * Blocks] = {}, peak[2 * Blocks];
  for (float& p : peak) p = -INFINITY;
  std::uint32_t q[L::kept][Blocks][4];
  int stage = L::query_bytes;
  for (std::int32_t key = kept.begin; key < kept.end; key += tile_keys) {
    copy_async_wait<0>();
    __syncthreads();  // the tile is there, and the one before it is read
    if (L::kept > 1 && key == kept.begin) {
#pragma unroll
      for (int i = 0; i < L::kept; ++i) read_queries<L>(q[i], shared, queries + across, i);
    }
    const int other = 2 * L::query_bytes + L::stage_bytes - stage;
    if (key + tile_keys < kept.end) {
      loader.load(shape, kept, key + tile_keys, shared + other);
      copy_async_commit();
      loader.look_up(shape, kept, key + 2 * tile_keys);
    }
    const auto seen = kept.warps[warp];
    if (key <= seen.last) {
      float s[Blocks][8][4];
      score<T, L>(s, q, shared, queries + across, stage + along);
      if (key + tile_keys > seen.first + 1 ||
          (shape.window > 0 && key + shape.window <= seen.last)) {
        hide(s, kept.positions + warp * L::warp_rows + lane / 4, key + lane % 4 * 2, shape.window);
      }
      std::uint32_t p[tile_keys / 16][Blocks][4];
      float rescale[2 * Blocks];
      soften<T>(s, p, peak, total, rescale, scale);
      rescale_sums(sums, total, rescale);
      add_values<T, L>(sums, p, shared, stage + L::tile_bytes + across);
    }
    stage = other;
  }
  __syncwarp();
  store<T, L>(shape, kept.tile, sums, total, warp * L::warp_rows, shared + queries);
}

template <class T, int HeadDim>
void launch_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    cudaStream_t stream) {
  // Small tiles, with the same bits, where large ones would leave multiprocessors idle.
  constexpr std::int64_t enough = 256;
  const bool large = std::int64_t{tokens} * shape.query_heads >= enough * 128;
  const std::int32_t rows = large ? 128 : 64;
  const dim3 grid(tile_blocks(shape, first_sequence, tokens, rows));
  const float scale = shape.scale * 1.44269504088896340736F;  // exponents of 2
  if (large) {
    launch(prefill<T, HeadDim, 2>, grid, dim3(threads), shared_bytes<layout<HeadDim, 2>>, stream,
           shape, first_sequence, scale);
  } else {
    launch(prefill<T, HeadDim, 1>, grid, dim3(threads), shared_bytes<layout<HeadDim, 1>>, stream,
           shape, first_sequence, scale);
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
