// SPDX-License-Identifier: Apache-2.0
// Causal attention of many queries over paged keys on Hopper, in the manner of FlashAttention-3
// (Shah et al. 2024): one warp fetches tiles of 128 keys and values by TMA, two warpgroups of 64
// rows each multiply by wgmma. The scores of a tile are multiplied before the weights of the tile
// before it have been with their values, so that softmax runs under that product, and the
// warpgroups take turns, so that it runs under the other's products too. Scores, softmax and sums
// are f32; weights are rounded to T before they meet the values. Error against f32 attention,
// relative to the row's largest value: bf16 1.5e-2, f16 2e-3.
//
// TMA cannot turn 8-bit floats into others. Where pages hold those, all four warps beside the
// consumers copy them ahead, and write them as T where TMA would have put them.
//
// Key tiles begin at multiples of 128 keys and are taken in key order; for a row that sees none of
// its keys a tile changes nothing. So a row's bits depend on its position and its keys alone.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/prefill_sm90.cuh"
#include "kernels/cuda/softmax_rows.cuh"
#include "kernels/cuda/tensor_map.hpp"
#include "kernels/cuda/wgmma.cuh"

#include <cstdint>

namespace dinfer::kernels::cuda {

namespace {

// By one warp: a lane fetches one half of one page of a tile. Pages in which no row sees a key are
// not touched: their table entries may be stale.
template <int D>
__device__ __forceinline__ void produce(const attention_shape& a, const CUtensorMap* map,
                                        const query_tile& tile, const key_span& span,
                                        unsigned char* shared, shared_barriers& barriers) {
  using space = shared_space<D>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int half = lane % space::halves, slot = lane / space::halves;
  const int pages_per_tile = key_tile >> a.block_shift, page_bytes = a.block_size * 128;
  const std::int32_t* table = a.block_table + a.table_rows[tile.sequence] * a.table_width;
  const int first_page = span.first_key() >> a.block_shift;
  const int last_page = span.last_position >> a.block_shift;
  unsigned char* const to = shared + half * space::key_half + slot * page_bytes;
  for (int i = 0; i < span.tiles; ++i) {
    const int block = (span.first_tile + i) * pages_per_tile + slot, stage = stage_of(i);
    const bool mine = slot < pages_per_tile && block >= first_page && block <= last_page;
    const int page = mine ? table[block] : 0;
    const auto bytes = static_cast<std::uint32_t>(
        __popc(static_cast<int>(__ballot_sync(whole_warp, mine))) * page_bytes);
    for (int part = 0; part < 2; ++part) {
      std::uint64_t* const full = part == 0 ? barriers.keys_full : barriers.values_full;
      std::uint64_t* const empty = part == 0 ? barriers.keys_empty : barriers.values_empty;
      if (i >= stages) barrier_wait(empty + stage, parity_of(i - stages));
      if (lane == 0) barrier_arrive_expect(full + stage, bytes);
      __syncwarp();
      if (mine) {
        load_box(to + (part == 0 ? space::keys : space::values) + stage * space::matrix, map,
                 half * 64, 0, part * a.kv_heads + tile.kv_head, page, full + stage);
      }
    }
  }
}

// By a warpgroup, of pages of 8-bit floats: every thread copies pieces, two matrices ahead, and
// turns into T what it copied itself. Keys that no row sees are zeros.
template <class T, int D>
__device__ __forceinline__ void produce_widened(const attention_shape& a, const query_tile& tile,
                                                const key_span& span, unsigned char* shared,
                                                shared_barriers& barriers) {
  using space = shared_space<D>;
  using narrow = narrow_space<D>;
  const int thread = static_cast<int>(threadIdx.x);
  const int piece = thread % narrow::pieces, first_own = thread / narrow::pieces;
  const std::int32_t* table = a.block_table + a.table_rows[tile.sequence] * a.table_width;
  const std::int64_t head_bytes = std::int64_t{a.block_size} * D;
  const auto* pages = static_cast<const unsigned char*>(a.pages) + tile.kv_head * head_bytes;
  unsigned char* const raw = shared + narrow::raw + thread * 16;
  const int matrices = 2 * span.tiles;  // tile i's keys are 2 i, its values 2 i + 1
  const auto bring = [&](int n) {
    for (int pass = 0; n < matrices && pass < narrow::passes; ++pass) {
      const int key = span.key_of(n / 2) + first_own + pass * narrow::pass_keys;
      const bool seen = key >= span.first_key() && key <= span.last_position;
      const std::int64_t page = seen ? table[key >> a.block_shift] : 0;
      const auto* from = pages + page * a.page_elements + n % 2 * a.kv_heads * head_bytes +
                         (key & (a.block_size - 1)) * D + piece * 16;
      copy_async_16(raw + n % narrow::slots * narrow::matrix + pass * group_threads * 16, from,
                    seen);
    }
    copy_async_commit();
  };
  for (int n = 0; n + 1 < narrow::slots; ++n) bring(n);
  for (int n = 0; n < matrices; ++n) {
    bring(n + narrow::slots - 1);
    copy_async_wait<narrow::slots - 1>();
    const int i = n / 2, stage = stage_of(i);
    std::uint64_t* const full = n % 2 == 0 ? barriers.keys_full : barriers.values_full;
    std::uint64_t* const empty = n % 2 == 0 ? barriers.keys_empty : barriers.values_empty;
    if (i >= stages) barrier_wait(empty + stage, parity_of(i - stages));
    const unsigned char* from = raw + n % narrow::slots * narrow::matrix;
    unsigned char* const to = shared + (n % 2 == 0 ? space::keys : space::values) +
                              stage * space::matrix + piece / 4 * space::key_half;
#pragma unroll 2
    for (int pass = 0; pass < narrow::passes; ++pass) {
      const int row = first_own + pass * narrow::pass_keys, chunk = piece % 4 * 2;
      uint4 low, high;
      widen_16<T>(*reinterpret_cast<const uint4*>(from + pass * group_threads * 16), low, high);
      *reinterpret_cast<uint4*>(to + swizzled(row, chunk)) = low;
      *reinterpret_cast<uint4*>(to + swizzled(row, chunk + 1)) = high;
    }
    fence_async();
    barrier_arrive(full + stage);
  }
}

// By a consumer: its rows of queries, from `first_row` of the tile, to shared memory.
template <class T, int D>
__device__ __forceinline__ void load_queries(const attention_shape& a, const query_tile& tile,
                                             int first_row, int thread, unsigned char* shared) {
  constexpr int chunks = D / 8, steps = group_rows * chunks / group_threads;
  pack<T> v[steps];
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    const int item = i * group_threads + thread;
    const int row = tile.first_row + first_row + item / chunks;
    const T* from = static_cast<const T*>(a.qkv) + tile.query_at(a, row) + item % chunks * 8;
    v[i] = row < tile.rows ? load_pack(from) : pack<T>{};
  }
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    const int item = i * group_threads + thread, chunk = item % chunks;
    store_pack(reinterpret_cast<T*>(shared + chunk / 8 * shared_space<D>::query_half +
                                    swizzled(first_row + item / chunks, chunk % 8)),
               v[i]);
  }
}

