// SPDX-License-Identifier: Apache-2.0
// What the tests of the CUDA backend share: a GPU or a reason to skip, tensors on either device
// that notice writes past their end, weights that are ready, and comparisons that say where the
// worst element lies. The same helpers serve the CPU device, so that one function can run an
// operation on both.
//
//   TEST_CASE("linear agrees with the CPU", "[gpu]") {
//     for (const auto type : activation_types()) {
//       const auto gpu = open_gpu(type);
//       if (!gpu) return;
//       auto random = seeded(41);
//       const auto x = rounded(random.floats(rows * k), type);  // what T holds, for both devices
//       const auto input = filled(*gpu, type, x, rows, k);
//       const auto out = poisoned(*gpu, type, rows, n);
//       ... args.x = input; args.out = out; gpu->ops().linear(args); ...
//       check_close("linear", out.values(), right, n, bound_of(type));
#pragma once

#include "kernels/cpu/half.hpp"
#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/kernels/support.hpp"

#include <cstdio>
#include <cstdlib>
#include <span>
#include <sstream>
#include <utility>

namespace dinfer::tests {

// DINFER_TEST_BRIEF=1, for tools that slow a kernel down a thousand times: a few shapes.
inline bool brief() { return std::getenv("DINFER_TEST_BRIEF") != nullptr; }

// All of them, or the first two when brief.
template <class T>
std::vector<T> few(std::vector<T> all) {
  if (brief() && all.size() > 2) all.erase(all.begin() + 2, all.end());
  return all;
}

// "cuda:0", or null once "skipped: <why>" is printed. Under DINFER_TEST_GPU=1 null is a failure.
inline std::unique_ptr<kernels::device> open_gpu(kernels::device_options options) {
  auto opened = kernels::open_device("cuda:0", options);
  if (opened) return std::move(*opened);
  const char* wanted = std::getenv("DINFER_TEST_GPU");
  if (wanted != nullptr && std::string(wanted) == "1") FAIL(opened.error().message);
  std::printf("skipped: %s\n", opened.error().message.c_str());
  return nullptr;
}

inline std::unique_ptr<kernels::device> open_gpu(kernels::dtype activation,
                                                 bool batch_invariant = false) {
  kernels::device_options options;
  options.activation = activation;
  options.batch_invariant = batch_invariant;
  return open_gpu(options);
}

// Whether there are two GPUs; otherwise "skipped: <why>" is printed, or, under DINFER_TEST_GPU=1
// with DINFER_TEST_GPUS=2, the test fails.
inline bool two_gpus() {
  const auto second = kernels::query_memory("cuda:1");
  if (second) return true;
  const auto is = [](const char* name, const char* value) {
    const char* set = std::getenv(name);
    return set != nullptr && std::string(set) == value;
  };
  if (is("DINFER_TEST_GPU", "1") && is("DINFER_TEST_GPUS", "2")) FAIL(second.error().message);
  std::printf("skipped: two GPUs are needed: %s\n", second.error().message.c_str());
  return false;
}

inline const std::vector<kernels::dtype>& activation_types() {
  using kernels::dtype;
  static const std::vector<dtype> types{dtype::f32, dtype::bf16, dtype::f16};
  return types;
}

inline random_numbers seeded(std::uint64_t seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return random_numbers(seed);
}

// What an operation may be off by, relative to the largest value of its row.
inline double bound_of(kernels::dtype type) {
  return type == kernels::dtype::f32 ? 2e-5 : type == kernels::dtype::bf16 ? 1.5e-2 : 2e-3;
}

// Floats to the bytes of `type` (f32, bf16, f16 or f8_e4m3), rounded to nearest even, and back.
inline std::vector<std::byte> encode(kernels::dtype type, std::span<const float> values) {
  const auto size = static_cast<std::size_t>(kernels::info(type).block_bytes);
  std::vector<std::byte> bytes(values.size() * size);
  if (type == kernels::dtype::f8_e4m3) {
    static const f8_table table;
    for (std::size_t i = 0; i < values.size(); ++i) bytes[i] = std::byte{table.code(values[i])};
    return bytes;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t h = type == kernels::dtype::bf16 ? kernels::cpu::to_bf16(values[i])
                                                         : kernels::cpu::to_f16(values[i]);
    const void* from = type == kernels::dtype::f32 ? static_cast<const void*>(&values[i]) : &h;
    std::memcpy(bytes.data() + i * size, from, size);
  }
  return bytes;
}

inline std::vector<float> decode(kernels::dtype type, std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() /
                            static_cast<std::size_t>(kernels::info(type).block_bytes));
  kernels::cpu::dequantize_row(type, bytes.data(), values.data(),
                               static_cast<std::int64_t>(values.size()));
  return values;
}

// `values` as `type` holds them.
inline std::vector<float> rounded(std::span<const float> values, kernels::dtype type) {
  return decode(type, encode(type, values));
}

// What an all-reduce makes of these parts, one of each rank: added in rank order, rounded once.
inline std::vector<float> right_sum(const std::vector<std::vector<float>>& in,
                                    kernels::dtype type) {
  std::vector<float> sum = in[0];
  for (std::size_t q = 1; q < in.size(); ++q)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += in[q][i];
  return rounded(sum, type);
}

// A tensor with memory of its own, full of 0xFF at first: NaN in f32, bf16 and f16, -1 in i32.
class device_tensor {
 public:
  template <class... Dims>
  device_tensor(kernels::device& d, kernels::dtype type, Dims... dims)
      : device_(&d), view_(kernels::view(nullptr, type, dims...)) {
    memory_ = d.allocate(size() + guard, false);
    view_.data = memory_.data();
    poison();
  }

