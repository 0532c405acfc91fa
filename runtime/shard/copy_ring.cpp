// SPDX-License-Identifier: Apache-2.0
// A device that runs with its host needs one piece only.
#include "runtime/shard/copy_ring.hpp"

namespace dinfer::runtime {
namespace {

constexpr std::size_t alignment = 256;

}  // namespace

copy_ring::copy_ring(kernels::device& device, std::size_t bytes, std::chrono::milliseconds timeout)
    : stride_((bytes + alignment - 1) / alignment * alignment), timeout_(timeout) {
  const std::size_t count = device.traits().asynchronous ? pieces : 1;
  memory_ = device.allocate_host(count * stride_);
  for (std::size_t i = 0; i < count; ++i) events_.push_back(device.make_event());
}

std::size_t copy_ring::next() {
  const std::size_t piece = next_;
  next_ = (next_ + 1) % events_.size();
  wait(piece);
  return piece;
}

}  // namespace dinfer::runtime
