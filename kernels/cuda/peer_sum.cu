// SPDX-License-Identifier: Apache-2.0
// Sums by themselves. Grids are smaller than what a GPU runs at a time.
#include "kernels/cuda/peer_sum.hpp"

#include "kernels/cuda/peer_ranks.cuh"
#include "kernels/cuda/peer_two_shot.cuh"

#include <algorithm>

namespace dinfer::kernels::cuda {

namespace {

constexpr int one_shot_threads = 256, two_shot_threads = 512;
constexpr std::int64_t most_one_shot_blocks = 128;

template <class T, int Ranks>
__global__ void __launch_bounds__(one_shot_threads)
    one_shot_kernel(const __grid_constant__ peer_group group, flat<T> in_and_out,
                    std::int64_t packs) {
  const one_shot sum(group);
  if (sum.dead) return;
  const std::int64_t first = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = first; i < packs; i += step)
    sum.give<Ranks>(i, sendable(in_and_out.load(i)));
  sum.clear_and_turn(packs);
  for (std::int64_t i = first; i < packs; i += step) {
    in_and_out.store(i, sum.take<T, Ranks>(i, sendable(in_and_out.load(i))));
  }
}

template <class T, int Ranks>
__global__ void __launch_bounds__(two_shot_threads)
    two_shot_kernel(const __grid_constant__ peer_group group, flat<T> x) {
  const two_shot<T> sum(group, x);
  if (sum.dead) return;
  sum.scatter();
  sum.tell(0);
  if (!sum.hear(0)) return;
  sum.template reduce<Ranks>();
  sum.tell(1);
  if (!sum.hear(1)) return;
  sum.collect();
  sum.turn();
}

__global__ void farewell_kernel(const __grid_constant__ peer_group group) {
  const auto q = static_cast<std::int32_t>(threadIdx.x);
  if (q < group.ranks && q != group.rank && group.memory[q] != nullptr)
    store_system(&control_of(group, q)->left[group.rank], 1);
}

std::int64_t up_to(std::int64_t bytes) { return bytes / 16 * 16; }

}  // namespace

peer_group peer_layout(std::int32_t rank, std::int32_t ranks) {
  peer_group g;
  g.rank = rank, g.ranks = ranks;
  g.slot_packs = one_shot_slots_bytes / ranks / 16;
  g.part_packs = divide_up(two_shot_bytes / 16, ranks);
  g.scatter_at = slots_at + 3 * ranks * g.slot_packs * 16;
  g.gather_at = g.scatter_at + ranks * g.part_packs * 16;
  g.bytes = g.gather_at + ranks * g.part_packs * 16;
  return g;
}

sum_way way_of_sum(std::int32_t ranks, std::int64_t bytes, std::optional<sum_way> forced) {
  if (forced == sum_way::one_shot) {
    return bytes <= up_to(one_shot_slots_bytes / ranks) ? sum_way::one_shot : sum_way::nccl;
  }
  if (forced == sum_way::two_shot)
    return bytes <= two_shot_bytes ? sum_way::two_shot : sum_way::nccl;
  for (const sum_limits& limits : fastest_sums) {
    if (ranks > limits.ranks) continue;
    if (bytes <= limits.one_shot_bytes) return sum_way::one_shot;
    return bytes <= limits.two_shot_bytes ? sum_way::two_shot : sum_way::nccl;
  }
  return sum_way::nccl;
}

void peer_sum(const peer_group& group, sum_way way, const tensor& x, cudaStream_t stream) {
  if (x.elements() == 0) return;
  with_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t n = x.elements(), packs = divide_up(n, pack<T>::count);
    const bool whole =
        n % pack<T>::count == 0 && reinterpret_cast<std::uintptr_t>(x.data) % sizeof(pack<T>) == 0;
    const flat<T> all{x.as<T>(), n, whole};
    const auto grid = [](std::int64_t blocks, std::int64_t most) {
      return dim3(static_cast<unsigned>(std::min(blocks, most)));
    };
    with_ranks(group.ranks, [&](auto ranks) {
      constexpr int most = decltype(ranks)::value;
      if (way == sum_way::one_shot) {
        launch(one_shot_kernel<T, most>,
               grid(divide_up(packs, one_shot_threads), most_one_shot_blocks),
               dim3(one_shot_threads), 0, stream, group, all, packs);
      } else {
        const std::int64_t part = divide_up(packs, group.ranks);
        launch(two_shot_kernel<T, most>,
               grid(divide_up(part, two_shot_threads), most_two_shot_blocks),
               dim3(two_shot_threads), 0, stream, group, all);
      }
    });
  });
}

void load_peer_kernels(std::int32_t ranks) {
  load_kernel(farewell_kernel);
  with_ranks(ranks, [](auto most) {
    for (const dtype type : {dtype::f32, dtype::bf16, dtype::f16}) {
      with_type(type, [](auto zero) {
        load_kernel(one_shot_kernel<decltype(zero), decltype(most)::value>);
        load_kernel(two_shot_kernel<decltype(zero), decltype(most)::value>);
      });
    }
  });
}

void say_farewell(const peer_group& group, cudaStream_t stream) {
  launch(farewell_kernel, dim3(1), dim3(most_peers), 0, stream, group);
}

}  // namespace dinfer::kernels::cuda
