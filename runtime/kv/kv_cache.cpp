// SPDX-License-Identifier: Apache-2.0
// Sizes and allocation of the KV pools.
#include "runtime/kv/kv_cache.hpp"

#include <algorithm>
#include <limits>

namespace dinfer::runtime {
namespace {

kernels::kv_pages geometry(const kv_group& group, std::uint32_t block_size, kernels::dtype type) {
  kernels::kv_pages p;
  p.type = type;
  p.layers = static_cast<std::int32_t>(group.layers.size());
  p.kv_heads = group.kv_heads;
  p.block_size = static_cast<std::int32_t>(block_size);
  p.head_dim = group.head_dim;
  return p;
}

}  // namespace

std::uint64_t kv_block_bytes(const kv_group& group, std::uint32_t block_size, kernels::dtype type) {
  const std::int64_t elements = geometry(group, block_size, type).page_elements();
  return static_cast<std::uint64_t>(kernels::row_bytes(type, elements));
}

std::uint32_t kv_blocks_within(std::span<const kv_group> groups, std::uint32_t block_size,
                               kernels::dtype type, std::uint64_t bytes) {
  std::uint64_t block = 0;
  for (const kv_group& g : groups) block += kv_block_bytes(g, block_size, type);
  const std::uint64_t pages = block == 0 ? 0 : bytes / block;
  const std::uint64_t most = std::numeric_limits<block_id>::max();
  return static_cast<std::uint32_t>(std::min(most, pages == 0 ? 0 : pages - 1));
}

kv_cache::kv_cache(kernels::device& device, std::span<const kv_group> groups,
                   std::span<const std::uint32_t> blocks, std::uint32_t block_size,
                   kernels::dtype type) {
  DINFER_ASSERT(groups.size() == blocks.size());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    kernels::kv_pages p = geometry(groups[g], block_size, type);
    p.pages = std::int64_t{blocks[g]} + 1;
    const std::uint64_t block = kv_block_bytes(groups[g], block_size, type);
    if (block != 0 &&
        static_cast<std::uint64_t>(p.pages) > std::numeric_limits<std::int64_t>::max() / block) {
      throw kernels::device_error(errc::out_of_memory, "the KV cache is larger than any memory");
    }
    memory_.push_back(device.allocate(block * static_cast<std::uint64_t>(p.pages), false));
    p.base = memory_.back().data();
    pages_.push_back(p);
  }
}

std::uint64_t kv_cache::bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& m : memory_) sum += m.bytes();
  return sum;
}

}  // namespace dinfer::runtime
