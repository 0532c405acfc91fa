// SPDX-License-Identifier: Apache-2.0
// quantise: a block a row, which is read once.
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/overlap.cuh"

namespace dinfer::kernels::cuda {

namespace {

template <class T, int Packs>
__global__ void __launch_bounds__(most_row_threads) quantise_kernel(quantise_job job) {
  DINFER_SHARED(std::uint32_t, space);
  let_next_begin();
  wait_for_previous();
  const auto columns = static_cast<int>(job.columns);
  const std::int64_t row = blockIdx.x;
  const T* in = static_cast<const T*>(job.x) + row * job.columns;
  pack<T> x[Packs];
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    const int first = static_cast<int>(i * blockDim.x + threadIdx.x) * pack<T>::count;
    x[i] = first < columns ? load_pack(in + first) : zero_pack<T>();
  }
  store_f8_row(x, columns, static_cast<std::uint8_t*>(job.out) + row * job.columns,
               job.scales + row, space);
}

}  // namespace

void quantise(const quantise_job& job, dtype type, cudaStream_t stream) {
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    with_row_packs<T>(job.columns, [&](auto packs, unsigned threads) {
      launch_overlapped(quantise_kernel<T, decltype(packs)::value>,
                        dim3(static_cast<unsigned>(job.rows)), dim3(threads),
                        32 * sizeof(std::uint32_t), stream, job);
    });
  });
}

}  // namespace dinfer::kernels::cuda
