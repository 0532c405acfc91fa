// SPDX-License-Identifier: Apache-2.0
// What kernels do in memory that peers write. Included by .cu files alone.
//
// One shot knows no barrier: a word that has not come yet is `nothing` (all ones, a NaN, and so is
// what a real one is replaced by), so a rank reads its own slots until no word is. Every 4-byte
// word says for itself that it is there. Slots are threefold. The sum of phase k clears the slots
// of phase k - 1, which a peer writes to next in phase k + 2: after it has seen our words of phase
// k + 1, which we store when the kernel that cleared is over.
//
// Two shots meet by a flag per block and peer, which holds the number of the sum. Block b of a rank
// waits for the blocks b of its peers alone. A peer's second flag of a sum says that it has read
// what it was given in the first part, its first flag of the next sum that it has read the second:
// then that memory is written again.
#pragma once

#include "kernels/cuda/peer_sum.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace dinfer::kernels::cuda {

inline constexpr std::uint32_t nothing = 0xFFFFFFFFU, another_nan = 0x7FFFFFFFU;
inline constexpr std::uint32_t spins_between_looks = 4096;  // some milliseconds
inline constexpr std::uint64_t given_up_after = 4;          // times the group's patience

__device__ __forceinline__ peer_control* control_of(const peer_group& g, std::int32_t rank) {
  return reinterpret_cast<peer_control*>(g.memory[rank]);
}

// A thread that waits for a peer. A kernel does not give up by itself in time: what it would go on
// with is wrong, and only the host can keep that from others. It notes whom it waits for, and ends
// when the host aborts.
struct patience {
  const peer_group& g;
  std::uint32_t spins = 0;
  std::uint64_t since = 0;

  // False: this rank's kernels are to end.
  __device__ __forceinline__ bool go_on(std::int32_t peer) {
    return ++spins % spins_between_looks != 0 || look(peer);
  }
  __device__ __forceinline__ bool look(std::int32_t peer) {
    std::uint32_t* dead = &control_of(g, g.rank)->dead;
    if (load_system(dead) != 0) return false;
    const std::uint64_t now = nanoseconds();
    if (since == 0) since = now;
    const bool late = now - since > g.patience_ns;
    if (late && load_system(&g.notes->missing) == 0) {
      store_system(&g.notes->missing, static_cast<std::uint32_t>(peer) + 1);
    }
    const bool end =
        load_system(&g.notes->aborted) != 0 || now - since > given_up_after * g.patience_ns;
    if (end) store_system(dead, 1);
    return !end;
  }
};

// The last of the grid's blocks to come, and the only one: all have read what it will overwrite.
// Every thread of the block calls it, after it has used what it read.
__device__ __forceinline__ bool last_block_to_come(peer_control* control) {
  __syncthreads();
  if (threadIdx.x != 0 || atomicAdd(&control->arrived, 1U) + 1 != gridDim.x) return false;
  control->arrived = 0;
  return true;
}

template <class T>
__device__ __forceinline__ pack<T> as_pack(const uint4& words) {
  pack<T> out;
  *reinterpret_cast<uint4*>(&out) = words;
  return out;
}
template <class T>
__device__ __forceinline__ uint4 as_words(const pack<T>& v) {
  return *reinterpret_cast<const uint4*>(&v);
}
__device__ __forceinline__ bool is_there(const uint4& v) {
  return v.x != nothing && v.y != nothing && v.z != nothing && v.w != nothing;
}
template <class T>
__device__ __forceinline__ uint4 sendable(const pack<T>& v) {
  const auto word = [](std::uint32_t w) { return w == nothing ? another_nan : w; };
  const uint4 words = as_words(v);
  return make_uint4(word(words.x), word(words.y), word(words.z), word(words.w));
}

// A tensor as packs; the last one may be short, and nothing may be aligned.
template <class T>
struct flat {
  T* data;
  std::int64_t elements;
  bool whole;