template <class T, int D>
__device__ __forceinline__ T* out_of(const attention_shape& a, const query_tile& tile, int row) {
  return static_cast<T*>(a.out) + tile.out_at(a, row);
}

// By a consumer: its rows of results, from where the queries were.
template <class T, int D>
__device__ __forceinline__ void store_results(const attention_shape& a, const query_tile& tile,
                                              int first_row, int thread,
                                              const unsigned char* shared) {
  constexpr int chunks = D / 8;
  for (int item = thread; item < group_rows * chunks; item += group_threads) {
    const int local = first_row + item / chunks, chunk = item % chunks;
    if (tile.first_row + local >= tile.rows) return;
    store_pack(out_of<T, D>(a, tile, tile.first_row + local) + chunk * 8,
               load_pack(reinterpret_cast<const T*>(
                   shared + chunk / 8 * shared_space<D>::query_half + swizzled(local, chunk % 8))));
  }
}

// By all threads: a padding sequence.
template <class T, int D>
__device__ void store_zeros(const attention_shape& a, const query_tile& tile) {
  constexpr int chunks = D / 8;
  for (int item = static_cast<int>(threadIdx.x); item < tile_rows * chunks; item += block_threads) {
    const int row = tile.first_row + item / chunks;
    if (row >= tile.rows) return;
    store_pack(out_of<T, D>(a, tile, row) + item % chunks * 8, pack<T>{});
  }
}

// By a consumer: rows of a tile of values that no row sees become zeros, since a weight of zero
// times what lies there may be NaN. Both consumers write the same zeros.
template <int D>
__device__ __forceinline__ void clear_unseen(const key_span& span, int i, int part, int thread,
                                             unsigned char* values) {
  const int begin = span.first_key() - span.key_of(i);
  const int end = span.last_position + 1 - span.key_of(i);
  if (begin <= 0 && end >= key_tile) return;
  for (int item = thread; item < shared_space<D>::matrix / 16; item += group_threads) {
    const int row = item / 8 % key_tile;
    if (row < begin || row >= end) reinterpret_cast<uint4*>(values)[item] = uint4{0, 0, 0, 0};
  }
  fence_async();
  group_sync(own_barrier + part, group_threads);
}

