// SPDX-License-Identifier: Apache-2.0
// The three stretches of a two-shot sum for one block, which has the same share of every rank's
// part; between them it meets the same block of its peers. Included by .cu files alone.
#pragma once

#include "kernels/cuda/peer_sum.cuh"

namespace dinfer::kernels::cuda {

template <class T>
struct two_shot {
  const peer_group& g;
  const flat<T>& x;
  std::int64_t packs, part;  // of the tensor, of a rank's part
  std::int64_t begin, end;   // this block's share of a part
  std::uint32_t epoch;
  bool dead;

  __device__ __forceinline__ two_shot(const peer_group& group, const flat<T>& tensor)
      : g(group), x(tensor) {
    const uint4 state = load_system_16(control_of(g, g.rank));
    dead = state.z != 0, epoch = state.w + 1;
    packs = (x.elements + pack<T>::count - 1) / pack<T>::count;
    part = (packs + g.ranks - 1) / g.ranks;
    const std::int64_t share = (part + gridDim.x - 1) / gridDim.x;
    begin = share * blockIdx.x;
    end = min(begin + share, part);
  }

  // Where rank `at` keeps what `from` gave it of its part, and `from`'s sums.
  __device__ __forceinline__ uint4* given(std::int32_t at, std::int32_t from) const {
    return reinterpret_cast<uint4*>(g.memory[at] + g.scatter_at) + from * g.part_packs;
  }
  __device__ __forceinline__ uint4* summed(std::int32_t at, std::int32_t from) const {
    return reinterpret_cast<uint4*>(g.memory[at] + g.gather_at) + from * g.part_packs;
  }
  __device__ __forceinline__ std::uint32_t* flag(std::int32_t at, int which,
                                                 std::int32_t from) const {
    return reinterpret_cast<std::uint32_t*>(g.memory[at] + flags_at) +
           (which * most_peers + from) * most_two_shot_blocks + blockIdx.x;
  }

  // Calls fn(i) for this thread's packs of rank q's part; not for those past the tensor's end.
  template <class Fn>
  __device__ __forceinline__ void each(std::int32_t q, Fn fn) const {
    const std::int64_t last = min(end, packs - q * part);
    for (std::int64_t i = begin + threadIdx.x; i < last; i += blockDim.x) fn(i);
  }

  __device__ __forceinline__ void scatter() const {
    for (std::int32_t step = 1; step < g.ranks; ++step) {
      const std::int32_t q = (g.rank + step) % g.ranks;  // not all to the same one
      each(q, [&](std::int64_t i) {
        store_system_16(given(q, g.rank) + i, as_words(x.load(q * part + i)));
      });
    }
  }
  template <int Ranks>
  __device__ __forceinline__ void reduce() const {
    each(g.rank, [&](std::int64_t i) {
      uint4 words[Ranks];
      const pack<T> own = x.load(g.rank * part + i);
#pragma unroll
      for (int q = 0; q < Ranks; ++q) {
        words[q] = as_words(own);
        if (q < g.ranks && q != g.rank) words[q] = load_system_16(given(g.rank, q) + i);
      }
      const pack<T> sum = sum_of<T, Ranks>(words, g.ranks);
      x.store(g.rank * part + i, sum);
#pragma unroll
      for (int q = 0; q < Ranks; ++q) {
        if (q < g.ranks && q != g.rank) store_system_16(summed(q, g.rank) + i, as_words(sum));
      }
    });
  }
  __device__ __forceinline__ void collect() const {
    for (std::int32_t step = 1; step < g.ranks; ++step) {
      const std::int32_t q = (g.rank + step) % g.ranks;
      each(q, [&](std::int64_t i) {
        x.store(q * part + i, as_pack<T>(load_system_16(summed(g.rank, q) + i)));
      });
    }
  }

  // What the block has stored is there before the flag is.
  __device__ __forceinline__ void tell(int which) const {
    __syncthreads();
    const auto q = static_cast<std::int32_t>(threadIdx.x);
    if (q < g.ranks && q != g.rank) release_system(flag(q, which, g.rank), epoch);
  }
  // False: this rank's kernels are to end.
  __device__ __forceinline__ bool hear(int which) const {
    const auto q = static_cast<std::int32_t>(threadIdx.x);
    bool heard = true;
    if (q < g.ranks && q != g.rank) {
      patience wait{g};
      while (heard && acquire_system(flag(g.rank, which, q)) != epoch) heard = wait.go_on(q);
    }
    return __syncthreads_and(heard) != 0;
  }
  __device__ __forceinline__ void turn() const {
    peer_control* control = control_of(g, g.rank);
    if (last_block_to_come(control)) control->epoch = epoch;
  }
};

}  // namespace dinfer::kernels::cuda
