// SPDX-License-Identifier: Apache-2.0
// Causal attention of many queries over paged keys on Hopper, in the manner of FlashAttention-3
// (Shah et al. 2024): one warp fetches tiles of 128 keys and values by TMA, two warpgroups of 64
// rows each multiply by wgmma; the scores of a tile are multiplied while the tile before it is
// still multiplied with its values, and the warpgroups take turns, so that one's softmax runs under
// the other's products. Scores, softmax and sums are f32; weights are rounded to T before they meet
// the values. Error against f32 attention, relative to the row's largest value: bf16 1.5e-2, f16
// 2e-3.
//
// A block computes 128 rows of one sequence and one KV head: `queries` of the sequence, for each of
// them the `group` heads that read this KV head. Key tiles begin at multiples of 128 keys and are
// taken in key order; for a row that sees none of its keys a tile changes nothing, so that a row's
// bits depend on its position and its keys alone.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/sm90.cuh"
#include "kernels/cuda/tensor_map.hpp"

#include <algorithm>
#include <cstdint>

namespace dinfer::kernels::cuda {

namespace {

constexpr int key_tile = 128;
constexpr int stages = 2;
constexpr int group_threads = 128;
constexpr int group_rows = 64;
constexpr int consumers = 2;
constexpr int tile_rows = consumers * group_rows;
constexpr int block_threads = group_threads * (consumers + 1);
constexpr int no_window = 1 << 30;
constexpr float log2_e = 1.4426950408889634F;

// Named barriers: one for each consumer's own threads, one for each consumer's turn.
constexpr int own_barrier = 1, turn_barrier = own_barrier + consumers;

struct tile_job {
  std::int32_t sequence, first_token, first_position;
  std::int32_t queries;             // 0: no work
  std::int32_t key_begin, key_end;  // what the tile's queries see; key_end 0: out is zeros
};

struct shared_control {
  std::uint64_t keys_full[stages], keys_empty[stages];
  std::uint64_t values_full[stages], values_empty[stages];
  tile_job job;
};

// Byte offsets in shared memory. A matrix lies as halves of 64 columns, each a swizzled tile.
template <int D>
struct shared_space {
  static constexpr int halves = D / 64;
  static constexpr int query_half = tile_rows * 128, key_half = key_tile * 128;
  static constexpr int matrix = halves * key_half;
  static constexpr int keys = halves * query_half;
  static constexpr int values = keys + stages * matrix;
  static constexpr int control = values + stages * matrix;
  static constexpr int bytes = control + static_cast<int>(sizeof(shared_control));
};

// By one warp. Tiles are counted over the sequences; within a sequence the last queries, which have
// the most keys, come first.
__device__ void find_job(const attention_shape& a, int first_sequence, int per_tile, int tile,
                         tile_job* job) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int base = first_sequence; base < a.sequences; base += 32) {
    const int s = base + lane;
    const int begin = s < a.sequences ? a.query_begin[s] : 0;
    const int queries = s < a.sequences ? a.query_begin[s + 1] - begin : 0;
    const int tiles = (queries + per_tile - 1) / per_tile;
    int end = tiles;
    for (int d = 1; d < 32; d *= 2) {
      const int below = __shfl_up_sync(0xFFFFFFFFU, end, d);
      if (lane >= d) end += below;
    }
    const unsigned found = __ballot_sync(0xFFFFFFFFU, tile < end);
    if (found != 0) {
      if (lane != __ffs(static_cast<int>(found)) - 1) return;
      const int first = (end - 1 - tile) * per_tile;
      const int window = a.window > 0 ? a.window : no_window;
      const int context = a.context[s];
      job->sequence = s;
      job->first_token = begin + first;
      job->first_position = context - queries + first;
      job->queries = min(per_tile, queries - first);
      job->key_begin = max(0, job->first_position - window + 1);
      job->key_end = context > 0 ? job->first_position + job->queries : 0;
      return;
    }
    tile -= __shfl_sync(0xFFFFFFFFU, end, 31);
  }
  if (lane == 0) job->queries = 0;
}

