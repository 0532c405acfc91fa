// SPDX-License-Identifier: Apache-2.0
// What bench_gpu_ops measures with: device memory full of noise, made-up weights, and the time of
// one operation among many of its kind in a recorded step. Through the contract of kernels/ alone.
// Thread: the device's own.
#pragma once

#include "kernels/device.hpp"
#include "kernels/ops.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace dinfer::bench {

// What is read between two uses of an operand: five times the L2 cache of an H100.
inline constexpr double cold_bytes = 2.5e8;

// How many copies of an operation's operands, `bytes` in all, it must go through so that each comes
// from memory.
inline int copies_of(double bytes) {
  constexpr double most = 4096;
  return static_cast<int>(std::clamp(std::ceil(cold_bytes / bytes), 2.0, most));
}

// With values of about 0.02 when `step` is 1 / 4096, evenly spread around 0.
inline std::unique_ptr<kernels::weight> made_up(kernels::device& d, kernels::weight_role role,
                                                std::int64_t rows, std::int64_t columns,
                                                std::uint64_t seed, float step = 1.0F / 4096,
                                                const kernels::prepare_options& how = {}) {
  const bool two = role == kernels::weight_role::gate_up;
  std::vector<kernels::weight_slice> slices(two ? 2 : 1);
  for (auto& s : slices) {
    s.stored_columns = s.column_end = columns;
    s.row_end = two ? rows / 2 : rows;
    s.made_up = {seed++, step};
  }
  auto made = d.ops().prepare(slices, role, how);
  d.synchronize();
  return made;
}

// Numbers of about 0.3 for any amount of memory: a GPU draws less power, and so is faster, on
// zeros.
class noise {
 public:
  static constexpr std::int64_t columns = 4096;

  explicit noise(kernels::device& d)
      : device_(d),
        table_(made_up(d, kernels::weight_role::embedding, table_rows, columns, 1, 1.0F / 256)) {
    std::vector<std::int32_t> ids(chunk_rows);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i) % table_rows;
    ids_ = d.allocate(ids.size() * sizeof(std::int32_t), false);
    d.upload(ids_.data(), ids.data(), ids_.bytes());
  }

  // `rows` of `columns` activations.
  void fill(void* to, std::int64_t rows) {
    const auto type = device_.traits().activation;
    for (std::int64_t r = 0; r < rows; r += chunk_rows) {
      const auto some = std::min(chunk_rows, rows - r);
      kernels::embed_args args;
      args.ids = kernels::view(ids_.data(), kernels::dtype::i32, some);
      args.table = table_.get();
      args.out = kernels::view(static_cast<std::byte*>(to) + kernels::row_bytes(type, r * columns),
                               type, some, columns);
      device_.ops().embed(args);
    }
  }

 private:
  static constexpr std::int32_t table_rows = 2048;
  static constexpr std::int64_t chunk_rows = 65536;
  kernels::device& device_;
  std::unique_ptr<kernels::weight> table_;
  kernels::buffer ids_;
};

// Device memory of what one row of the table is measured on.
class operands {
 public:
  operands(kernels::device& d, noise& numbers) : device_(d), noise_(numbers) {}

  // Activations, filled.
  kernels::tensor noisy(std::int64_t rows, std::int64_t columns) {
    const auto type = device_.traits().activation;
    const auto filled = (rows * columns + noise::columns - 1) / noise::columns;
    const auto memory = take(kernels::row_bytes(type, filled * noise::columns));
    noise_.fill(memory, filled);
    return kernels::view(memory, type, rows, columns);
  }
  // Holding anything.
  kernels::tensor space(kernels::dtype type, std::int64_t rows, std::int64_t columns) {
    return kernels::view(take(kernels::row_bytes(type, rows * columns)), type, rows, columns);
  }
  template <class T>
  kernels::tensor list(const std::vector<T>& values, kernels::dtype type = kernels::dtype::i32) {
    static_assert(sizeof(T) == 4);
    const auto memory = take(static_cast<std::int64_t>(values.size() * sizeof(T)));
    device_.upload(memory, values.data(), values.size() * sizeof(T));
    return kernels::view(memory, type, values.size());
  }

 private:
  void* take(std::int64_t bytes) {
    memory_.push_back(device_.allocate(static_cast<std::size_t>(bytes), false));
    return memory_.back().data();
  }
  kernels::device& device_;
  noise& noise_;
  std::vector<kernels::buffer> memory_;
};

// Copy `copy` of a tensor that holds copies of `rows` rows, one after another.
inline kernels::tensor copy_of(const kernels::tensor& all, int copy, std::int64_t rows) {
  const auto offset = kernels::row_bytes(all.type, copy * rows * all.columns());
  return kernels::view(all.as<std::byte>() + offset, all.type, rows, all.columns());
}

// Seconds of one `op`, which enqueues the operation on copy 0 .. copies - 1 of its operands. They
// are recorded one after another, a few ms of them, and the recording is replayed once and three
// times over: half the difference of the medians is the recording alone, without what the host adds
// at either end. Without `recorded` they are enqueued each time: where that takes longer than the
// operation, it is what is measured.
inline double seconds_of(kernels::device& d, int copies, bool recorded,
                         const std::function<void(int)>& op) {
  using clock = std::chrono::steady_clock;
  constexpr double least_span = 2e-3, most_spent = 0.08;
  constexpr int most_recorded = 8192, most_samples = 25, least_samples = 5;
  int rounds = 1;
  const auto enqueue = [&] {
    for (int i = 0; i < rounds * copies; ++i) op(i % copies);
  };
  std::unique_ptr<kernels::graph> recording;
  const auto time = [&](int times) {
    const auto begin = clock::now();
    for (int i = 0; i < times; ++i) recording ? recording->replay() : enqueue();
    d.synchronize();
    return std::chrono::duration<double>(clock::now() - begin).count();
  };
  time(1);  // kernels are loaded, matrix products are tuned
  rounds = static_cast<int>(std::clamp(std::ceil(least_span / time(1)), 1.0,
                                       std::max(1.0, double{most_recorded} / copies)));
  if (recorded && d.traits().graphs) {
    d.begin_capture();
    enqueue();
    recording = d.end_capture();
    time(1);
  }
  std::vector<double> once, thrice;
  double spent = 0;
  while (once.size() < least_samples || (spent < most_spent && once.size() < most_samples)) {
    once.push_back(time(1));
    thrice.push_back(time(3));
    spent += once.back() + thrice.back();
  }
  const auto median = [](std::vector<double>& times) {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  };
  return (median(thrice) - median(once)) / (2.0 * rounds * copies);
}

}  // namespace dinfer::bench
