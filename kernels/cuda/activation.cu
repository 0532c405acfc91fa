// SPDX-License-Identifier: Apache-2.0
// What follows a matrix product that could not do it itself: bias and activation, and the gate of
// SwiGLU.
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/overlap.cuh"
#include "kernels/cuda/pointwise.hpp"

namespace dinfer::kernels::cuda {

namespace {

constexpr int packs_per_thread = 2;

// Two units in the last place; 0 where e^-x is beyond 2^126.
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0F + expf(-x)); }

template <activation Act>
__device__ __forceinline__ float activated(float x) {
  if constexpr (Act == activation::gelu_tanh) {
    constexpr float root_two_over_pi = 0.7978845608F;
    return 0.5F * x * (1.0F + tanhf(root_two_over_pi * (x + 0.044715F * x * x * x)));
  } else if constexpr (Act == activation::gelu) {
    return 0.5F * x * (1.0F + erff(x * 0.7071067812F));
  } else if constexpr (Act == activation::relu) {
    return x < 0.0F ? 0.0F : x;  // NaN stays
  } else {
    return x;
  }
}

// Eight gates and their ups, or four, from column c on.
template <class T>
struct gate_pair {
  pack<T> gates, ups;

  __device__ __forceinline__ void load(const T* row, std::int64_t c) {
    gates = load_pack(row + c / 8 * 16 + c % 8);
    ups = load_pack(row + c / 8 * 16 + c % 8 + 8);
  }
  __device__ __forceinline__ pack<T> product(const float* bias, int c, int columns) const {
    constexpr int count = pack<T>::count;
    float gate_bias[count] = {}, up_bias[count] = {};
    if (bias != nullptr) {  // rows are rarely whole here: ups begin anywhere
      load_floats<false>(gate_bias, bias, c, columns);
      load_floats<false>(up_bias, bias + columns, c, columns);
    }
    pack<T> out;
#pragma unroll
    for (int e = 0; e < count; ++e) {
      const float g = to_float(gates.v[e]) + gate_bias[e];
      out.v[e] = from_float<T>(silu(g) * (to_float(ups.v[e]) + up_bias[e]));
    }
    return out;
  }
};

template <class T, bool Whole>
__global__ void __launch_bounds__(256) gate_kernel(gate_job job) {
  const auto columns = static_cast<int>(job.columns);
  const std::int64_t row = blockIdx.x;
  const T* in = static_cast<const T*>(job.gate_up) + row * ((job.columns + 7) / 8 * 16);
  T* out = static_cast<T*>(job.out) + row * job.columns;
  gate_pair<T> pairs[packs_per_thread];
#pragma unroll
  for (int i = 0; i < packs_per_thread; ++i) {
    const auto c = column_of<T, packs_per_thread>(i);
    if (c < columns) pairs[i].load(in, c);
  }
#pragma unroll
  for (int i = 0; i < packs_per_thread; ++i) {
    const auto wide = column_of<T, packs_per_thread>(i);
    if (wide >= columns) continue;
    const auto c = static_cast<int>(wide);
    store_part<Whole>(out, c, columns, pairs[i].product(job.bias, c, columns));
  }
}

// The same into 8-bit floats: a block a row, for its scale.
template <class T, int Packs>
__global__ void __launch_bounds__(most_row_threads) gate_f8_kernel(gate_job job) {
  DINFER_SHARED(std::uint32_t, space);
  let_next_begin();
  wait_for_previous();
  const auto columns = static_cast<int>(job.columns);
  const std::int64_t row = blockIdx.x;
  const T* in = static_cast<const T*>(job.gate_up) + row * 2 * job.columns;
  gate_pair<T> pairs[Packs];
  pack<T> x[Packs];
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    const int c = static_cast<int>(i * blockDim.x + threadIdx.x) * pack<T>::count;
    if (c < columns) pairs[i].load(in, c);
  }
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    const int c = static_cast<int>(i * blockDim.x + threadIdx.x) * pack<T>::count;
    x[i] = c < columns ? pairs[i].product(job.bias, c, columns) : zero_pack<T>();
  }
  store_f8_row(x, columns, static_cast<std::uint8_t*>(job.out) + row * job.columns,
               job.out_scales + row, space);
}

template <class T>
void launch_gate_f8(const gate_job& job, cudaStream_t stream) {
  with_row_packs<T>(job.columns, [&](auto packs, unsigned threads) {
    launch_overlapped(gate_f8_kernel<T, decltype(packs)::value>,
                      dim3(static_cast<unsigned>(job.rows)), dim3(threads),
                      32 * sizeof(std::uint32_t), stream, job);
  });
}

template <class T, bool Whole, activation Act>
__global__ void __launch_bounds__(256) activate_kernel(activate_job job) {
  constexpr int count = pack<T>::count;
  const auto columns = static_cast<int>(job.columns);
  T* x = static_cast<T*>(job.x) + std::int64_t{blockIdx.x} * job.columns;
  pack<T> parts[packs_per_thread];
#pragma unroll
  for (int i = 0; i < packs_per_thread; ++i) {
    const auto c = column_of<T, packs_per_thread>(i);
    if (c < columns) parts[i] = load_part<Whole>(x, static_cast<int>(c), columns);
  }
#pragma unroll
  for (int i = 0; i < packs_per_thread; ++i) {
    const auto wide = column_of<T, packs_per_thread>(i);
    if (wide >= columns) continue;
    const auto c = static_cast<int>(wide);
    float bias[count] = {};
    if (job.bias != nullptr) load_floats<Whole>(bias, job.bias, c, columns);
#pragma unroll
    for (int e = 0; e < count; ++e) {
      parts[i].v[e] = from_float<T>(activated<Act>(to_float(parts[i].v[e]) + bias[e]));
    }
    store_part<Whole>(x, c, columns, parts[i]);
  }
}

template <activation Act>
void launch_activate(const activate_job& job, dtype type, cudaStream_t stream) {
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto [grid, block] = grid_over<T>(job.rows, job.columns, packs_per_thread);
    with_whole<T>(job.columns, {job.x, job.bias}, [&](auto whole) {
      launch(activate_kernel<T, decltype(whole)::value, Act>, grid, block, 0, stream, job);
    });
  });
}

}  // namespace

void gate(const gate_job& job, dtype type, cudaStream_t stream) {
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    if (job.out_scales != nullptr) return launch_gate_f8<T>(job, stream);
    const auto [grid, block] = grid_over<T>(job.rows, job.columns, packs_per_thread);
    with_whole<T>(job.columns, {job.out}, [&](auto whole) {
      launch(gate_kernel<T, decltype(whole)::value>, grid, block, 0, stream, job);
    });
  });
}

void activate(const activate_job& job, dtype type, cudaStream_t stream) {
  switch (job.act) {
    case activation::none:
      if (job.bias == nullptr) return;
      return launch_activate<activation::none>(job, type, stream);
    case activation::gelu_tanh:
      return launch_activate<activation::gelu_tanh>(job, type, stream);
    case activation::gelu:
      return launch_activate<activation::gelu>(job, type, stream);
    case activation::relu:
      return launch_activate<activation::relu>(job, type, stream);
    case activation::swiglu:
      break;
  }
  throw device_error(errc::internal, "activate: swiglu needs gate()");
}

}  // namespace dinfer::kernels::cuda