// Tiles are counted from the first one in which a key is seen: stage and parity of tile i.
__device__ __forceinline__ int stage_of(int i) { return i % stages; }
__device__ __forceinline__ std::uint32_t parity_of(int i) {
  return static_cast<std::uint32_t>(i / stages) & 1U;
}

// By one warp: a lane fetches one half of one page of a tile. Pages in which no query sees a key
// are not touched: their table entries may be stale.
template <class T, int D>
__device__ __forceinline__ void produce(const attention_shape& a, const CUtensorMap* map,
                                        const tile_job& job, int kv_head, unsigned char* shared,
                                        shared_control& control) {
  using space = shared_space<D>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int half = lane % space::halves, slot = lane / space::halves;
  const int pages_per_tile = key_tile >> a.block_shift, page_bytes = a.block_size * 128;
  const std::int32_t* table = a.block_table + a.table_rows[job.sequence] * a.table_width;
  const int first = job.key_begin / key_tile, count = (job.key_end - 1) / key_tile + 1 - first;
  const int first_page = job.key_begin >> a.block_shift;
  const int last_page = (job.key_end - 1) >> a.block_shift;
  unsigned char* const to = shared + half * space::key_half + slot * page_bytes;
  for (int i = 0; i < count; ++i) {
    const int block = (first + i) * pages_per_tile + slot, stage = stage_of(i);
    const bool mine = slot < pages_per_tile && block >= first_page && block <= last_page;
    const int page = mine ? table[block] : 0;
    const auto bytes = static_cast<std::uint32_t>(
        __popc(static_cast<int>(__ballot_sync(0xFFFFFFFFU, mine))) * page_bytes);
    for (int part = 0; part < 2; ++part) {
      std::uint64_t* const full = part == 0 ? control.keys_full : control.values_full;
      std::uint64_t* const empty = part == 0 ? control.keys_empty : control.values_empty;
      if (i >= stages) barrier_wait(empty + stage, parity_of(i - stages));
      if (lane == 0) barrier_arrive_expect(full + stage, bytes);
      __syncwarp();
      if (mine) {
        load_box(to + (part == 0 ? space::keys : space::values) + stage * space::matrix, map,
                 half * 64, 0, part * a.kv_heads + kv_head, page, full + stage);
      }
    }
  }
}

// Rows of a block are (query, head) pairs, `group` heads to a query; false where there is none.
// `column` is that of the head's first element in a matrix of `query_heads` heads.
struct row_place {
  std::int64_t token, column;
  bool there;
};
__device__ __forceinline__ row_place place_of(const attention_shape& a, const tile_job& job,
                                              int kv_head, int group, int row) {
  const int query = row / group, head = a.first_query[kv_head] + row % group;
  return {job.first_token + query, std::int64_t{head} * a.head_dim,
          query < job.queries && head < a.first_query[kv_head + 1]};
}

// By a consumer: its 64 rows of queries, to shared memory.
template <class T, int D>
__device__ __forceinline__ void load_queries(const attention_shape& a, const tile_job& job,
                                             int kv_head, int group, int first_row, int thread,
                                             unsigned char* shared) {
  constexpr int chunks = D / 8, steps = group_rows * chunks / group_threads;
  pack<T> v[steps];
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    const int item = i * group_threads + thread;
    const row_place p = place_of(a, job, kv_head, group, first_row + item / chunks);
    const T* from = static_cast<const T*>(a.qkv) + p.token * a.qkv_columns + p.column;
    v[i] = p.there ? load_pack(from + item % chunks * 8) : pack<T>{};
  }
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    const int item = i * group_threads + thread, chunk = item % chunks;
    store_pack(reinterpret_cast<T*>(shared + chunk / 8 * shared_space<D>::query_half +
                                    swizzled(first_row + item / chunks, chunk % 8)),
               v[i]);
  }
}

