// SPDX-License-Identifier: Apache-2.0
// What the tests of this room share: a device, seeded numbers, tensors over vectors, and weights
// made of random file blocks.
#pragma once

#include "kernels/cpu/dequantize.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace dinfer::tests {

inline std::unique_ptr<kernels::device> open_cpu(std::uint32_t threads) {
  kernels::device_options options;
  options.cpu_threads = threads;
  options.activation = kernels::dtype::f32;  // exact products of quantised weights
  auto opened = kernels::open_device("cpu:0", options);
  REQUIRE(opened);
  return std::move(*opened);
}

class random_numbers {
 public:
  explicit random_numbers(std::uint64_t seed) : engine_(seed) {}
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }
  std::int32_t below(std::int32_t n) {
    return static_cast<std::int32_t>(bits() % static_cast<std::uint32_t>(n));
  }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(bits() >> 8) * 0x1p-24F;
  }
  std::vector<float> floats(std::int64_t n, float low = -1, float high = 1) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = uniform(low, high);
    return v;
  }

 private:
  std::mt19937_64 engine_;
};

inline const float poison = std::numeric_limits<float>::quiet_NaN();

template <class... Dims>
kernels::tensor over(std::vector<float>& v, Dims... dims) {
  const auto t = kernels::view(v.data(), kernels::dtype::f32, dims...);
  REQUIRE(t.elements() == static_cast<std::int64_t>(v.size()));
  return t;
}

inline kernels::tensor over(std::vector<std::int32_t>& v) {
  return kernels::view(v.data(), kernels::dtype::i32, v.size());
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline const std::vector<kernels::dtype>& weight_types() {
  using kernels::dtype;
  static const std::vector<dtype> types{dtype::f32,  dtype::f16,  dtype::bf16, dtype::q4_0,
                                        dtype::q4_1, dtype::q5_0, dtype::q5_1, dtype::q8_0,
                                        dtype::q4_k, dtype::q5_k, dtype::q6_k};
  return types;
}

// `columns`, or as many more as fill the last block of `type`.
inline std::int64_t whole_blocks(kernels::dtype type, std::int64_t columns) {
  const std::int64_t block = kernels::info(type).block_elements;
  return (columns + block - 1) / block * block;
}

// A stored matrix with random bits for quants and sane scales.
struct stored_matrix {
  kernels::dtype type = kernels::dtype::f32;
  std::int64_t rows = 0, columns = 0;
  std::vector<std::byte> data;

  stored_matrix(kernels::dtype t, std::int64_t r, std::int64_t c, random_numbers& random)
      : type(t), rows(r), columns(c) {
    using kernels::dtype;
    data.resize(static_cast<std::size_t>(r * kernels::row_bytes(t, c)));
    for (auto& b : data) b = static_cast<std::byte>(random.bits());
    if (t == dtype::f32) {
      const auto v = random.floats(r * c);
      std::memcpy(data.data(), v.data(), data.size());
    } else if (t == dtype::bf16 || t == dtype::f16) {  // sign and fraction at random, 2^-4..2^-1
      for (std::size_t i = 0; i < data.size(); i += 2) put(i, random);
    } else {
      const auto step = static_cast<std::size_t>(kernels::info(t).block_bytes);
      const bool offset =
          t == dtype::q4_1 || t == dtype::q5_1 || t == dtype::q4_k || t == dtype::q5_k;
      for (std::size_t i = 0; i < data.size(); i += step) {
        put(t == dtype::q6_k ? i + step - 2 : i, random);
        if (offset) put(i + 2, random);
      }
    }
  }

  kernels::weight_slice slice() const { return {data.data(), type, columns, 0, rows, 0, columns}; }

  std::vector<float> expanded() const {
    std::vector<float> out(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < rows; ++r) {
      kernels::cpu::dequantize_row(type, data.data() + r * kernels::row_bytes(type, columns),
                                   out.data() + r * columns, columns);
    }
    return out;
  }

 private:
  void put(std::size_t at, random_numbers& random) {
    const bool brain = type == kernels::dtype::bf16;
    const std::uint32_t fraction_bits = brain ? 7 : 10;
    const std::uint32_t exponent = (brain ? 127U : 15U) - 1 - random.bits() % 4;
    const auto h =
        static_cast<std::uint16_t>((random.bits() & 0x8000U) | exponent << fraction_bits |
                                   (random.bits() & ((1U << fraction_bits) - 1)));
    std::memcpy(data.data() + at, &h, 2);
  }
};

inline std::unique_ptr<kernels::weight> vector_weight(kernels::ops& ops,
                                                      const std::vector<float>& v) {
  const auto n = static_cast<std::int64_t>(v.size());
  const kernels::weight_slice slice{
      reinterpret_cast<const std::byte*>(v.data()), kernels::dtype::f32, n, 0, 1, 0, n};
  return ops.prepare({&slice, 1}, kernels::weight_role::vector, {});
}

}  // namespace dinfer::tests
