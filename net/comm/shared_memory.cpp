// SPDX-License-Identifier: Apache-2.0
// Anonymous memory files and futexes of Linux.
#include "net/comm/shared_memory.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace dinfer::net {

result<std::shared_ptr<shared_memory>> shared_memory::make(std::size_t bytes) {
  descriptor file(memfd_create("dinfer-group", MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    return tl::unexpected(system_error_of("making a shared memory file"));
  return map(std::move(file), bytes);
}

result<std::shared_ptr<shared_memory>> shared_memory::map(descriptor file, std::size_t bytes) {
  struct stat about {};
  if (fstat(file.get(), &about) != 0)
    return tl::unexpected(system_error_of("reading a shared memory file"));
  if (about.st_size != static_cast<off_t>(bytes))
    return fail(errc::mismatch, "shared memory: " + std::to_string(about.st_size) +
                                    " bytes where this rank expects " + std::to_string(bytes));
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) return tl::unexpected(system_error_of("mapping shared memory"));
  return std::shared_ptr<shared_memory>(
      new shared_memory(std::move(file), static_cast<std::byte*>(at), bytes));
}

shared_memory::~shared_memory() { munmap(data_, bytes_); }

void futex_wait(const void* word, unsigned seen, clock::time_point until) noexcept {
  const auto left =
      std::chrono::duration_cast<std::chrono::nanoseconds>(until - clock::now()).count();
  if (left <= 0) return;
  const timespec most{left / 1'000'000'000, left % 1'000'000'000};
  syscall(SYS_futex, word, FUTEX_WAIT, seen, &most, nullptr, 0);
}

void futex_wake(const void* word) noexcept {
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace dinfer::net
