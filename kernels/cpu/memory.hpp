// SPDX-License-Identifier: Apache-2.0
// Host memory for a device: 64-byte aligned, large pieces on huge pages, which double the rate at
// which weights stream. Throws device_error{out_of_memory}. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

namespace dinfer::kernels::cpu {

// Pieces of at least this size are mapped on their own and start as zeros.
inline constexpr std::size_t mapped_from = std::size_t{1} << 20;

void* allocate_bytes(std::size_t bytes, bool zeroed);
void release_bytes(void* data, std::size_t bytes) noexcept;

struct memory_size {
  std::uint64_t total = 0;
  std::uint64_t available = 0;
};
// Of the host, or of the control group where that is less.
memory_size host_memory();

// Many weights are smaller than a huge page: they share slabs. A slab lives as long as any piece.
class weight_arena {
 public:
  std::shared_ptr<std::byte> take(std::size_t bytes);

 private:
  std::mutex mutex_;
  std::shared_ptr<std::byte> slab_;
  std::size_t used_ = 0, size_ = 0;
};

}  // namespace dinfer::kernels::cpu
