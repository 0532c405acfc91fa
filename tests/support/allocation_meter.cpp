// SPDX-License-Identifier: Apache-2.0
// Counting operator new and the matching delete. Arrays and nothrow forms reach these by default.
// Sanitizers bring operators of their own, which find more; under them nothing is counted.
#include "tests/support/allocation_meter.hpp"

#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

std::uint64_t dinfer::tests::bytes_allocated() noexcept { return 0; }

#else

namespace {

thread_local std::uint64_t counted = 0;

}  // namespace

void* operator new(std::size_t size) {
  counted += size;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

std::uint64_t dinfer::tests::bytes_allocated() noexcept { return counted; }

#endif
