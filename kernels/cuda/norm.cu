// SPDX-License-Identifier: Apache-2.0
// add_norm: one block a row, so that every element is read once and written once.
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/overlap.cuh"

namespace dinfer::kernels::cuda {

namespace {

template <class T, int Packs, bool Whole>
__global__ void __launch_bounds__(Packs == 1 ? most_row_threads / 2 : most_row_threads)
    add_norm_kernel(add_norm_job job) {
  DINFER_SHARED(float, space);
  let_next_begin();
  const auto columns = static_cast<int>(job.columns);
  const std::int64_t row = blockIdx.x * job.columns;
  T* residual = static_cast<T*>(job.residual) + row;
  // All that is read is asked for before the first value is waited for.
  norm_gain<T, Packs> gain;
  gain.template load<Whole>(job);
  wait_for_previous();
  row_part<T, Packs> own, added;
  own.template load<Whole>(residual, columns);
  added.template load<Whole>(static_cast<const T*>(job.partial) + row,
                             job.partial == nullptr ? 0 : columns);
  own.add(added);  // zeros when there is nothing to add
  if (job.partial != nullptr) own.template store<Whole>(residual, columns);
  if (job.gain == nullptr) return;
  store_normed<Whole>(own, gain, job, blockIdx.x, space);
}

template <class T, int Packs>
void launch_add_norm(const add_norm_job& job, unsigned threads, cudaStream_t stream) {
  with_whole<T>(job.columns, {job.partial, job.residual, job.gain, job.bias, job.normed},
                [&](auto whole) {
                  launch_overlapped(add_norm_kernel<T, Packs, decltype(whole)::value>,
                                    dim3(static_cast<unsigned>(job.rows)), dim3(threads),
                                    32 * sizeof(float), stream, job);
                });
}

}  // namespace

void add_norm(const add_norm_job& job, dtype type, cudaStream_t stream) {
  if (job.columns == 0 || (job.partial == nullptr && job.gain == nullptr)) return;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    with_norm_threads<T>(job.columns, [&](auto packs, unsigned threads) {
      launch_add_norm<T, decltype(packs)::value>(job, threads, stream);
    });
  });
}

}  // namespace dinfer::kernels::cuda