// Starts scores = queries keys^T.
template <class T, int D>
__device__ __forceinline__ void start_scores(float (&scores)[64], std::uint64_t queries,
                                             std::uint64_t keys) {
  using space = shared_space<D>;
  multiply_fence();
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    const int half = k / 4, bytes = k % 4 * 32;
    multiply_shared<T>(scores, matrix_at(queries, half * space::query_half + bytes),
                       matrix_at(keys, half * space::key_half + bytes), k > 0);
  }
  multiply_commit();
}

// Starts out += weights values.
template <class T, int Half>
__device__ __forceinline__ void start_values(float (&out)[Half], const std::uint32_t (&weights)[32],
                                             std::uint64_t values) {
  multiply_fence();
#pragma unroll
  for (int k = 0; k < key_tile / 16; ++k) {
    multiply_registers<T>(out, weights + 4 * k, matrix_at(values, k * 16 * 128));
  }
  multiply_commit();
}

// Results over the queries of this consumer's rows, which no product reads any more.
template <class T, int D>
__device__ __forceinline__ void write_results(const float (&out)[D / 2], const softmax_rows& rows,
                                              int first_row, int thread, unsigned char* shared) {
  const int row = first_row + thread / 4 % 8 + thread / 32 * 16;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float inverse = rows.inverse_sum(r);
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      unsigned char* to = shared + j / 8 * shared_space<D>::query_half +
                          swizzled(row + 8 * r, j % 8) + thread % 4 * 4;
      *reinterpret_cast<std::uint32_t*>(to) =
          pack_two<T>(out[4 * j + 2 * r] * inverse, out[4 * j + 2 * r + 1] * inverse);
    }
  }
}

// By a consumer, warpgroup `part` of them.
template <class T, int D>
__device__ __forceinline__ void consume(const attention_shape& a, const query_tile& tile,
                                        const key_span& span, unsigned char* shared,
                                        shared_barriers& barriers) {
  using space = shared_space<D>;
  const int thread = static_cast<int>(threadIdx.x % group_threads);
  const int part = warp_uniform(static_cast<int>(threadIdx.x / group_threads)) - 1,
            other = 1 - part;
  const int first_row = part * group_rows;
  const bool speaker = thread % 32 == 0;  // one thread of a warp frees what the warp has read
  load_queries<T, D>(a, tile, first_row, thread, shared);
  fence_async();
  group_sync(own_barrier + part, group_threads);

  const std::uint32_t base = shared_address(shared);
  const std::uint64_t queries = matrix_words(base + first_row * 128, 0, 1024);
  const std::uint64_t keys = matrix_words(base + space::keys, 0, 1024);
  const std::uint64_t values = matrix_words(base + space::values, space::key_half, 1024);
  const int first_own = tile.first_row + first_row + thread / 4 % 8 + thread / 32 * 16;
  // Positions less the thread's first column, so that mask() knows columns at compile time.
  softmax_rows rows(a.scale, tile.position(min(first_own, tile.rows - 1)) - thread % 4 * 2,
                    tile.position(min(first_own + 8, tile.rows - 1)) - thread % 4 * 2);
  float out[D / 2] = {}, scores[64];
  std::uint32_t weights[32];
  const auto start_values_of = [&](int i) {
    const int offset = stage_of(i) * space::matrix;
    barrier_wait(barriers.values_full + stage_of(i), parity_of(i));
    clear_unseen<D>(span, i, part, thread, shared + space::values + offset);
    start_values<T>(out, weights, matrix_at(values, offset));
  };

  barrier_wait(barriers.keys_full, 0);
  start_scores<T, D>(scores, queries, keys);
  multiply_wait<0>();
  pin(scores);
  if (speaker) barrier_arrive(barriers.keys_empty);
  if (!span.all_see(0)) rows.mask(scores, span.key_of(0), span.window);
  rows.add(scores);
  pack_weights<T>(scores, weights);
  if (part == 1 && span.tiles > 1) group_arrive(turn_barrier + other, 2 * group_threads);
  for (int i = 1; i < span.tiles; ++i) {
    barrier_wait(barriers.keys_full + stage_of(i), parity_of(i));
    group_sync(turn_barrier + part, 2 * group_threads);
    start_scores<T, D>(scores, queries, matrix_at(keys, stage_of(i) * space::matrix));
    start_values_of(i - 1);
    if (part == 0 || i + 1 < span.tiles) group_arrive(turn_barrier + other, 2 * group_threads);
    multiply_wait<1>();
    pin(scores);
    if (speaker) barrier_arrive(barriers.keys_empty + stage_of(i));
    if (!span.all_see(i)) rows.mask(scores, span.key_of(i), span.window);
    rows.add(scores);
    done_before_wait(rows.sum[0] + rows.sum[1]);
    multiply_wait<0>();
    pin(out);
    if (speaker) barrier_arrive(barriers.values_empty + stage_of(i - 1));
    rows.rescale(out);
    pack_weights<T>(scores, weights);
  }
  start_values_of(span.tiles - 1);
  multiply_wait<0>();
  pin(out);
  group_sync(own_barrier + part, group_threads);  // nobody's product reads the queries any more
  write_results<T, D>(out, rows, first_row, thread, shared);
  group_sync(own_barrier + part, group_threads);
  store_results<T, D>(a, tile, first_row, thread, shared);
}

