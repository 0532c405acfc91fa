// SPDX-License-Identifier: Apache-2.0
// mmap, its errors in words, and its release. The descriptor stays open to ask for the size again.
#include "runtime/base/mapped_file.hpp"

#include <fmt/core.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

namespace dinfer::runtime {
namespace {

tl::unexpected<error> refused(const std::string& path, std::string_view what, int number) {
  const errc code = number == ENOENT || number == ENOTDIR ? errc::not_found : errc::io_error;
  const std::string reason = std::generic_category().message(number);
  return fail(code, fmt::format("{}: {}: {}", path, what, reason), path);
}

// Owns a descriptor until it is handed on.
class descriptor_guard {
 public:
  explicit descriptor_guard(int descriptor) noexcept : descriptor_(descriptor) {}
  ~descriptor_guard() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  descriptor_guard(const descriptor_guard&) = delete;
  descriptor_guard& operator=(const descriptor_guard&) = delete;
  int value() const noexcept { return descriptor_; }
  int release() noexcept { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

}  // namespace

result<mapped_file> mapped_file::open(const std::string& path) {
  // O_NONBLOCK: a FIFO under this name must not hold the process; it is refused below.
  descriptor_guard file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.value() < 0) return refused(path, "cannot be opened", errno);
  struct stat status {};
  if (::fstat(file.value(), &status) != 0) return refused(path, "has no status", errno);
  if (!S_ISREG(status.st_mode)) return fail(errc::io_error, path + ": is not a regular file", path);
  if (status.st_size <= 0) return fail(errc::bad_file, path + ": is empty", path);
  if (static_cast<std::uint64_t>(status.st_size) > std::numeric_limits<std::size_t>::max() / 2)
    return fail(errc::bad_file, path + ": is larger than the address space", path);

  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value(), 0);
  if (data == MAP_FAILED) return refused(path, "cannot be mapped", errno);
  return mapped_file(path, file.release(), static_cast<const std::byte*>(data), size);
}

mapped_file::mapped_file(std::string path, int descriptor, const std::byte* data,
                         std::size_t size) noexcept
    : path_(std::move(path)), descriptor_(descriptor), data_(data), size_(size) {}

mapped_file::mapped_file(mapped_file&& other) noexcept { swap(other); }

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  mapped_file taken(std::move(other));
  swap(taken);
  return *this;
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void mapped_file::swap(mapped_file& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

result<std::span<const std::byte>> mapped_file::slice(std::uint64_t offset,
                                                      std::uint64_t size) const {
  if (offset > size_ || size > size_ - offset)
    return fail(errc::bad_file,
                fmt::format("{}: {} bytes at {} are asked for; the file has {}", path_, size,
                            offset, size_),
                path_);
  return bytes().subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
}

void mapped_file::will_need(std::uint64_t offset, std::uint64_t size) const noexcept {
  advise(offset, size, MADV_WILLNEED);
}

void mapped_file::will_not_need(std::uint64_t offset, std::uint64_t size) const noexcept {
  advise(offset, size, MADV_DONTNEED);
}

void mapped_file::advise(std::uint64_t offset, std::uint64_t size, int advice) const noexcept {
  if (offset >= size_) return;
  const std::uint64_t end = offset + std::min<std::uint64_t>(size, size_ - offset);
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = offset / page * page;
  ::madvise(const_cast<std::byte*>(data_) + begin, static_cast<std::size_t>(end - begin), advice);
}

result<void> mapped_file::check_unchanged() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) return refused(path_, "has no status", errno);
  if (static_cast<std::uint64_t>(status.st_size) != size_)
    return fail(errc::bad_file,
                fmt::format("{}: had {} bytes when it was opened and has {} now", path_, size_,
                            status.st_size),
                path_);
  return {};
}

}  // namespace dinfer::runtime
