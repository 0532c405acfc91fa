// SPDX-License-Identifier: Apache-2.0
// What a block of the tensor core prefill kernel (attention_prefill.cu) keeps in shared memory, and
// how queries, keys and values come there: by asynchronous copies, 16 bytes each. Included by that
// file alone.
//
// Rows have head_dim elements; their 16-byte pieces are stored at piece ^ (row % 8), so that
// neither ldmatrix nor the copies have bank conflicts. 8-bit floats are copied ahead as they are,
// and become such rows before they are read.
#pragma once

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/ptx.cuh"

namespace dinfer::kernels::cuda::prefill_tiles {

inline constexpr int threads = 128;
inline constexpr int tile_keys = 64;

// Tiles of 64 * Blocks rows: every warp has Blocks blocks of 16, the rows of an mma.
template <int HeadDim, int Blocks, class Stored>
struct layout {
  static constexpr int element_bytes = sizeof(Stored);  // of pages
  static constexpr bool narrow = element_bytes == 1;
  static constexpr int rows = 64 * Blocks, warp_rows = 16 * Blocks;
  static constexpr int row_bytes = HeadDim * 2;
  static constexpr int pieces = row_bytes / 16;       // of a row
  static constexpr int pass_rows = threads / pieces;  // that the block copies at once
  static constexpr int tile_bytes = tile_keys * row_bytes;
  static constexpr int stage_bytes = 2 * tile_bytes;  // keys, then values; a power of two
  // What copies fill: the other stage, or beyond the only one tiles as they lie in pages.
  static constexpr int page_row_bytes = HeadDim * element_bytes;
  static constexpr int page_pieces = page_row_bytes / 16;
  static constexpr int page_pass_rows = threads / page_pieces;
  static constexpr int page_tile_bytes = tile_keys * page_row_bytes;
  static constexpr int flip = narrow ? 0 : stage_bytes;  // from the stage that is read to the next
  static constexpr int queries_at = stage_bytes + 2 * page_tile_bytes;
  static constexpr int notes_at = queries_at + rows * row_bytes;
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
inline constexpr int shared_bytes = L::notes_at + static_cast<int>(sizeof(notes<L>));

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
    to.table = tile.pages(shape);
    const std::int32_t begin = shape.window > 0 ? max(0, position(0) - shape.window + 1) : 0;
    to.begin = begin / tile_keys * tile_keys;
    to.end = position(last) + 1;
  }
}

// Copies tiles of keys and values out of the pages. Eight keys in a row lie in one page, since a
// block has eight tokens at least.
template <class L>
struct key_loader {
  std::int32_t from, to;  // this thread's piece: in eight keys, and in the stage it fills
  std::int32_t page = 0;  // of the next tile: lane l has that of keys l % 8 * 8 ..

  __device__ __forceinline__ void look_up(const attention_shape& shape, const notes<L>& kept,
                                          std::int32_t first_key) {
    const std::int32_t key = first_key + static_cast<std::int32_t>(threadIdx.x % 8) * 8;
    if (key < kept.end) page = kept.table[key >> shape.block_shift];
  }
  __device__ __forceinline__ void load(const attention_shape& shape, const notes<L>& kept,
                                       std::int32_t first_key, unsigned char* shared) const {
    const std::int64_t head_bytes = std::int64_t{shape.block_size} * L::page_row_bytes;
    const std::int64_t to_values = shape.kv_heads * head_bytes;
    const std::int32_t key = first_key + static_cast<std::int32_t>(threadIdx.x % 8) * 8;
    const unsigned char* const eight = static_cast<const unsigned char*>(shape.pages) +
                                       page * shape.page_elements * L::element_bytes +
                                       kept.tile.kv_head * head_bytes +
                                       (key & (shape.block_size - 1)) * L::page_row_bytes;
    const std::int32_t at = to % L::stage_bytes;  // in the tile
    const std::int32_t left = min(kept.end - first_key, tile_keys) * L::page_row_bytes - at;
#pragma unroll
    for (int pass = 0; pass < tile_keys / L::page_pass_rows; ++pass) {
      const int first = pass * L::page_pass_rows;
      const int lane = L::page_pass_rows == 8 ? pass : first / 8 + at / (8 * L::page_row_bytes);
      const unsigned char* const keys =
          reinterpret_cast<const unsigned char*>(
              __shfl_sync(whole_warp, reinterpret_cast<unsigned long long>(eight), lane)) +
          from;
      const bool valid = first * L::page_row_bytes < left;
      unsigned char* const piece = shared + to + first * L::page_row_bytes;
      copy_async_16(piece, keys, valid);
      copy_async_16(piece + L::page_tile_bytes, keys + to_values, valid);
    }
  }
};

template <class L>
__device__ __forceinline__ key_loader<L> make_loader() {
  const int piece = static_cast<int>(threadIdx.x) % L::page_pieces;
  const int row = static_cast<int>(threadIdx.x) / L::page_pieces;
  const int from = row % 8 * L::page_row_bytes + piece * 16;
  if (L::narrow) return {from, L::stage_bytes + row * L::page_row_bytes + piece * 16};
  return {from, row * L::row_bytes + (piece ^ row % 8) * 16};
}

// Keys and values that were copied as 8-bit floats, as T where they are read. By all threads.
template <class L, class T>
__device__ __forceinline__ void widen_tile(unsigned char* shared) {
  const unsigned char* const from = shared + L::stage_bytes;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < 2 * tile_keys * L::page_pieces; i += threads) {
    const int row = i / L::page_pieces, piece = i % L::page_pieces;  // values follow the keys
    uint4 low, high;
    widen_16<T>(*reinterpret_cast<const uint4*>(from + i * 16), low, high);
    unsigned char* const to = shared + row * L::row_bytes;
    *reinterpret_cast<uint4*>(to + (2 * piece ^ row % 8) * 16) = low;
    *reinterpret_cast<uint4*>(to + ((2 * piece + 1) ^ row % 8) * 16) = high;
  }
}

// Rows after the last repeat it; nothing is seen by them, and they are not stored.
template <class L, class T>
__device__ __forceinline__ void load_queries(const attention_shape& shape, const query_tile& tile,
                                             unsigned char* shared) {
  const int piece = static_cast<int>(threadIdx.x) % L::pieces;
#pragma unroll 4
  for (int at = static_cast<int>(threadIdx.x) / L::pieces; at < L::rows; at += L::pass_rows) {
    const std::int32_t row = min(tile.first_row + at, tile.rows - 1);
    const T* from = static_cast<const T*>(shape.qkv) + tile.query_at(shape, row) + piece * 8;
    copy_async_16(shared + at * L::row_bytes + (piece ^ (at % 8)) * 16, from, true);
  }
}

}  // namespace dinfer::kernels::cuda::prefill_tiles