// By a consumer: its 64 rows of results, from where the queries were.
template <class T, int D>
__device__ __forceinline__ void store_results(const attention_shape& a, const tile_job& job,
                                              int kv_head, int group, int first_row, int thread,
                                              const unsigned char* shared) {
  constexpr int chunks = D / 8, steps = group_rows * chunks / group_threads;
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    const int item = i * group_threads + thread, chunk = item % chunks;
    const row_place p = place_of(a, job, kv_head, group, first_row + item / chunks);
    if (!p.there) continue;
    T* to = static_cast<T*>(a.out) + p.token * a.query_heads * D + p.column;
    store_pack(
        to + chunk * 8,
        load_pack(reinterpret_cast<const T*>(shared + chunk / 8 * shared_space<D>::query_half +
                                             swizzled(first_row + item / chunks, chunk % 8))));
  }
}

// By all threads: a padding sequence.
template <class T, int D>
__device__ void store_zeros(const attention_shape& a, const tile_job& job, int kv_head, int group) {
  for (int item = static_cast<int>(threadIdx.x); item < tile_rows * D / 8; item += block_threads) {
    const row_place p = place_of(a, job, kv_head, group, item / (D / 8));
    if (!p.there) continue;
    T* to = static_cast<T*>(a.out) + p.token * a.query_heads * D + p.column;
    store_pack(to + item % (D / 8) * 8, pack<T>{});
  }
}

// By a consumer: rows of a tile of values that no query sees become zeros, since a weight of zero
// times what lies there may be NaN. Both consumers write the same zeros.
template <int D>
__device__ __forceinline__ void clear_unseen(const tile_job& job, int tile, int part, int thread,
                                             unsigned char* values) {
  using space = shared_space<D>;
  const int begin = job.key_begin - tile * key_tile, end = job.key_end - tile * key_tile;
  if (begin <= 0 && end >= key_tile) return;
  for (int item = thread; item < space::matrix / 16; item += group_threads) {
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

// Two rows of a thread, 8 apart: the running softmax. Element i of scores or out is of row
// (i / 2) % 2, and of column 8 * (i / 4) + i % 2 from the thread's first.
struct softmax_rows {
  float scale;  // of scores, times log2(e)
  int position[2];
  float most[2], sum[2], factor[2];  // factor: what earlier sums are worth after the last tile

  __device__ __forceinline__ void mask(float (&scores)[64], int first_key, int window) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int behind = position[i / 2 % 2] - first_key - (8 * (i / 4) + i % 2);
      if (behind < 0 || behind >= window) scores[i] = -INFINITY;
    }
  }

  // Scores become weights.
  __device__ __forceinline__ void add(float (&scores)[64]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float tops[2] = {most[r], most[r]};
#pragma unroll
      for (int i = 0; i < 64; i += 4) {
        tops[0] = fmaxf(tops[0], scores[i + 2 * r]);
        tops[1] = fmaxf(tops[1], scores[i + 2 * r + 1]);
      }
      float top = fmaxf(tops[0], tops[1]);
      top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 2));
      const float base = top == -INFINITY ? 0.0F : top;  // nothing seen yet: weights are zeros
      factor[r] = exp2_fast((most[r] - base) * scale);
      most[r] = top;
      const float offset = -base * scale;
      float sums[2] = {0, 0};
#pragma unroll
      for (int i = 0; i < 64; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& s = scores[i + 2 * r + e];
          s = exp2_fast(fmaf(s, scale, offset));
          sums[e] += s;
        }
      }
      sum[r] = fmaf(sum[r], factor[r], sums[0] + sums[1]);
    }
  }

  template <int Half>
  __device__ __forceinline__ void rescale(float (&out)[Half]) const {
#pragma unroll
    for (int i = 0; i < Half; ++i) out[i] *= factor[i / 2 % 2];
  }

  // What out is multiplied with at last.
  __device__ __forceinline__ float inverse_sum(int r) const {
    float all = sum[r] + __shfl_xor_sync(0xFFFFFFFFU, sum[r], 1);
    all += __shfl_xor_sync(0xFFFFFFFFU, all, 2);
    return all > 0 ? 1.0F / all : 0.0F;
  }
};

