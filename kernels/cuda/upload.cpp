// SPDX-License-Identifier: Apache-2.0
// The threads that bring weights to the GPU, each with a stream and two sets of buffers of its own:
// while one set is copied and converted, the other is filled.
#include "kernels/cuda/upload.hpp"

#include "kernels/cuda/check.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

namespace dinfer::kernels::cuda {

namespace {

constexpr std::size_t most_threads = 8;
constexpr std::size_t least_buffer = std::size_t{64} << 10;
constexpr std::uintptr_t page_bytes = 4096;

// Memory that grows, pinned on the host or on the GPU. What it held is lost then.
class growing_memory {
 public:
  explicit growing_memory(memory_kind kind) : kind_(kind) {}
  ~growing_memory() { release(); }
  growing_memory(const growing_memory&) = delete;
  growing_memory& operator=(const growing_memory&) = delete;

  std::byte* reserve(std::size_t bytes) {
    if (bytes > bytes_) {
      release();
      const std::size_t size = std::bit_ceil(std::max(bytes, least_buffer));
      if (kind_ == memory_kind::host) {
        check(cudaHostAlloc(&data_, size, cudaHostAllocDefault), "pinning memory for weights");
      } else {
        check(cudaMalloc(&data_, size), "memory for weights in transit");
      }
      bytes_ = size;
    }
    return static_cast<std::byte*>(data_);
  }

 private:
  void release() noexcept {
    if (data_ == nullptr) return;
    (void)(kind_ == memory_kind::host ? cudaFreeHost(data_) : cudaFree(data_));
    data_ = nullptr;
    bytes_ = 0;
  }

