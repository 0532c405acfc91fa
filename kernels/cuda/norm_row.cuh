// SPDX-License-Identifier: Apache-2.0
// A row that stays in the registers of one block from an addition to its norm: what add_norm is, by
// itself and behind a sum over GPUs, so that both give the same bits. Threads, and with them the
// order of sums, follow from the row's width alone. Included by .cu files alone.
#pragma once

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/pointwise.hpp"
#include "kernels/cuda/rows.cuh"

namespace dinfer::kernels::cuda {

// This thread's packs of a row: pack i begins at column first(i).
template <class T, int Packs>
struct row_part {
  pack<T> x[Packs];

  static __device__ __forceinline__ int first(int i) {
    return static_cast<int>(i * blockDim.x + threadIdx.x) * pack<T>::count;
  }
  template <bool Whole>
  __device__ __forceinline__ void load(const T* row, int columns) {
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
      x[i] = first(i) < columns ? load_part<Whole>(row, first(i), columns) : zero_pack<T>();
    }
  }
  template <bool Whole>
  __device__ __forceinline__ void store(T* row, int columns) const {
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
      if (first(i) < columns) store_part<Whole>(row, first(i), columns, x[i]);
    }
  }
  __device__ __forceinline__ void add(const row_part& other) {
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
#pragma unroll
      for (int e = 0; e < pack<T>::count; ++e) {
        x[i].v[e] = from_float<T>(to_float(x[i].v[e]) + to_float(other.x[i].v[e]));
      }
    }
  }
  // Past the row's end are zeros.
  __device__ __forceinline__ float sum() const {
    float total = 0;
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
#pragma unroll
      for (int e = 0; e < pack<T>::count; ++e) total += to_float(x[i].v[e]);
    }
    return total;
  }
  // Of (x - shift)^2.
  template <bool Whole>
  __device__ __forceinline__ float squares(float shift, int columns) const {
    float total = 0;
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
#pragma unroll
      for (int e = 0; e < pack<T>::count; ++e) {
        const bool inside = first(i) + (Whole ? 0 : e) < columns;
        const float off = inside ? to_float(x[i].v[e]) - shift : 0.0F;
        total += off * off;
      }
    }
    return total;
  }
};

// The gains of this thread's columns, asked for before the first value is waited for.
template <class T, int Packs>
struct norm_gain {
  float v[Packs][pack<T>::count];

  template <bool Whole>
  __device__ __forceinline__ void load(const add_norm_job& job) {
    const auto columns = static_cast<int>(job.columns);
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
      const int first = row_part<T, Packs>::first(i);
      if (job.gain != nullptr && first < columns)
        load_floats<Whole>(v[i], job.gain, first, columns);
    }
  }
};

// Row `row` of normed = norm of `own`. `space`: 32 floats of shared memory.
template <bool Whole, class T, int Packs>
__device__ __forceinline__ void store_normed(row_part<T, Packs>& own,
                                             const norm_gain<T, Packs>& gain,
                                             const add_norm_job& job, std::int64_t row,
                                             float* space) {
  constexpr int count = pack<T>::count;
  const auto columns = static_cast<int>(job.columns);
  const bool rms = job.kind == norm_kind::rms;
  const auto n = static_cast<float>(columns);
  const float mean = rms ? 0.0F : block_sum(own.sum(), space) / n;
  const float variance = block_sum(own.template squares<Whole>(mean, columns), space) / n;
  const float scale = 1.0F / sqrtf(variance + job.epsilon);
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    if (own.first(i) >= columns) continue;
    float bias[count] = {};
    if (job.bias != nullptr) load_floats<Whole>(bias, job.bias, own.first(i), columns);
#pragma unroll
    for (int e = 0; e < count; ++e) {
      const float y = (to_float(own.x[i].v[e]) - mean) * scale;
      const float rounded = rms ? to_float(from_float<T>(y)) : y;
      own.x[i].v[e] = from_float<T>(rounded * gain.v[i][e] + bias[e]);
    }
  }
  if (job.normed_scales == nullptr) {
    own.template store<Whole>(static_cast<T*>(job.normed) + row * job.columns, columns);
  } else {
    store_f8_row(own.x, columns, static_cast<std::uint8_t*>(job.normed) + row * job.columns,
                 job.normed_scales + row, reinterpret_cast<std::uint32_t*>(space));
  }
}

// with_row_threads, of as many packs a thread as the kernels here have.
template <class T, class Fn>
void with_norm_threads(std::int64_t columns, Fn&& fn) {
  constexpr int most_packs = sizeof(T) == 4 ? 4 : 2;
  if (!with_row_threads<T, most_packs>(columns, fn))
    throw device_error(errc::unsupported, "add_norm: rows of more than 16384 columns");
}

}  // namespace dinfer::kernels::cuda
