// SPDX-License-Identifier: Apache-2.0
// How attention_prefill_sm90.cu cuts its work: 128 rows of a sequence and KV head a block, key
// tiles of 128 keys, and where they lie in shared memory. Included by .cu files alone.
#pragma once

#include "kernels/cuda/attention_tiles.cuh"

#include <cstdint>

namespace dinfer::kernels::cuda {

inline constexpr int key_tile = 128;
inline constexpr int stages = 2;
inline constexpr int group_threads = 128;
inline constexpr int group_rows = 64;
inline constexpr int consumers = 2;
inline constexpr int tile_rows = consumers * group_rows;
inline constexpr int block_threads = group_threads * (consumers + 1);
inline constexpr int no_window = 1 << 30;

// Named barriers: one for each consumer's own threads, one for each consumer's turn.
inline constexpr int own_barrier = 1, turn_barrier = own_barrier + consumers;

struct shared_barriers {
  std::uint64_t keys_full[stages], keys_empty[stages];
  std::uint64_t values_full[stages], values_empty[stages];
};

// Byte offsets in shared memory. A matrix lies as halves of 64 columns, each a swizzled tile.
template <int D>
struct shared_space {
  static constexpr int halves = D / 64;
  static constexpr int query_half = tile_rows * 128, key_half = key_tile * 128;
  static constexpr int matrix = halves * key_half;
  static constexpr int keys = halves * query_half;
  static constexpr int values = keys + stages * matrix;
  static constexpr int barriers = values + stages * matrix;
  static constexpr int bytes = barriers + static_cast<int>(sizeof(shared_barriers));
};

// Behind these, where pages hold 8-bit floats: matrices on their way, by turns keys and values,
// [key][D] as in pages.
template <int D>
struct narrow_space {
  static constexpr int slots = 3;
  static constexpr int pieces = D / 16;  // of 16 bytes, of a key
  static constexpr int pass_keys = group_threads / pieces, passes = key_tile / pass_keys;
  static constexpr int matrix = key_tile * D;
  static constexpr int raw = (shared_space<D>::bytes + 15) / 16 * 16;
  static constexpr int bytes = raw + slots * matrix;
};

// Numbers that all lanes share; the compiler believes it after a shuffle.
__device__ __forceinline__ int warp_uniform(int v) { return __shfl_sync(whole_warp, v, 0); }

// What the rows of a query tile see.
struct key_span {
  int first_position, last_position, window;
  int first_tile, tiles;

  __device__ __forceinline__ key_span(const attention_shape& a, const query_tile& tile)
      : first_position(warp_uniform(tile.position(tile.first_row))),
        last_position(warp_uniform(tile.position(min(tile.first_row + tile_rows, tile.rows) - 1))),
        window(a.window > 0 ? a.window : no_window),
        first_tile(first_key() / key_tile),
        tiles(last_position / key_tile + 1 - first_tile) {}

  __device__ __forceinline__ int first_key() const { return max(0, first_position - window + 1); }
  __device__ __forceinline__ int key_of(int i) const { return (first_tile + i) * key_tile; }
  __device__ __forceinline__ bool all_see(int i) const {
    return key_of(i + 1) <= first_position + 1 && key_of(i) > last_position - window;
  }
};

// Stage and parity of tile i of the span.
__device__ __forceinline__ int stage_of(int i) { return i % stages; }
__device__ __forceinline__ std::uint32_t parity_of(int i) {
  return static_cast<std::uint32_t>(i / stages) & 1U;
}

}  // namespace dinfer::kernels::cuda
