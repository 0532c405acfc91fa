// SPDX-License-Identifier: Apache-2.0
// See pools.hpp and kernels/neighbours.hpp.
#include "kernels/cpu/pools.hpp"

#include "kernels/neighbours.hpp"

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <vector>

namespace dinfer::kernels {

namespace {

struct pool_list {
  std::shared_mutex mutex;  // shared: somebody is in one of the pools
  std::vector<cpu::thread_pool*> pools;
  std::atomic<std::size_t> count{0};
};

pool_list& list() {
  static auto& one = *new pool_list;  // devices may outlive static data
  return one;
}

}  // namespace

void cpu::join_pools(thread_pool& one) {
  const std::unique_lock lock(list().mutex);
  list().pools.push_back(&one);
  list().count = list().pools.size();
}

void cpu::leave_pools(thread_pool& one) noexcept {
  const std::unique_lock lock(list().mutex);
  std::erase(list().pools, &one);
  list().count = list().pools.size();
}

bool cpu::several_pools() noexcept { return list().count.load(std::memory_order_relaxed) > 1; }

bool help_a_neighbour() noexcept {
  if (!cpu::several_pools()) return false;
  const std::shared_lock lock(list().mutex, std::try_to_lock);
  if (!lock) return false;
  for (auto* const pool : list().pools)
    if (pool->help()) return true;
  return false;
}

}  // namespace dinfer::kernels