  memory_kind kind_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Asks the system to read ahead what a mapped file holds here; for other memory it does nothing.
void read_ahead(const std::byte* data, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data) / page_bytes * page_bytes;
  const auto end = reinterpret_cast<std::uintptr_t>(data) + bytes;
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

// The rows of `work`, one after another without gaps.
void read_rows(const upload& work, std::byte* out) {
  const auto row = static_cast<std::size_t>(work.row_bytes());
  const auto stride = static_cast<std::size_t>(work.stored_row_bytes);
  const auto rows = static_cast<std::size_t>(work.rows);
  read_ahead(work.data, (rows - 1) * stride + row);
  if (row == stride) {
    std::memcpy(out, work.data, rows * row);
    return;
  }
  for (std::size_t r = 0; r < rows; ++r) {
    std::memcpy(out + r * row, work.data + r * stride, row);
  }
}

// Scales that the rows of `work` have, whole rows of them.
std::span<const float> scales_of(const upload& work) {
  const weight_scales& s = work.scales;
  if (s.data == nullptr) return {};
  const std::int64_t first = work.scaled_row / s.rows;
  const std::int64_t last = (work.scaled_row + work.rows - 1) / s.rows;
  return {s.data + first * s.stride, static_cast<std::size_t>((last - first + 1) * s.stride)};
}

// One thread's way to the GPU.
class lane {
 public:
  lane() = default;
  // Apart from the constructor, so that what a failure leaves half made is given back.
  void open() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream for weights");
    for (auto& set : sets_) {
      check(cudaEventCreateWithFlags(&set.free, cudaEventDisableTiming), "an event for weights");
    }
  }
  ~lane() {
    if (stream_ != nullptr) (void)cudaStreamSynchronize(stream_);  // buffers are in use
    for (auto& set : sets_) {
      if (set.free != nullptr) (void)cudaEventDestroy(set.free);
    }
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;

  void send(const upload& work) {
    if (work.data == nullptr) return make_up_rows(work.made_up, work.to, stream_);
    buffer_set& set = sets_[next_++ % sets_.size()];
    check(cudaEventSynchronize(set.free), "waiting for weights");
    const auto scales = scales_of(work);
    const auto rows_end = static_cast<std::size_t>(work.rows * work.row_bytes());
    const auto scales_at = (rows_end + alignof(float) - 1) / alignof(float) * alignof(float);
    const auto bytes = scales.empty() ? rows_end : scales_at + scales.size_bytes();
    std::byte* pinned = set.pinned.reserve(bytes);
    read_rows(work, pinned);
    if (work.type == work.to.type && work.to.map == row_map::plain && work.to.scales == nullptr) {
      copy_straight(work, pinned);
    } else {
      std::byte* staged = set.staged.reserve(bytes);
      stored_rows from{staged,       work.type,        work.rows,
                       work.columns, work.row_bytes(), work.first_column};
      if (!scales.empty()) {
        std::memcpy(pinned + scales_at, scales.data(), scales.size_bytes());
        from.scales = work.scales;
        from.scales.data = reinterpret_cast<const float*>(staged + scales_at);
        from.scaled_row = work.scaled_row % work.scales.rows;
        from.scaled_column = work.scaled_column;
      }
      check(cudaMemcpyAsync(staged, pinned, bytes, cudaMemcpyHostToDevice, stream_),
            "copying weights");
      convert_rows(from, work.to, stream_);
    }
    check(cudaEventRecord(set.free, stream_), "copying weights");
  }

  void wait() { check(cudaStreamSynchronize(stream_), "copying weights"); }

 private:
  struct buffer_set {
    growing_memory pinned{memory_kind::host}, staged{memory_kind::device};
    cudaEvent_t free = nullptr;  // recorded when both may be overwritten
  };

  void copy_straight(const upload& work, const std::byte* pinned) {
    const auto row = static_cast<std::size_t>(work.row_bytes());
    const auto pitch = static_cast<std::size_t>(row_bytes(work.to.type, work.to.leading));
    auto* to =
        static_cast<std::byte*>(work.to.data) + static_cast<std::size_t>(work.to.first_row) * pitch;
    const auto rows = static_cast<std::size_t>(work.rows);
    if (row == pitch || rows == 1) {
      check(cudaMemcpyAsync(to, pinned, rows * row, cudaMemcpyHostToDevice, stream_),
            "copying weights");
    } else {
      check(cudaMemcpy2DAsync(to, pitch, pinned, row, row, rows, cudaMemcpyHostToDevice, stream_),
            "copying weights");
    }
  }

  cudaStream_t stream_ = nullptr;
  std::array<buffer_set, 2> sets_;
  std::size_t next_ = 0;
};

}  // namespace

upload_queue::~upload_queue() {
  {
    const std::lock_guard lock(mutex_);
    waiting_.clear();
  }
  try {
    finish();
  } catch (const device_error&) {  // nobody is left to be told
  }
}

void upload_queue::add(const upload& work) {
  bool more = false, failed = false;
  {
    const std::lock_guard lock(mutex_);
    failed = failure_.has_value();
    if (!failed) waiting_.push_back(work);
    more = waiting_.size() > idle_threads_ && threads_.size() < most_threads;
  }
  if (failed) return finish();
  if (more) start_thread();
  changed_.notify_one();
}

void upload_queue::start_thread() {
  try {
    threads_.emplace_back([this] { run(); });
  } catch (const std::system_error& e) {
    if (!threads_.empty()) return;  // those that run will do
    const std::lock_guard lock(mutex_);
    waiting_.clear();
    throw device_error(errc::internal, std::string("a thread for weights: ") + e.what());
  }
}

void upload_queue::finish() {
  if (threads_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  closing_ = false;
  if (const auto failure = std::exchange(failure_, std::nullopt)) throw *failure;
}

void upload_queue::run() noexcept {
  try {
    check(cudaSetDevice(gpu_), "choosing the GPU");
    lane way;
    way.open();
    while (const auto work = take()) way.send(*work);
    way.wait();
  } catch (const device_error& e) {
    fail(e);
  } catch (const std::exception& e) {
    fail(device_error(errc::internal, std::string("copying weights: ") + e.what()));
  }
}

std::optional<upload> upload_queue::take() {
  std::unique_lock lock(mutex_);
  ++idle_threads_;
  changed_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
  --idle_threads_;
  if (waiting_.empty()) return std::nullopt;
  const upload work = waiting_.front();
  waiting_.pop_front();
  return work;
}

void upload_queue::fail(const device_error& reason) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = reason;
  waiting_.clear();
}

}  // namespace dinfer::kernels::cuda
