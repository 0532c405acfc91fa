// SPDX-License-Identifier: Apache-2.0
// What steps drew, on its way from the device to the host: copied behind the step, read once its
// copy is done, while the device works on the next one. Thread: the shard's; wait() and row() from
// any, for pieces that fetch() gave.
#pragma once

#include "dinfer/request.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/shard/copy_ring.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace dinfer::runtime {

class step_outputs {
 public:
  // `rows`: the most that a step draws or reports.
  step_outputs(kernels::device& device, std::size_t rows, std::chrono::milliseconds timeout);

  // Where `count` rows from `first` on are drawn to, in device memory.
  kernels::drawn_arrays arrays(std::size_t first, std::size_t count) const noexcept;
  // Enqueues the copy of the first `rows` rows; with `reported` their log-probabilities too. The
  // piece that they come to is in use until the next fetch() but copy_ring::pieces - 1.
  std::size_t fetch(std::size_t rows, bool reported);
  // Until the step of that piece is done. Throws device_error.
  void wait(std::size_t piece) { ring_.wait(piece); }
  // `top`: candidates to report, -1: not even the token's log-probability.
  sampled_token row(std::size_t piece, std::size_t index, std::int32_t top) const;

  std::uint64_t bytes() const noexcept { return memory_.bytes(); }

 private:
  kernels::drawn_arrays whole(void* base) const noexcept;

  kernels::device* device_;
  std::size_t rows_;
  kernels::buffer memory_;
  copy_ring ring_;
};

}  // namespace dinfer::runtime