  operator kernels::tensor() const { return view_; }  // NOLINT: it is one
  void* data() const { return view_.data; }
  kernels::dtype type() const { return view_.type; }

  void poison() { put(std::vector<std::byte>(size() + guard, std::byte{0xFF})); }
  void put(std::span<const std::byte> bytes) {
    device_->upload(view_.data, bytes.data(), bytes.size());
  }
  // The bytes once everything before is done; fails the test when something wrote past them.
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> all(size() + guard);
    device_->download(all.data(), view_.data, all.size());
    device_->synchronize();
    for (std::size_t i = size(); i < all.size(); ++i) {
      if (all[i] != std::byte{0xFF}) FAIL("written " << i - size() << " bytes past a tensor");
    }
    all.resize(size());
    return all;
  }
  std::vector<float> values() const { return decode(view_.type, bytes()); }
  std::vector<std::int32_t> indices() const {
    const auto all = bytes();
    std::vector<std::int32_t> out(all.size() / sizeof(std::int32_t));
    if (!out.empty()) std::memcpy(out.data(), all.data(), all.size());
    return out;
  }

 private:
  static constexpr std::size_t guard = 256;
  std::size_t size() const { return static_cast<std::size_t>(view_.bytes()); }

  kernels::device* device_;
  kernels::tensor view_;
  kernels::buffer memory_;
};

template <class... Dims>
device_tensor poisoned(kernels::device& d, kernels::dtype type, Dims... dims) {
  return {d, type, dims...};
}

template <class... Dims>
device_tensor filled(kernels::device& d, kernels::dtype type, std::span<const float> values,
                     Dims... dims) {
  device_tensor t(d, type, dims...);
  const auto bytes = encode(type, values);
  REQUIRE(bytes.size() == static_cast<std::size_t>(kernels::tensor(t).bytes()));
  t.put(bytes);
  return t;
}

template <class... Dims>
device_tensor indices(kernels::device& d, std::span<const std::int32_t> values, Dims... dims) {
  device_tensor t(d, kernels::dtype::i32, dims...);
  REQUIRE(values.size() * 4 == static_cast<std::size_t>(kernels::tensor(t).bytes()));
  t.put(std::as_bytes(values));
  return t;
}

inline device_tensor indices(kernels::device& d, std::span<const std::int32_t> values) {
  return indices(d, values, values.size());
}

// A weight that is ready: what `slices` point to may go.
inline std::unique_ptr<kernels::weight> ready(kernels::device& d,
                                              std::span<const kernels::weight_slice> slices,
                                              kernels::weight_role role,
                                              const kernels::prepare_options& how = {}) {
  auto w = d.ops().prepare(slices, role, how);
  d.synchronize();
  return w;
}

inline std::unique_ptr<kernels::weight> ready(kernels::device& d,
                                              const kernels::weight_slice& slice,
                                              kernels::weight_role role) {
  return ready(d, std::span(&slice, 1), role);
}

inline std::unique_ptr<kernels::weight> ready_vector(kernels::device& d,
                                                     const std::vector<float>& v) {
  auto w = vector_weight(d.ops(), v);
  d.synchronize();
  return w;
}

// Every element within relative * (largest |right| of its row) + absolute of `right`. A NaN that is
// not right fails.
inline void check_close(const std::string& what, const std::vector<float>& got,
                        const std::vector<float>& right, std::int64_t columns, double relative,
                        double absolute = 0) {
  REQUIRE(got.size() == right.size());
  const auto width = static_cast<std::size_t>(columns);
  double worst = 0;
  std::size_t at = 0, beyond = 0;
  for (std::size_t row = 0; row * width < got.size(); ++row) {
    double scale = 0;
    for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
      scale = std::max(scale, std::abs(static_cast<double>(right[i])));
    }
    const double allowed = relative * scale + absolute;
    for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
      double off = std::abs(static_cast<double>(got[i]) - static_cast<double>(right[i]));
      if (got[i] == right[i] || (std::isnan(got[i]) && std::isnan(right[i]))) off = 0;
      const double share = off == 0 ? 0 : std::isnan(off) ? HUGE_VAL : off / allowed;
      if (share > 1) ++beyond;
      if (share > worst) worst = share, at = i;
    }
  }
  std::ostringstream text;
  text << what << " [" << (width == 0 ? 0 : got.size() / width) << ", " << columns
       << "]: worst at [" << (width == 0 ? 0 : at / width) << ", " << (width == 0 ? 0 : at % width)
       << "]";
  if (!got.empty()) text << ": " << got[at] << " for " << right[at];
  text << ", " << worst << " of what is allowed; " << beyond << " elements beyond";
  INFO(text.str());
  CHECK(beyond == 0);
}

// Bit for bit.
inline void check_same(const std::string& what, const std::vector<float>& got,
                       const std::vector<float>& right, std::int64_t columns) {
  REQUIRE(got.size() == right.size());
  std::size_t different = 0, at = 0;
  for (std::size_t i = got.size(); i-- > 0;) {
    if (std::memcmp(&got[i], &right[i], sizeof(float)) != 0) ++different, at = i;
  }
  std::ostringstream text;
  text << what << ": " << different << " elements differ";
  if (different > 0) {
    const auto width = static_cast<std::size_t>(columns);
    text << ", first [" << at / width << ", " << at % width << "]: " << got[at] << " for "
         << right[at];
  }
  INFO(text.str());
  CHECK(different == 0);
}

}  // namespace dinfer::tests