// Weights as the registers of the product with the values.
template <class T>
__device__ __forceinline__ void pack_weights(const float (&scores)[64],
                                             std::uint32_t (&weights)[32]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) weights[i] = pack_two<T>(scores[2 * i], scores[2 * i + 1]);
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

__device__ __forceinline__ softmax_rows first_rows(const attention_shape& a, const tile_job& job,
                                                   int group, int first_row, int thread) {
  softmax_rows rows;
  rows.scale = a.scale * log2_e;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = (first_row + thread / 4 % 8 + thread / 32 * 16 + 8 * r) / group;
    // Less than the thread's first column, so that columns are compile-time numbers in mask().
    rows.position[r] = job.first_position + min(query, job.queries - 1) - thread % 4 * 2;
    rows.most[r] = -INFINITY;
    rows.sum[r] = 0;
  }
  return rows;
}

// By a consumer, warpgroup `part` of them. While the scores of tile i are multiplied, so are the
// weights and values of tile i - 1.
template <class T, int D>
__device__ __forceinline__ void consume(const attention_shape& a, const tile_job& job, int kv_head,
                                        int group, unsigned char* shared, shared_control& control) {
  using space = shared_space<D>;
  const int thread = static_cast<int>(threadIdx.x % group_threads);
  // The same in all threads of a warp, which the compiler sees by the shuffle alone.
  const int part = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x / group_threads), 0) - 1;
  const int other = 1 - part;
  const int first_row = part * group_rows;
  load_queries<T, D>(a, job, kv_head, group, first_row, thread, shared);
  fence_async();
  group_sync(own_barrier + part, group_threads);

  const int window = a.window > 0 ? a.window : no_window;
  const int first = job.key_begin / key_tile, count = (job.key_end - 1) / key_tile + 1 - first;
  const int last_position = job.key_end - 1;
  const bool speaker = thread % 32 == 0;  // one thread of a warp frees what the warp has read
  const std::uint32_t base = shared_address(shared);
  const std::uint64_t queries = matrix_words(base + first_row * 128, 0, 1024);
  const std::uint64_t keys = matrix_words(base + space::keys, 0, 1024);
  const std::uint64_t values = matrix_words(base + space::values, space::key_half, 1024);
  softmax_rows rows = first_rows(a, job, group, first_row, thread);
  float out[D / 2] = {}, scores[64];
  std::uint32_t weights[32];
  const auto mask = [&](int i) {
    const int key = (first + i) * key_tile;
    const bool all_seen = key + key_tile - 1 <= job.first_position && key > last_position - window;
    if (!all_seen) rows.mask(scores, key, window);
  };
  const auto start_values_of = [&](int i) {
    const int offset = stage_of(i) * space::matrix;
    barrier_wait(control.values_full + stage_of(i), parity_of(i));
    clear_unseen<D>(job, first + i, part, thread, shared + space::values + offset);
    start_values<T>(out, weights, matrix_at(values, offset));
  };

  barrier_wait(control.keys_full, 0);
  start_scores<T, D>(scores, queries, keys);
  multiply_wait<0>();
  pin(scores);
  if (speaker) barrier_arrive(control.keys_empty);
  mask(0);
  rows.add(scores);
  pack_weights<T>(scores, weights);
  if (part == 1 && count > 1) group_arrive(turn_barrier + other, 2 * group_threads);
  for (int i = 1; i < count; ++i) {
    barrier_wait(control.keys_full + stage_of(i), parity_of(i));
    group_sync(turn_barrier + part, 2 * group_threads);
    start_scores<T, D>(scores, queries, matrix_at(keys, stage_of(i) * space::matrix));
    start_values_of(i - 1);
    if (part == 0 || i + 1 < count) group_arrive(turn_barrier + other, 2 * group_threads);
    multiply_wait<1>();
    pin(scores);
    if (speaker) barrier_arrive(control.keys_empty + stage_of(i));
    mask(i);
    rows.add(scores);
    done_before_wait(rows.sum[0] + rows.sum[1]);
    multiply_wait<0>();
    pin(out);
    if (speaker) barrier_arrive(control.values_empty + stage_of(i - 1));
    rows.rescale(out);
    pack_weights<T>(scores, weights);
  }
  start_values_of(count - 1);
  multiply_wait<0>();
  pin(out);
  group_sync(own_barrier + part, group_threads);
  write_results<T, D>(out, rows, first_row, thread, shared);
  group_sync(own_barrier + part, group_threads);
  store_results<T, D>(a, job, kv_head, group, first_row, thread, shared);
}