template <class T, int D, class Stored>
__global__ void __launch_bounds__(block_threads, 1)
    prefill_sm90_kernel(const __grid_constant__ attention_shape a,
                        const __grid_constant__ CUtensorMap map, int first_sequence) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(DINFER_CUDA_ON_CPU)
  constexpr bool narrow = sizeof(Stored) < sizeof(T);
  DINFER_SHARED(unsigned char, shared);
  auto& barriers = *reinterpret_cast<shared_barriers*>(shared + shared_space<D>::barriers);
  query_tile tile;
  if (!find_tile(a, first_sequence, tile_rows, tile)) return;
  if (tile.context == 0) return store_zeros<T, D>(a, tile);
  if (threadIdx.x == 0) {
    if constexpr (!narrow) prefetch_map(&map);
    for (int i = 0; i < stages; ++i) {
      barrier_init(barriers.keys_full + i, narrow ? group_threads : 1);
      barrier_init(barriers.values_full + i, narrow ? group_threads : 1);
      barrier_init(barriers.keys_empty + i, consumers * group_threads / 32);
      barrier_init(barriers.values_empty + i, consumers * group_threads / 32);
    }
    barrier_init_done();
  }
  __syncthreads();
  const key_span span(a, tile);
  if (threadIdx.x < group_threads) {
    fewer_registers<narrow ? 56 : 40>();
    if constexpr (narrow) produce_widened<T, D>(a, tile, span, shared, barriers);
    else if (threadIdx.x < 32) produce<D>(a, &map, tile, span, shared, barriers);
  } else {
    more_registers<narrow ? 224 : 232>();
    consume<T, D>(a, tile, span, shared, barriers);
  }
#endif
}

template <class T, int D, class Stored>
void attend(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
            attention_types types, cudaStream_t stream) {
  constexpr bool narrow = sizeof(Stored) < sizeof(T);
  launch(&prefill_sm90_kernel<T, D, Stored>,
         dim3(tile_blocks(shape, first_sequence, tokens, tile_rows)), dim3(block_threads),
         narrow ? narrow_space<D>::bytes : shared_space<D>::bytes, stream, shape,
         narrow ? CUtensorMap{} : page_map(shape, types.pages), first_sequence);
}

}  // namespace

bool prefill_sm90_fits(const attention_shape& shape, attention_types types) {
  return (types.activations == dtype::bf16 || types.activations == dtype::f16) &&
         (shape.head_dim == 64 || shape.head_dim == 128) && shape.block_size >= 16 &&
         key_tile % shape.block_size == 0 && shape.block_size == 1 << shape.block_shift &&
         shape.scale > 0 && (types.f8_pages() || page_map_fits(shape));
}

void attend_prefill_sm90(const attention_shape& shape, std::int32_t first_sequence,
                         std::int32_t tokens, attention_types types, cudaStream_t stream) {
  if (tokens == 0 || first_sequence >= shape.sequences) return;
  with_page_type(types, [&](auto element, auto stored) {
    using T = decltype(element);
    using S = decltype(stored);
    if constexpr (sizeof(T) == 2) {
      const auto run = shape.head_dim == 128 ? &attend<T, 128, S> : &attend<T, 64, S>;
      run(shape, first_sequence, tokens, types, stream);
    }
  });
}

}  // namespace dinfer::kernels::cuda
