// SPDX-License-Identifier: Apache-2.0
// What happens when a chunk of keys ends: the four warps' parts become the chunk's sums, and chunks
// are added up in order, in registers when the whole run is this block's, else by the last of the
// run's blocks to come, from memory; with the same arithmetic, so that bits do not depend on where
// blocks' shares end. Included by .cu files alone.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace dinfer::kernels::cuda {

// The sums of a run up to some chunk. Thread t has four columns of a row at a time:
// number t + 128 i of all [heads][head_dim / 4].
template <class Engine>
struct run_sums {
  static constexpr int most =
      (Engine::most_rows * Engine::largest_head_dim / 4 + decode_threads - 1) / decode_threads;
  float4 sum[most];
  float2 peak[most];  // largest score and mass

  // Adds a chunk's sum; the first chunk stays as it is.
  __device__ __forceinline__ void add(int i, const float4& s, const float2& p, bool first) {
    if (first) {
      sum[i] = s;
      peak[i] = p;
      return;
    }
    const float top = fmaxf(peak[i].x, p.x);
    const float keep = exp2_fast(peak[i].x - top), take = exp2_fast(p.x - top);
    peak[i] = make_float2(top, fmaf(peak[i].y, keep, p.y * take));
    sum[i] = make_float4(fmaf(sum[i].x, keep, s.x * take), fmaf(sum[i].y, keep, s.y * take),
                         fmaf(sum[i].z, keep, s.z * take), fmaf(sum[i].w, keep, s.w * take));
  }
};

template <class T>
__device__ __forceinline__ void store_four(T* to, const float4& v) {
  struct alignas(4 * sizeof(T)) four_of {
    T v[4];
  };
  *reinterpret_cast<four_of*>(to) = {
      {from_float<T>(v.x), from_float<T>(v.y), from_float<T>(v.z), from_float<T>(v.w)}};
}

template <class Engine>
struct chunk_end {
  using T = typename Engine::element;
  static constexpr int most = run_sums<Engine>::most;

  const attention_shape& shape;
  const decode_job& job;
  const tile_note& note;
  int first_head, heads;

  __device__ chunk_end(const attention_shape& s, const decode_job& j, const tile_note& n)
      : shape(s),
        job(j),
        note(n),
        first_head(j.bundles.first_head[n.bundle]),
        heads(j.bundles.first_head[n.bundle + 1] - first_head) {}

  // fn(i, row, four) for every four columns that are this thread's.
  template <class Fn>
  __device__ __forceinline__ void for_each(Fn&& fn) const {
    const int fours = shape.head_dim / 4;
#pragma unroll
    for (int i = 0; i < most; ++i) {
      const int number = static_cast<int>(threadIdx.x) + decode_threads * i;
      if (number < heads * fours) fn(i, number / fours, number % fours);
    }
  }

  // One row of a chunk from its warps' parts.
  __device__ __forceinline__ void combine(const float* parts, const float2* peaks, int row,
                                          int four, float4& sum, float2& peak) const {
    float2 p[decode_warps];
    float top = minus_infinity;
#pragma unroll
    for (int w = 0; w < decode_warps; ++w) {
      p[w] = peaks[w * Engine::most_rows + row];
      top = fmaxf(top, p[w].x);
    }
    sum = make_float4(0, 0, 0, 0);
    peak = make_float2(top, 0);
#pragma unroll
    for (int w = 0; w < decode_warps; ++w) {
      const float take = exp2_fast(p[w].x - top);  // 0 where the warp saw no key
      const float4 s =
          *reinterpret_cast<const float4*>(parts + w * Engine::most_rows * shape.head_dim +
                                           Engine::sum_at(row, four, shape.head_dim));
      peak.y = fmaf(p[w].y, take, peak.y);
      sum = make_float4(fmaf(s.x, take, sum.x), fmaf(s.y, take, sum.y), fmaf(s.z, take, sum.z),
                        fmaf(s.w, take, sum.w));
    }
  }

  __device__ void write_out(const run_sums<Engine>& run) const {
    T* const out = static_cast<T*>(shape.out) +
                   (std::int64_t{note.sequence} * shape.query_heads + first_head) * shape.head_dim;
    for_each([&](int i, int row, int four) {
      const float over = 1.0F / run.peak[i].y;
      const float4 s = run.sum[i];
      store_four(out + row * shape.head_dim + four * 4,
                 make_float4(s.x * over, s.y * over, s.z * over, s.w * over));
    });
  }

  // Row of the merge space for a chunk of this run.
  __device__ std::int64_t merge_row(int owner, int chunk) const {
    return (std::int64_t{owner} * most_chunks + chunk) * job.rows;
  }

  // Counts this chunk; true for all threads of the block that came last.
  __device__ bool arrive(int owner, int* flag) const {
    __syncthreads();  // what the others of the block wrote is covered by this thread's fence
    if (threadIdx.x == 0) {
      __threadfence();
      const bool last = atomicAdd(job.tickets + owner, 1) == note.chunks - 1;
      if (last) job.tickets[owner] = 0;  // for the next launch
      *flag = last ? 1 : 0;
    }
    __syncthreads();
    if (*flag == 0) return false;
    __threadfence();
    return true;
  }

  __device__ void merge(int owner, run_sums<Engine>& run) const {
    for_each([&](int i, int row, int four) {
#pragma unroll 4
      for (int c = 0; c < note.chunks; ++c) {
        const std::int64_t at = merge_row(owner, c) + row;
        const float4 s =
            *reinterpret_cast<const float4*>(job.sums + at * shape.head_dim + four * 4);
        run.add(i, s, job.peaks[at], c == 0);
      }
    });
    write_out(run);
  }
};

// Collective, when every warp has put its part. `owner`: of the run (decode_walk); `flag`: shared.
template <class Engine>
__device__ void end_chunk(const chunk_end<Engine>& end, const float* parts, const float2* peaks,
                          int owner, int* flag, run_sums<Engine>& run) {
  const bool whole = (end.note.flags & run_is_whole) != 0;
  end.for_each([&](int i, int row, int four) {
    float4 sum;
    float2 peak;
    end.combine(parts, peaks, row, four, sum, peak);
    if (whole) return run.add(i, sum, peak, end.note.chunk == 0);
    const std::int64_t at = end.merge_row(owner, end.note.chunk) + row;
    *reinterpret_cast<float4*>(end.job.sums + at * end.shape.head_dim + four * 4) = sum;
    if (four == 0) end.job.peaks[at] = peak;
  });
  if (!whole) {
    if (end.arrive(owner, flag)) end.merge(owner, run);
  } else if ((end.note.flags & run_ends) != 0) {
    end.write_out(run);
  }
}

}  // namespace dinfer::kernels::cuda
