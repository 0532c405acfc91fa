// SPDX-License-Identifier: Apache-2.0
// Memory that several ranks see: threads of this process, or processes that were handed its
// descriptor. It has no name in any file system, so nothing is left behind when a process is
// killed, and it is not bound by the size of /dev/shm. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "net/comm/socket.hpp"

#include <cstddef>
#include <memory>
#include <utility>

namespace dinfer::net {

class shared_memory {
 public:
  static result<std::shared_ptr<shared_memory>> make(std::size_t bytes);  // zeroed
  // Maps what another process made; mismatch when the size is another.
  static result<std::shared_ptr<shared_memory>> map(descriptor file, std::size_t bytes);
  ~shared_memory();
  shared_memory(const shared_memory&) = delete;
  shared_memory& operator=(const shared_memory&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }
  int file() const noexcept { return file_.get(); }

 private:
  shared_memory(descriptor file, std::byte* data, std::size_t bytes)
      : file_(std::move(file)), data_(data), bytes_(bytes) {}
  descriptor file_;
  std::byte* data_;
  std::size_t bytes_;
};

// Sleeps while *word == seen, at most until the deadline. Works across processes.
void futex_wait(const void* word, unsigned seen, clock::time_point until) noexcept;
void futex_wake(const void* word) noexcept;

}  // namespace dinfer::net
