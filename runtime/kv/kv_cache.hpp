// SPDX-License-Identifier: Apache-2.0
// The KV pages of one rank on its device, one pool per KV group. Page 0 of every pool is the null
// block: it is never handed out, and padding may be written to it. Which page belongs to whom is
// the block manager's business. Thread: the shard's.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/models/model.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::runtime {

// Bytes of one block (all layers of the group on this rank, keys and values).
std::uint64_t kv_block_bytes(const kv_group& group, std::uint32_t block_size, kernels::dtype type);

// Blocks, the null block not counted, that `bytes` hold when every group gets the same number.
std::uint32_t kv_blocks_within(std::span<const kv_group> groups, std::uint32_t block_size,
                               kernels::dtype type, std::uint64_t bytes);

class kv_cache {
 public:
  kv_cache() = default;
  // Pools of blocks[g] + 1 pages. Throws device_error{out_of_memory}.
  kv_cache(kernels::device& device, std::span<const kv_group> groups,
           std::span<const std::uint32_t> blocks, std::uint32_t block_size, kernels::dtype type);

  const std::vector<kernels::kv_pages>& pages() const noexcept { return pages_; }
  std::uint64_t bytes() const noexcept;

 private:
  std::vector<kernels::buffer> memory_;
  std::vector<kernels::kv_pages> pages_;
};

}  // namespace dinfer::runtime
