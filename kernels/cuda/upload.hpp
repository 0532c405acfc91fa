// SPDX-License-Identifier: Apache-2.0
// Stored weights on their way to a GPU. Worker threads read rows of the mapped file, which is what
// takes long, into pinned memory; from there they are copied and converted while the next are read.
// Threads and buffers come as work does and go with finish(). Thread: the device's own.
#pragma once

#include "kernels/cuda/convert.hpp"
#include "kernels/device.hpp"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace dinfer::kernels::cuda {

// A rectangle of a stored matrix, and where it goes.
struct upload {
  // Of the first element's block, in host memory that stays until finish(); null: made up instead.
  // At most most_upload_bytes.
  const std::byte* data = nullptr;
  dtype type = dtype::f32;
  std::int64_t stored_row_bytes = 0;  // from row to row
  std::int64_t rows = 0, columns = 0;
  std::int64_t first_column = 0;  // elements of its block before the first one
  weight_scales scales{};         // of f8_e4m3, in memory that stays as the data do
  std::int64_t scaled_row = 0, scaled_column = 0;  // what the first element is to them
  made_up_rows made_up{};
  placed_rows to{};

  // Of the blocks that a row lies in.
  std::int64_t row_bytes() const noexcept {
    const std::int64_t block = info(type).block_elements;
    return (first_column + columns + block - 1) / block * info(type).block_bytes;
  }
};

inline constexpr std::int64_t most_upload_bytes = std::int64_t{16} << 20;

class upload_queue {
 public:
  explicit upload_queue(int gpu) : gpu_(gpu) {}
  ~upload_queue();  // what waits is dropped
  upload_queue(const upload_queue&) = delete;
  upload_queue& operator=(const upload_queue&) = delete;

  // Throws device_error when an earlier one failed; it and all that wait are dropped then.
  void add(const upload& work);
  // Returns once everything is in its place. Throws device_error: what failed first.
  void finish();
  bool idle() const noexcept { return threads_.empty(); }

 private:
  void start_thread();
  void run() noexcept;
  std::optional<upload> take();
  void fail(const device_error& reason);

  int gpu_;
  std::vector<std::thread> threads_;  // none: nothing is on its way
  std::mutex mutex_;                  // for what follows
  std::condition_variable changed_;
  std::deque<upload> waiting_;
  std::size_t idle_threads_ = 0;
  bool closing_ = false;
  std::optional<device_error> failure_;
};

}  // namespace dinfer::kernels::cuda
