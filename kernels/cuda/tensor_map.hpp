// SPDX-License-Identifier: Apache-2.0
// The tensor maps by which Hopper's bulk copies (TMA) read the pages of one layer, and matrices.
// Host code, any thread; nothing is linked to libcuda, whose encoder is asked for by name.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/check.hpp"

#include <cuda.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#ifdef DINFER_CUDA_ON_CPU
#include "tests/support/cuda_on_cpu_sm90.hpp"
#endif

namespace dinfer::kernels::cuda {

using encode_map = decltype(&cuTensorMapEncodeTiled);

inline encode_map find_encode_map() {
#ifdef DINFER_CUDA_ON_CPU
  return &tests::cuda_on_cpu::encode_tiled;
#else
  void* function = nullptr;
  auto found = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &found),
        "the driver's cuTensorMapEncodeTiled");
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw device_error(errc::internal, "the driver has no cuTensorMapEncodeTiled");
  }
  return reinterpret_cast<encode_map>(function);
#endif
}

// Dimensions, from the innermost: [pages][K heads, then V heads][block_size][head_dim], elements of
// 2 bytes. A box is block_size rows of 64 columns of one page and head, 128-byte swizzled.
struct page_map_key {
  const void* pages = nullptr;
  std::int64_t page_elements = 0, page_count = 0;
  std::int32_t kv_heads = 0, head_dim = 0, block_size = 0;
  dtype type = dtype::bf16;
  bool operator==(const page_map_key&) const = default;
};

// Within the limits of the map, and all of a page's heads inside the page.
inline bool page_map_fits(const attention_shape& shape) {
  const std::int64_t head = std::int64_t{shape.block_size} * shape.head_dim;
  return head > 0 && shape.page_count > 0 && shape.page_count < (std::int64_t{1} << 31) &&
         shape.page_elements % head == 0 && shape.page_elements >= 2 * shape.kv_heads * head &&
         shape.page_elements < (std::int64_t{1} << 38) &&
         reinterpret_cast<std::uintptr_t>(shape.pages) % 16 == 0;
}

inline CUtensorMap encode_page_map(const page_map_key& key) {
  static const encode_map encode = find_encode_map();
  const auto dim = static_cast<cuuint64_t>(key.head_dim);
  const auto rows = static_cast<cuuint64_t>(key.block_size);
  const std::array<cuuint64_t, 4> sizes{dim, rows, 2 * static_cast<cuuint64_t>(key.kv_heads),
                                        static_cast<cuuint64_t>(key.page_count)};
  const std::array<cuuint64_t, 3> strides{2 * dim, 2 * dim * rows,
                                          2 * static_cast<cuuint64_t>(key.page_elements)};
  const std::array<cuuint32_t, 4> box{64, static_cast<cuuint32_t>(key.block_size), 1, 1};
  const std::array<cuuint32_t, 4> steps{1, 1, 1, 1};
  const auto type =
      key.type == dtype::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  CUtensorMap map;
  const CUresult code =
      encode(&map, type, 4, const_cast<void*>(key.pages), sizes.data(), strides.data(), box.data(),
             steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS) {
    throw device_error(errc::internal,
                       "a tensor map of the pages: CUDA error " + std::to_string(code));
  }
  return map;
}

// The map of shape.pages; made once for each layer. `type`: of the pages, bf16 or f16.
inline CUtensorMap page_map(const attention_shape& shape, dtype type) {
  constexpr std::size_t most_kept = 1024;
  thread_local std::vector<std::pair<page_map_key, CUtensorMap>> kept;
  const page_map_key key{shape.pages,
                         shape.page_elements,
                         shape.page_count,
                         shape.kv_heads,
                         shape.head_dim,
                         shape.block_size,
                         type};
  for (const auto& [known, map] : kept) {
    if (known == key) return map;
  }
  if (kept.size() == most_kept) kept.clear();
  return kept.emplace_back(key, encode_page_map(key)).second;
}

struct matrix_key {
  const void* data = nullptr;
  std::int64_t rows = 0, columns = 0, stride = 0;  // stride: elements from row to row
  dtype type = dtype::bf16;                        // bf16, f16 or f8_e4m3
};

// A box is `box_rows` (256 at most) rows of 128 bytes, 128-byte swizzled; zeros past the matrix's
// ends. Data and rows at multiples of 16 bytes, rows and columns below 2^32.
inline CUtensorMap matrix_map(const matrix_key& key, int box_rows) {
  static const encode_map encode = find_encode_map();
  const std::int64_t bytes = row_bytes(key.type, 1);
  const std::array<cuuint64_t, 2> sizes{static_cast<cuuint64_t>(key.columns),
                                        static_cast<cuuint64_t>(key.rows)};
  const std::array<cuuint64_t, 1> strides{static_cast<cuuint64_t>(key.stride * bytes)};
  const std::array<cuuint32_t, 2> box{static_cast<cuuint32_t>(128 / bytes),
                                      static_cast<cuuint32_t>(box_rows)};
  const std::array<cuuint32_t, 2> steps{1, 1};
  const auto type = key.type == dtype::bf16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                    : key.type == dtype::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                             : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  CUtensorMap map;
  const CUresult code =
      encode(&map, type, 2, const_cast<void*>(key.data), sizes.data(), strides.data(), box.data(),
             steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS) {
    throw device_error(errc::internal,
                       "a tensor map of a matrix: CUDA error " + std::to_string(code));
  }
  return map;
}

}  // namespace dinfer::kernels::cuda
