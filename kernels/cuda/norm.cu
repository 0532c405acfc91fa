// SPDX-License-Identifier: Apache-2.0
// add_norm: one block a row, which stays in registers from the addition to the norm, so that every
// element is read once and written once. Threads, and with them the order of sums, follow from the
// row's width alone.
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/overlap.cuh"
#include "kernels/cuda/pointwise.hpp"

namespace dinfer::kernels::cuda {

namespace {

constexpr int most_threads = 1024;

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

template <class T, int Packs, bool Whole>
__global__ void __launch_bounds__(Packs == 1 ? most_threads / 2 : most_threads)
    add_norm_kernel(add_norm_job job) {
  constexpr int count = pack<T>::count;
  DINFER_SHARED(float, space);
  let_next_begin();
  const auto columns = static_cast<int>(job.columns);
  const std::int64_t row = blockIdx.x * job.columns;
  T* residual = static_cast<T*>(job.residual) + row;
  // All that is read is asked for before the first value is waited for.
  float gain[Packs][count];
  row_part<T, Packs> own, added;
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    const bool wanted = job.gain != nullptr && own.first(i) < columns;
    if (wanted) load_floats<Whole>(gain[i], job.gain, own.first(i), columns);
  }
  own.template load<Whole>(residual, columns);
  added.template load<Whole>(static_cast<const T*>(job.partial) + row,
                             job.partial == nullptr ? 0 : columns);
  own.add(added);  // zeros when there is nothing to add
  if (job.partial != nullptr) own.template store<Whole>(residual, columns);
  if (job.gain == nullptr) return;

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
      own.x[i].v[e] = from_float<T>(rounded * gain[i][e] + bias[e]);
    }
  }
  if (job.normed_scales == nullptr) {
    own.template store<Whole>(static_cast<T*>(job.normed) + row, columns);
  } else {
    store_f8_row(own.x, columns, static_cast<std::uint8_t*>(job.normed) + row,
                 job.normed_scales + blockIdx.x, reinterpret_cast<std::uint32_t*>(space));
  }
}

template <class T, int Packs>
void launch_add_norm(const add_norm_job& job, std::int64_t threads, cudaStream_t stream) {
  with_whole<T>(job.columns, {job.partial, job.residual, job.gain, job.bias, job.normed},
                [&](auto whole) {
                  launch(add_norm_kernel<T, Packs, decltype(whole)::value>,
                         dim3(static_cast<unsigned>(job.rows)),
                         dim3(static_cast<unsigned>(threads)), 32 * sizeof(float), stream, job);
                });
}

}  // namespace

void add_norm(const add_norm_job& job, dtype type, cudaStream_t stream) {
  if (job.columns == 0 || (job.partial == nullptr && job.gain == nullptr)) return;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t packs = divide_up(job.columns, pack<T>::count);
    const auto threads = [&](int each) { return divide_up(divide_up(packs, each), 32) * 32; };
    if (threads(1) <= most_threads / 2) return launch_add_norm<T, 1>(job, threads(1), stream);
    if (threads(2) <= most_threads) return launch_add_norm<T, 2>(job, threads(2), stream);
    if constexpr (sizeof(T) == 4) {
      if (threads(4) <= most_threads) return launch_add_norm<T, 4>(job, threads(4), stream);
    }
    throw device_error(errc::unsupported, "add_norm: rows of more than 16384 columns");
  });
}

}  // namespace dinfer::kernels::cuda
