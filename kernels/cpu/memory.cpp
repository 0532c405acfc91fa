// SPDX-License-Identifier: Apache-2.0
// Mappings aligned to huge pages for large pieces, the C library for small ones.
#include "kernels/cpu/memory.hpp"

#include "kernels/device.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

namespace dinfer::kernels::cpu {

namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t slab_bytes = std::size_t{32} << 20;

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

[[noreturn]] void refuse(std::size_t bytes) {
  throw device_error(errc::out_of_memory,
                     "the host has no " + std::to_string(bytes) + " bytes of memory left");
}

// Maps more than is asked for and gives back the ends, so that the start lies on a huge page.
void* map(std::size_t bytes) {
  const auto size = round_up(bytes, huge_page);
  void* raw =
      mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) refuse(bytes);
  auto* begin = static_cast<std::byte*>(raw);
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  const auto head = static_cast<std::size_t>(round_up(address, huge_page) - address);
  if (head > 0) munmap(begin, head);
  if (head < huge_page) munmap(begin + head + size, huge_page - head);
#if defined(MADV_HUGEPAGE)
  madvise(begin + head, size, MADV_HUGEPAGE);  // a wish: refused, it costs speed alone
#endif
  return begin + head;
}

// Pages of files that a control group has read: they count as used, and go when memory is asked
// for.
std::uint64_t file_pages() {
  std::uint64_t sum = 0, bytes = 0;
  std::ifstream in("/sys/fs/cgroup/memory.stat");
  for (std::string key; in >> key >> bytes;) {
    if (key == "inactive_file" || key == "active_file") sum += bytes;
  }
  return sum;
}

std::uint64_t number_in(const char* file, std::uint64_t otherwise) {
  std::uint64_t value = 0;
  std::ifstream in(file);
  return in >> value ? value : otherwise;  // "max" is no number
}

}  // namespace

void* allocate_bytes(std::size_t bytes, bool zeroed) {
  if (bytes == 0) return nullptr;
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) refuse(bytes);
  if (bytes >= mapped_from) return map(bytes);
  void* data = std::aligned_alloc(64, round_up(bytes, 64));
  if (data == nullptr) refuse(bytes);
  if (zeroed) std::memset(data, 0, bytes);
  return data;
}

void release_bytes(void* data, std::size_t bytes) noexcept {
  if (data == nullptr) return;
  if (bytes >= mapped_from) {
    munmap(data, round_up(bytes, huge_page));
  } else {
    std::free(data);
  }
}

memory_size host_memory() {
  memory_size size;
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  for (std::uint64_t kilobytes = 0; in >> key >> kilobytes; std::getline(in, unit)) {
    if (key == "MemTotal:") size.total = kilobytes << 10;
    if (key == "MemAvailable:") size.available = kilobytes << 10;
  }
  const auto limit = number_in("/sys/fs/cgroup/memory.max", size.total);
  if (limit < size.total) {
    const auto counted = number_in("/sys/fs/cgroup/memory.current", 0);
    const auto used = counted - std::min(counted, file_pages());
    size.total = limit;
    size.available = std::min(size.available, limit > used ? limit - used : 0);
  }
  return size;
}

std::shared_ptr<std::byte> weight_arena::take(std::size_t bytes) {
  const auto make = [](std::size_t n) {
    return std::shared_ptr<std::byte>(static_cast<std::byte*>(allocate_bytes(n, false)),
                                      [n](std::byte* p) { release_bytes(p, n); });
  };
  if (bytes > slab_bytes / 4) return make(round_up(bytes, 64));
  const std::lock_guard lock(mutex_);
  if (slab_ == nullptr || size_ - used_ < bytes) {
    slab_ = make(slab_bytes);
    size_ = slab_bytes;
    used_ = 0;
  }
  auto piece = std::shared_ptr<std::byte>(slab_, slab_.get() + used_);
  used_ += round_up(bytes, 64);
  used_ = std::min(used_, size_);
  return piece;
}

}  // namespace dinfer::kernels::cpu
