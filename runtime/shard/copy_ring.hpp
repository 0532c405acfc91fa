// SPDX-License-Identifier: Apache-2.0
// Pieces of pinned host memory for copies that nobody waits for: a piece comes back into use once
// the copy that it took part in is done. Thread: the shard's, but for wait().
#pragma once

#include "kernels/device.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

namespace dinfer::runtime {

class copy_ring {
 public:
  // Pieces in use at a time: plans in flight, and one that is being made.
  static constexpr std::size_t pieces = 4;

  copy_ring(kernels::device& device, std::size_t bytes, std::chrono::milliseconds timeout);

  // The next piece; waits for its last use. Throws device_error.
  std::size_t next();
  void* data(std::size_t piece) const noexcept {
    return static_cast<std::byte*>(memory_.data()) + piece * stride_;
  }
  // The piece is in use until everything in the stream so far is done.
  void mark(std::size_t piece) { events_[piece]->record(); }
  // Until then. Any thread.
  void wait(std::size_t piece) { events_[piece]->wait(timeout_); }

 private:
  std::size_t stride_;
  std::chrono::milliseconds timeout_;
  kernels::buffer memory_;
  std::vector<std::unique_ptr<kernels::event>> events_;
  std::size_t next_ = 0;
};

}  // namespace dinfer::runtime