  __device__ __forceinline__ pack<T> load(std::int64_t i) const {
    if (whole) return load_pack(data + i * pack<T>::count);
    pack<T> out;
    for (int e = 0; e < pack<T>::count; ++e) {
      const std::int64_t at = i * pack<T>::count + e;
      out.v[e] = at < elements ? data[at] : from_float<T>(0.0F);
    }
    return out;
  }
  __device__ __forceinline__ void store(std::int64_t i, const pack<T>& v) const {
    if (whole) return store_pack(data + i * pack<T>::count, v);
    for (int e = 0; e < pack<T>::count; ++e) {
      const std::int64_t at = i * pack<T>::count + e;
      if (at < elements) data[at] = v.v[e];
    }
  }
};

// In rank order, of one pack of each.
template <class T, int Ranks>
__device__ __forceinline__ pack<T> sum_of(const uint4 (&words)[Ranks], std::int32_t ranks) {
  float sums[pack<T>::count];
#pragma unroll
  for (int q = 0; q < Ranks; ++q) {
    if (q >= ranks) break;
    const pack<T> part = as_pack<T>(words[q]);
#pragma unroll
    for (int e = 0; e < pack<T>::count; ++e) {
      sums[e] = q == 0 ? to_float(part.v[e]) : sums[e] + to_float(part.v[e]);
    }
  }
  pack<T> out;
#pragma unroll
  for (int e = 0; e < pack<T>::count; ++e) out.v[e] = from_float<T>(sums[e]);
  return out;
}

// One one-shot sum, for one thread.
struct one_shot {
  const peer_group& g;
  std::uint32_t phase, last_packs;
  bool dead;

  __device__ __forceinline__ explicit one_shot(const peer_group& group) : g(group) {
    const uint4 state = load_system_16(control_of(g, g.rank));
    phase = state.x, last_packs = state.y, dead = state.z != 0;
  }
  // `from`'s slot in the memory of `at`.
  __device__ __forceinline__ uint4* slot(std::int32_t at, std::uint32_t which,
                                         std::int32_t from) const {
    return reinterpret_cast<uint4*>(g.memory[at] + slots_at) +
           (which * g.ranks + from) * g.slot_packs;
  }
  template <int Ranks>
  __device__ __forceinline__ void give(std::int64_t i, const uint4& words) const {
#pragma unroll
    for (int q = 0; q < Ranks; ++q) {
      if (q < g.ranks && q != g.rank) store_system_16(slot(q, phase, g.rank) + i, words);
    }
  }
  // The last sum's slots, by all threads of a grid along x; then the next sum may begin.
  __device__ __forceinline__ void clear_and_turn(std::int64_t packs) const {
    const std::uint32_t before = phase == 0 ? 2 : phase - 1;
    const std::int64_t first = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    for (std::int32_t q = 0; q < g.ranks; ++q) {
      if (q == g.rank) continue;
      for (std::int64_t i = first; i < last_packs; i += std::int64_t{gridDim.x} * blockDim.x)
        slot(g.rank, before, q)[i] = make_uint4(nothing, nothing, nothing, nothing);
    }
    peer_control* control = control_of(g, g.rank);
    if (!last_block_to_come(control)) return;
    control->phase = phase == 2 ? 0 : phase + 1;
    control->last_packs = static_cast<std::uint32_t>(packs);
  }
  // Pack i of everybody, added to our own; anything once the group is dead.
  template <class T, int Ranks>
  __device__ __forceinline__ pack<T> take(std::int64_t i, const uint4& own) const {
    uint4 words[Ranks];
#pragma unroll
    for (int q = 0; q < Ranks; ++q) {
      words[q] = own;
      if (q < g.ranks && q != g.rank) words[q] = load_system_16(slot(g.rank, phase, q) + i);
    }
    patience wait{g};
    while (true) {
      std::int32_t missing = -1;
#pragma unroll
      for (int q = 0; q < Ranks; ++q) {
        if (is_there(words[q])) continue;
        missing = q;
        words[q] = load_system_16(slot(g.rank, phase, q) + i);
      }
      if (missing < 0 || !wait.go_on(missing)) return sum_of<T, Ranks>(words, g.ranks);
    }
  }
};

}  // namespace dinfer::kernels::cuda
