// SPDX-License-Identifier: Apache-2.0
// Hooks of the sanitizer's allocator, or operators new and delete of our own. What is held counts
// as the allocator does, so that a release takes away what the allocation added.
#include "tests/fuzz/memory_bound.hpp"

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DINFER_FUZZ_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define DINFER_FUZZ_ASAN 1
#endif

#if defined(DINFER_FUZZ_ASAN)
// Of <sanitizer/allocator_interface.h>, which GCC has the library of without the header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*,
                                                                           std::size_t),
                                                         void (*on_free)(const volatile void*));
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void*);
#endif

namespace dinfer::fuzz {
namespace {

struct counter {
  bool armed = false;
  std::uint64_t single = 0, held_most = 0;
  std::int64_t held = 0, peak = 0;
};
thread_local counter count;
thread_local std::uint64_t last_peak = 0;

// Says nothing that allocates: this runs inside of an allocation.
void taken(std::uint64_t size, std::uint64_t usable) noexcept {
  if (!count.armed) return;
  count.held += static_cast<std::int64_t>(usable);
  count.peak = std::max(count.peak, count.held);
  const bool fine =
      size <= count.single && count.held <= static_cast<std::int64_t>(count.held_most);
  if (fine) return;
  count.armed = false;
  std::fprintf(
      stderr, "broken promise: %llu bytes asked for at once (%llu fit), %lld held (%llu fit)\n",
      static_cast<unsigned long long>(size), static_cast<unsigned long long>(count.single),
      static_cast<long long>(count.held), static_cast<unsigned long long>(count.held_most));
  std::abort();
}

void released(std::uint64_t size) noexcept {
  if (count.armed) count.held -= static_cast<std::int64_t>(size);
}

#if defined(DINFER_FUZZ_ASAN)
void on_malloc(const volatile void*, std::size_t size) { taken(size, size); }
void on_free(const volatile void* memory) {
  if (memory != nullptr && count.armed) released(__sanitizer_get_allocated_size(memory));
}
const int hooked = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
#endif

}  // namespace

memory_bound::memory_bound(std::uint64_t single_bytes, std::uint64_t held_bytes) noexcept {
  count = {true, single_bytes, held_bytes, 0, 0};
}

memory_bound::~memory_bound() {
  last_peak = static_cast<std::uint64_t>(count.peak);
  count = {};
}

std::uint64_t memory_bound::most_held() noexcept { return last_peak; }

}  // namespace dinfer::fuzz

#if !defined(DINFER_FUZZ_ASAN) && !defined(__SANITIZE_THREAD__)

void* operator new(std::size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  dinfer::fuzz::taken(size, malloc_usable_size(memory));
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory != nullptr) dinfer::fuzz::released(malloc_usable_size(memory));
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

#endif
