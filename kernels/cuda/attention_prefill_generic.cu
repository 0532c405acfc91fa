// SPDX-License-Identifier: Apache-2.0
// attend_prefill without tensor cores: f32, and any head_dim that is a multiple of 8 up to 256. A
// block has 32 query rows, four threads each, and takes them through the keys in order, 32 at a
// time, by way of shared memory in f32. Row independence: as in attention_prefill.cu, and every
// product is summed in the order of head_dim, every sum in the order of keys.
#include "kernels/cuda/attention_tiles.cuh"

#include <cmath>

namespace dinfer::kernels::cuda {

namespace {

constexpr int threads = 128;
constexpr int tile_rows = 32, tile_keys = 32;
constexpr int most_head_dim = 256;
constexpr int keys_each = tile_keys / 4;        // of a thread: its number in its row, + 4 i
constexpr int fours_each = most_head_dim / 16;  // of a thread's sums: the same, as float4

// A row of shared memory is longer than head_dim, so that the keys of four threads lie in different
// banks.
__host__ __device__ constexpr int row_floats(int head_dim) { return head_dim + 4; }

// Rows of T as rows of floats in shared memory; `find(row)` says where one is, null for zeros.
template <class T, class Find>
__device__ void load_rows(float* to, int rows, int head_dim, Find&& find) {
  const int packs = head_dim / pack<T>::count;
  for (int i = static_cast<int>(threadIdx.x); i < rows * packs; i += threads) {
    const int row = i / packs, at = i % packs * pack<T>::count;
    const T* from = find(row);
    const pack<T> values = from == nullptr ? pack<T>{} : load_pack(from + at);
    float* const line = to + row * row_floats(head_dim) + at;
    for (int e = 0; e < pack<T>::count; ++e) line[e] = to_float(values.v[e]);
  }
}

// This thread's scores: of one query with every fourth key.
__device__ __forceinline__ void score(float (&s)[keys_each], const float* query, const float* keys,
                                      int head_dim) {
  for (float& v : s) v = 0;
  for (int d = 0; d < head_dim; d += 4) {
    const float4 q = *reinterpret_cast<const float4*>(query + d);
#pragma unroll
    for (int i = 0; i < keys_each; ++i) {
      const float4 k = *reinterpret_cast<const float4*>(keys + 4 * i * row_floats(head_dim) + d);
      s[i] = fmaf(q.x, k.x, s[i]);
      s[i] = fmaf(q.y, k.y, s[i]);
      s[i] = fmaf(q.z, k.z, s[i]);
      s[i] = fmaf(q.w, k.w, s[i]);
    }
  }
}

struct row_sums {
  float4 sums[fours_each] = {};
  float peak = -INFINITY, total = 0;
};

// Scores become probabilities relative to the largest so far; what was summed is brought to the
// same measure.
__device__ __forceinline__ void soften(float (&s)[keys_each], row_sums& row, float scale) {
  float top = row.peak;
  for (const float v : s) top = fmaxf(top, v);
  top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
  top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
  const float base = top == -INFINITY ? 0.0F : top;  // nothing seen yet: anything does
  const float rescale = exp2f((row.peak - base) * scale);
  row.peak = top;
  float sum = 0;
#pragma unroll
  for (float& v : s) sum += v = exp2f((v - base) * scale);
  row.total = fmaf(row.total, rescale, sum);
#pragma unroll
  for (float4& v : row.sums) {
    v.x *= rescale;
    v.y *= rescale;
    v.z *= rescale;
    v.w *= rescale;
  }
}

__device__ __forceinline__ void add_values(const float (&p)[keys_each], row_sums& row,
                                           const float* values, int head_dim) {
  const int part = static_cast<int>(threadIdx.x) % 4;
  const int row_lane = static_cast<int>(threadIdx.x) % 32 - part;
#pragma unroll
  for (int i = 0; i < keys_each; ++i) {
#pragma unroll 1
    for (int four = 0; four < 4; ++four) {
      const float weight = __shfl_sync(whole_warp, p[i], row_lane + four);
      const float* const line = values + (4 * i + four) * row_floats(head_dim) + 4 * part;
#pragma unroll
      for (int n = 0; n < fours_each; ++n) {
        if (16 * n + 4 * part >= head_dim) break;
        const float4 v = *reinterpret_cast<const float4*>(line + 16 * n);
        row.sums[n].x = fmaf(weight, v.x, row.sums[n].x);
        row.sums[n].y = fmaf(weight, v.y, row.sums[n].y);
        row.sums[n].z = fmaf(weight, v.z, row.sums[n].z);
        row.sums[n].w = fmaf(weight, v.w, row.sums[n].w);
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void store(const attention_shape& shape, const query_tile& tile,
                                      std::int32_t index, row_sums& row) {
  const int part = static_cast<int>(threadIdx.x) % 4;
  row.total += __shfl_xor_sync(whole_warp, row.total, 1);
  row.total += __shfl_xor_sync(whole_warp, row.total, 2);
  if (index >= tile.rows) return;
  T* const out = static_cast<T*>(shape.out) + tile.out_at(shape, index);
#pragma unroll
  for (int n = 0; n < fours_each; ++n) {
    const int at = 16 * n + 4 * part;
    if (at >= shape.head_dim) break;
    const float4 v = row.sums[n];
    out[at] = from_float<T>(v.x / row.total + 0.0F);  // + 0: no negative zeros
    out[at + 1] = from_float<T>(v.y / row.total + 0.0F);
    out[at + 2] = from_float<T>(v.z / row.total + 0.0F);
    out[at + 3] = from_float<T>(v.w / row.total + 0.0F);
  }
}

template <class T, class Stored>
__global__ __launch_bounds__(threads) void prefill(const __grid_constant__ attention_shape shape,
                                                   std::int32_t first_sequence, float scale) {
  DINFER_SHARED(float, queries);
  query_tile tile;
  if (!find_tile(shape, first_sequence, tile_rows, tile)) return;
  if (tile.context == 0) return store_zeros<T>(shape, tile, tile_rows);
  const int dim = shape.head_dim;
  float* const keys = queries + tile_rows * row_floats(dim);
  float* const values = keys + tile_keys * row_floats(dim);
  const std::int32_t last_row = min(tile.first_row + tile_rows, tile.rows) - 1;
  const std::int32_t end = tile.position(last_row) + 1;
  const std::int32_t begin =
      shape.window > 0 ? max(0, tile.position(tile.first_row) - shape.window + 1) : 0;
  const int local_row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
  const std::int32_t row = tile.first_row + local_row;
  const std::int32_t position = tile.position(min(row, last_row));
  const std::int32_t first_seen = shape.window > 0 ? position - shape.window + 1 : 0;
  const std::int32_t* const table = tile.pages(shape);
  const std::int64_t matrix = std::int64_t{shape.block_size} * dim;  // keys of a page and head
  load_rows<T>(queries, tile_rows, dim, [&](int at) {
    return static_cast<const T*>(shape.qkv) +
           tile.query_at(shape, min(tile.first_row + at, last_row));
  });
  row_sums sums;
  for (std::int32_t key = begin / tile_keys * tile_keys; key < end; key += tile_keys) {
    __syncthreads();  // the tile before is read
    for (int kind = 0; kind < 2; ++kind) {
      load_rows<Stored>(kind == 0 ? keys : values, tile_keys, dim, [&](int at) -> const Stored* {
        const std::int32_t k = key + at;
        if (k >= end) return nullptr;
        return static_cast<const Stored*>(shape.pages) +
               table[k >> shape.block_shift] * shape.page_elements +
               (kind * shape.kv_heads + tile.kv_head) * matrix +
               std::int64_t{k & (shape.block_size - 1)} * dim;
      });
    }
    __syncthreads();
    float s[keys_each];
    score(s, queries + local_row * row_floats(dim), keys + part * row_floats(dim), dim);
#pragma unroll
    for (int i = 0; i < keys_each; ++i) {
      const std::int32_t k = key + part + 4 * i;
      if (k > position || k < first_seen) s[i] = -INFINITY;
    }
    soften(s, sums, scale);
    add_values(s, sums, values, dim);
  }
  store<T>(shape, tile, row, sums);
}

}  // namespace

void attend_prefill_generic(const attention_shape& shape, std::int32_t first_sequence,
                            std::int32_t tokens, attention_types types, cudaStream_t stream) {
  if (shape.head_dim % (types.f8_pages() ? 16 : 8) != 0 || shape.head_dim > most_head_dim) {
    throw device_error(errc::internal, "no attention kernel for this head_dim");
  }
  const dim3 grid(tile_blocks(shape, first_sequence, tokens, tile_rows));
  const std::size_t shared_bytes = static_cast<std::size_t>(tile_rows + 2 * tile_keys) *
                                   static_cast<std::size_t>(row_floats(shape.head_dim)) *
                                   sizeof(float);
  with_page_type(types, [&](auto element, auto stored) {
    launch(prefill<decltype(element), decltype(stored)>, grid, dim3(threads), shared_bytes, stream,
           shape, first_sequence, exponent_scale(shape));
  });
}

}  // namespace dinfer::kernels::cuda
