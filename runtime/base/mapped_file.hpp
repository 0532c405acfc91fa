// SPDX-License-Identifier: Apache-2.0
// A file mapped read-only. Nothing is read before it is touched; every slice is checked against the
// size that the file had when it was opened. A file that is shortened later turns into a bus error
// on touch, which no program can recover from in place: `check_unchanged` tells before a long read.
// Thread: const calls from any.
#pragma once

#include "dinfer/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace dinfer::runtime {

class mapped_file {
 public:
  // Errors: not_found (no such file), io_error (not a regular file, no permission, mmap refused),
  // bad_file (empty). All name the file.
  static result<mapped_file> open(const std::string& path);

  mapped_file(mapped_file&& other) noexcept;
  mapped_file& operator=(mapped_file&& other) noexcept;
  ~mapped_file();

  const std::string& path() const noexcept { return path_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  // Error: bad_file, when [offset, offset + size) does not lie inside the file.
  result<std::span<const std::byte>> slice(std::uint64_t offset, std::uint64_t size) const;

  // Hints to the kernel; ranges are clipped and failures ignored, since a hint changes no result.
  void will_need(std::uint64_t offset, std::uint64_t size) const noexcept;
  void will_not_need(std::uint64_t offset, std::uint64_t size) const noexcept;

  // Error: bad_file, when the file no longer has the size that it was mapped with.
  result<void> check_unchanged() const;

 private:
  mapped_file(std::string path, int descriptor, const std::byte* data, std::size_t size) noexcept;
  void advise(std::uint64_t offset, std::uint64_t size, int advice) const noexcept;
  void swap(mapped_file& other) noexcept;

  std::string path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace dinfer::runtime
