// SPDX-License-Identifier: Apache-2.0
// add_norm behind a one-shot sum, in one kernel: a block a row, which is given to the peers, summed
// and added to the residual in registers.
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/peer_ranks.cuh"
#include "kernels/cuda/peer_sum.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int most_threads = 512, most_packs = 2;  // with more, registers do not suffice

template <class T, int Packs, int Ranks>
__global__ void __launch_bounds__(most_threads)
    sum_add_norm_kernel(const __grid_constant__ peer_group group, add_norm_job job,
                        std::int64_t packs) {
  DINFER_SHARED(float, space);
  const one_shot sum(group);
  if (sum.dead) return;
  const auto columns = static_cast<int>(job.columns);
  const std::int64_t row = blockIdx.x * job.columns;
  T* residual = static_cast<T*>(job.residual) + row;
  row_part<T, Packs> own, added;
  const auto place = [&](int i) { return (row + own.first(i)) / pack<T>::count; };
  added.template load<true>(static_cast<const T*>(job.partial) + row, columns);
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    added.x[i] = as_pack<T>(sendable(added.x[i]));
    if (own.first(i) < columns) sum.give<Ranks>(place(i), as_words(added.x[i]));
  }
  // While the peers' rows are on their way.
  norm_gain<T, Packs> gain;
  gain.template load<true>(job);
  own.template load<true>(residual, columns);
  sum.clear_and_turn(packs);
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    if (own.first(i) < columns) added.x[i] = sum.take<T, Ranks>(place(i), as_words(added.x[i]));
  }
  own.add(added);
  own.template store<true>(residual, columns);
  if (job.gain == nullptr) return;
  store_normed<true>(own, gain, job, blockIdx.x, space);
}

template <class T>
bool fuses(const add_norm_job& job) {
  if (job.rows == 0 || job.rows > most_fused_rows || job.columns % pack<T>::count != 0)
    return false;
  bool whole = false;
  with_whole<T>(job.columns, {job.partial, job.residual, job.gain, job.bias, job.normed},
                [&](auto is) { whole = decltype(is)::value; });
  return whole;
}

}  // namespace

bool peer_sum_add_norm(const peer_group& group, sum_way way, const add_norm_job& job, dtype type,
                       cudaStream_t stream) {
  bool done = false;
  if (way != sum_way::one_shot) return done;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    if (!fuses<T>(job)) return;
    const std::int64_t packs = job.rows * job.columns / pack<T>::count;
    with_norm_threads<T>(job.columns, [&](auto each, unsigned threads) {
      if constexpr (decltype(each)::value <= most_packs) {
        if (threads > most_threads) return;
        with_ranks(group.ranks, [&](auto ranks) {
          launch(sum_add_norm_kernel<T, decltype(each)::value, decltype(ranks)::value>,
                 dim3(static_cast<unsigned>(job.rows)), dim3(threads), 32 * sizeof(float), stream,
                 group, job, packs);
        });
        done = true;
      }
    });
  });
  return done;
}

void load_peer_norm_kernels(std::int32_t ranks) {
  with_ranks(ranks, [](auto most) {
    for (const dtype type : {dtype::f32, dtype::bf16, dtype::f16}) {
      with_type(type, [](auto zero) {
        using T = decltype(zero);
        load_kernel(sum_add_norm_kernel<T, 1, decltype(most)::value>);
        load_kernel(sum_add_norm_kernel<T, 2, decltype(most)::value>);
      });
    }
  });
}

}  // namespace dinfer::kernels::cuda
