// SPDX-License-Identifier: Apache-2.0
// How the prefill kernels cut a step into tiles of query rows, found on the device: the host knows
// only how many tokens there are. The rows of one sequence and KV head are its queries times the
// query heads of the group, query by query, so that keys and values are read once for a whole
// group. Included by .cu files alone.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/f8_words.cuh"
#include "kernels/cuda/types.cuh"

#include <cstdint>

namespace dinfer::kernels::cuda {

inline constexpr unsigned whole_warp = 0xFFFFFFFFU;

// Sequence s starts at slot floor(rows before it / tile_rows) + sequences before it, which leaves
// every sequence room for ceil(rows / tile_rows) tiles; a slot too many has no tile.
__host__ __device__ inline std::int32_t first_slot(std::int32_t tokens_before, std::int32_t group,
                                                   std::int32_t tile_rows,
                                                   std::int32_t sequences_before) {
  return static_cast<std::int32_t>(std::int64_t{tokens_before} * group / tile_rows) +
         sequences_before;
}

struct query_tile {
  std::int32_t sequence = 0, context = 0;
  std::int32_t kv_head = 0, first_head = 0, group = 0;  // query heads first_head ..+ group
  std::int32_t first_token = 0;                         // of the sequence, in the step
  std::int32_t first_position = 0;                      // of that token
  std::int32_t rows = 0;                                // of the sequence and KV head
  std::int32_t first_row = 0;                           // of this tile

  __device__ __forceinline__ std::int32_t position(std::int32_t row) const {
    return first_position + row / group;
  }
  // Where a row's head_dim elements are in qkv and in out.
  __device__ __forceinline__ std::int64_t query_at(const attention_shape& shape,
                                                   std::int32_t row) const {
    return (first_token + row / group) * shape.qkv_columns +
           (first_head + row % group) * shape.head_dim;
  }
  __device__ __forceinline__ std::int64_t out_at(const attention_shape& shape,
                                                 std::int32_t row) const {
    return (std::int64_t{first_token + row / group} * shape.query_heads + first_head +
            row % group) *
           shape.head_dim;
  }
  __device__ __forceinline__ const std::int32_t* pages(const attention_shape& shape) const {
    return shape.block_table + shape.table_rows[sequence] * shape.table_width;
  }
};

// Largest index of [first, end) whose first slot is not after `slot`. All lanes of a warp together.
__device__ __forceinline__ std::int32_t sequence_of_slot(const attention_shape& shape,
                                                         std::int32_t first, std::int32_t slot,
                                                         std::int32_t group,
                                                         std::int32_t tile_rows) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x % 32);
  const std::int32_t base = shape.query_begin[first];
  std::int32_t low = first, count = shape.sequences - first;
  while (count > 1) {
    const std::int32_t step = (count + 31) / 32;
    const std::int32_t ahead = lane * step;
    bool before = ahead < count;
    if (before) {
      const std::int32_t s = low + ahead;
      before = first_slot(shape.query_begin[s] - base, group, tile_rows, s - first) <= slot;
    }
    const std::int32_t last = __popc(__ballot_sync(whole_warp, before)) - 1;
    low += last * step;
    count = min(step, count - last * step);
  }
  return low;
}

// The tile of block `block` of a grid of kv_heads * slots; false: there is none. The tiles of a
// sequence come last first, since those have most keys.
__device__ __forceinline__ bool find_tile(const attention_shape& shape, std::int32_t first_sequence,
                                          std::int32_t tile_rows, query_tile& tile) {
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t slot = block / shape.kv_heads;
  tile.kv_head = block % shape.kv_heads;
  tile.first_head = shape.first_query[tile.kv_head];
  tile.group = shape.first_query[tile.kv_head + 1] - tile.first_head;
  if (tile.group == 0) return false;
  tile.sequence = sequence_of_slot(shape, first_sequence, slot, tile.group, tile_rows);
  tile.first_token = shape.query_begin[tile.sequence];
  const std::int32_t queries = shape.query_begin[tile.sequence + 1] - tile.first_token;
  const std::int32_t base = shape.query_begin[first_sequence];
  const std::int32_t index = slot - first_slot(tile.first_token - base, tile.group, tile_rows,
                                               tile.sequence - first_sequence);
  tile.rows = queries * tile.group;
  const std::int32_t tiles = (tile.rows + tile_rows - 1) / tile_rows;
  if (index >= tiles) return false;
  tile.first_row = (tiles - 1 - index) * tile_rows;
  tile.context = shape.context[tile.sequence];
  tile.first_position = tile.context - queries;
  return true;
}

// Of a tile of padding.
template <class T>
__device__ void store_zeros(const attention_shape& shape, const query_tile& tile,
                            std::int32_t tile_rows) {
  const std::int32_t packs = shape.head_dim / pack<T>::count;
  const auto threads = static_cast<std::int32_t>(blockDim.x);
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < tile_rows * packs; i += threads) {
    const std::int32_t row = tile.first_row + i / packs;
    if (row >= tile.rows) break;
    T* const out = static_cast<T*>(shape.out) + tile.out_at(shape, row);
    store_pack(out + i % packs * pack<T>::count, pack<T>{});
  }
}

// What turns differences of scores into exponents of 2; host.
inline float exponent_scale(const attention_shape& shape) {
  return shape.scale * 1.44269504088896340736F;
}

// Blocks of a grid that find_tile cuts; host.
inline unsigned tile_blocks(const attention_shape& shape, std::int32_t first_sequence,
                            std::int32_t tokens, std::int32_t tile_rows) {
  std::int32_t most = 0;
  for (std::int32_t k = 0; k < shape.kv_heads; ++k) {
    const std::int32_t group = shape.first_query[k + 1] - shape.first_query[k];
    most = group > most ? group : most;
  }
  return static_cast<unsigned>(shape.kv_heads) *
         static_cast<unsigned>(
             first_slot(tokens, most, tile_rows, shape.sequences - first_sequence));
}

// Calls fn(T{}, Stored{}) with the element types of activations and of pages.
template <class Fn>
void with_page_type(attention_types types, Fn&& fn) {
  if (!types.f8_pages() && types.pages != types.activations) {
    throw device_error(errc::internal, "attention: no kernel for these element types");
  }
  with_type(types.activations, [&](auto element) {
    if (types.f8_pages()) fn(element, f8{});
    else fn(element, element);
  });
}

// attend_prefill for f32 and every head_dim, without tensor cores (attention_prefill_generic.cu).
void attend_prefill_generic(const attention_shape& shape, std::int32_t first_sequence,
                            std::int32_t tokens, attention_types types, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
