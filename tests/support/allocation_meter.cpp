// SPDX-License-Identifier: Apache-2.0
// Counting operator new and the matching delete. Arrays and nothrow forms reach these by default.
// Sanitizers bring operators of their own, which find more; under them nothing is counted.
#include "tests/support/allocation_meter.hpp"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

std::uint64_t dinfer::tests::bytes_allocated() noexcept { return 0; }
dinfer::tests::allocation_peak::allocation_peak() noexcept : before_(0) {}
std::uint64_t dinfer::tests::allocation_peak::bytes() const noexcept { return 0; }

#else

namespace {

thread_local std::uint64_t counted = 0;
thread_local std::int64_t held = 0, most = 0;

void forget(void* memory) noexcept {
  held -= static_cast<std::int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) {
  counted += size;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  held += static_cast<std::int64_t>(malloc_usable_size(memory));
  most = std::max(most, held);
  return memory;
}
void operator delete(void* memory) noexcept { forget(memory); }
void operator delete(void* memory, std::size_t) noexcept { forget(memory); }

std::uint64_t dinfer::tests::bytes_allocated() noexcept { return counted; }

dinfer::tests::allocation_peak::allocation_peak() noexcept : before_(held) { most = held; }
std::uint64_t dinfer::tests::allocation_peak::bytes() const noexcept {
  return static_cast<std::uint64_t>(most - before_);
}

#endif
