// SPDX-License-Identifier: Apache-2.0
// Element types, shapes and views of device memory. A `tensor` owns nothing: `buffer` (device.hpp)
// does. Shapes are row-major, the last dimension is contiguous; comments state them as [tokens,
// heads, head_dim].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dinfer::kernels {

// Quantised types are GGUF's: blocks of 32 elements along a row, of 256 for q4_k to q6_k. f8_e4m3
// (Micikevicius et al. 2022: four bits of exponent, three of mantissa, to 448, without infinities)
// goes with scales, which its user keeps. The numbers are ours, not those of any file.
enum class dtype : std::uint8_t {
  f32,
  f16,
  bf16,
  i32,
  u8,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,
  f8_e4m3
};

struct dtype_info {
  std::string_view name;        // "q4_1"
  std::int32_t block_elements;  // 1, or 32 or 256 for quantised types
  std::int32_t block_bytes;
};

constexpr dtype_info info(dtype type) noexcept {
  constexpr std::array<dtype_info, 14> table{{{"f32", 1, 4},
                                              {"f16", 1, 2},
                                              {"bf16", 1, 2},
                                              {"i32", 1, 4},
                                              {"u8", 1, 1},
                                              {"q4_0", 32, 18},
                                              {"q4_1", 32, 20},
                                              {"q5_0", 32, 22},
                                              {"q5_1", 32, 24},
                                              {"q8_0", 32, 34},
                                              {"q4_k", 256, 144},
                                              {"q5_k", 256, 176},
                                              {"q6_k", 256, 210},
                                              {"f8_e4m3", 1, 1}}};
  return table[static_cast<std::size_t>(type)];
}

constexpr bool quantised(dtype type) noexcept { return info(type).block_elements > 1; }

// Bytes of `elements` elements of one row; `elements` is a multiple of the type's block.
constexpr std::int64_t row_bytes(dtype type, std::int64_t elements) noexcept {
  return elements / info(type).block_elements * info(type).block_bytes;
}

struct tensor {
  void* data = nullptr;
  dtype type = dtype::f32;
  std::int32_t rank = 0;
  std::array<std::int64_t, 4> shape{};

  std::int64_t rows() const noexcept {
    return rank == 0 ? 0 : elements() / (shape[rank - 1] ? shape[rank - 1] : 1);
  }
  std::int64_t columns() const noexcept { return rank == 0 ? 0 : shape[rank - 1]; }
  std::int64_t elements() const noexcept {
    std::int64_t n = rank == 0 ? 0 : 1;
    for (std::int32_t i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  std::int64_t bytes() const noexcept { return row_bytes(type, elements()); }
  explicit operator bool() const noexcept { return data != nullptr; }

  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data);
  }
};

template <class... Dims>
tensor view(void* data, dtype type, Dims... dims) noexcept {
  static_assert(sizeof...(Dims) >= 1 && sizeof...(Dims) <= 4);
  tensor t{data, type, sizeof...(Dims), {}};
  std::int32_t i = 0;
  ((t.shape[i++] = static_cast<std::int64_t>(dims)), ...);
  return t;
}

}  // namespace dinfer::kernels