template <class T, int D>
__global__ void __launch_bounds__(block_threads, 1)
    prefill_sm90_kernel(const __grid_constant__ attention_shape a,
                        const __grid_constant__ CUtensorMap map, int first_sequence, int group) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(DINFER_CUDA_ON_CPU)
  DINFER_SHARED(unsigned char, shared);
  shared_control& control = *reinterpret_cast<shared_control*>(shared + shared_space<D>::control);
  const int kv_head = static_cast<int>(blockIdx.x) % a.kv_heads;
  if (threadIdx.x < 32) {
    find_job(a, first_sequence, tile_rows / group, static_cast<int>(blockIdx.x) / a.kv_heads,
             &control.job);
    if (threadIdx.x == 0) {
      prefetch_map(&map);
      for (int i = 0; i < stages; ++i) {
        barrier_init(control.keys_full + i, 1);
        barrier_init(control.values_full + i, 1);
        barrier_init(control.keys_empty + i, consumers * group_threads / 32);
        barrier_init(control.values_empty + i, consumers * group_threads / 32);
      }
      barrier_init_done();
    }
  }
  __syncthreads();
  const tile_job job = control.job;
  if (job.queries == 0) return;
  if (job.key_end == 0) return store_zeros<T, D>(a, job, kv_head, group);
  if (threadIdx.x < group_threads) {
    fewer_registers<40>();
    if (threadIdx.x < 32) produce<T, D>(a, &map, job, kv_head, shared, control);
  } else {
    more_registers<232>();
    consume<T, D>(a, job, kv_head, group, shared, control);
  }
#endif
}

template <class T, int D>
void attend(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
            std::int32_t group, dtype type, cudaStream_t stream) {
  // How the tokens are shared among the sequences is known on the device alone; blocks that find
  // no tile end.
  const std::int32_t per_tile = tile_rows / group;
  const std::int32_t tiles = tokens / per_tile + shape.sequences - first_sequence;
  launch(&prefill_sm90_kernel<T, D>, dim3(static_cast<unsigned>(tiles * shape.kv_heads)),
         dim3(block_threads), shared_space<D>::bytes, stream, shape, page_map(shape, type),
         first_sequence, group);
}

std::int32_t largest_group(const attention_shape& shape) {
  std::int32_t group = 1;
  for (std::int32_t k = 0; k < shape.kv_heads; ++k) {
    group = std::max<std::int32_t>(group, shape.first_query[k + 1] - shape.first_query[k]);
  }
  return group;
}

}  // namespace

bool prefill_sm90_fits(const attention_shape& shape, dtype type) {
  return (type == dtype::bf16 || type == dtype::f16) &&
         (shape.head_dim == 64 || shape.head_dim == 128) && shape.block_size >= 16 &&
         shape.block_size <= key_tile && shape.scale > 0 && largest_group(shape) <= tile_rows &&
         page_map_fits(shape);
}

void attend_prefill_sm90(const attention_shape& shape, std::int32_t first_sequence,
                         std::int32_t tokens, dtype type, cudaStream_t stream) {
  if (tokens == 0 || first_sequence >= shape.sequences) return;
  const std::int32_t group = largest_group(shape);
  const bool wide = shape.head_dim == 128;
  if (type == dtype::bf16) {
    (wide ? attend<bf16, 128> : attend<bf16, 64>)(shape, first_sequence, tokens, group, type,
                                                  stream);
  } else {
    (wide ? attend<f16, 128> : attend<f16, 64>)(shape, first_sequence, tokens, group, type, stream);
  }
}

}  // namespace dinfer::kernels::cuda
