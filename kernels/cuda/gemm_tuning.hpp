// SPDX-License-Identifier: Apache-2.0
// Which algorithm was fastest for which matrix product, in memory and in a file. No CUDA in here:
// the library's are 64 bytes that mean something to it alone.
#pragma once

#include "kernels/cuda/product.hpp"

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

namespace dinfer::kernels::cuda {

// What a choice is kept for. `rows` is a tuning bucket.
struct gemm_shape {
  std::int64_t rows = 0, n = 0, k = 0, ldx = 0, ldw = 0, ldo = 0;
  dtype type = dtype::bf16, out_type = dtype::bf16;
  bool spare_rows = false;

  auto operator<=>(const gemm_shape&) const = default;
};

// Who computes: the library, the library with padded_rows rows, our own kernel for few rows, or the
// one for a decoding step's (gemm_swapped.hpp).
enum class gemm_way : std::uint8_t { library, padded, skinny, swapped };

inline constexpr std::size_t algorithm_words = 8;

struct gemm_choice {
  gemm_way way = gemm_way::library;
  // Of the library; of a swapped product the height and blocks of its plan.
  std::array<std::uint64_t, algorithm_words> algorithm{};
  std::int64_t measured_rows = 0;  // number of rows for which it is known to be valid
  double microseconds = 0;         // median, with nothing of w in the cache
};

inline gemm_choice choice_of(const product& p, gemm_way way) noexcept {
  gemm_choice choice;
  choice.way = way;
  choice.measured_rows = p.rows;
  return choice;
}

using tuning_table = std::map<gemm_shape, gemm_choice>;

// Numbers of rows that get a choice of their own: those of decoding steps, up to 512.
std::span<const std::int64_t> decode_buckets() noexcept;
// `rows` rounded up to one of those, or to 2^i or 3 * 2^i.
std::int64_t tuning_bucket(std::int64_t rows) noexcept;
gemm_shape shape_of(const product& p, std::int64_t rows) noexcept;

// <directory>/<device>-cublaslt-<version>.txt, with - for what is neither letter nor digit.
std::string tuning_path(const std::string& directory, const std::string& device_name,
                        std::uint64_t library_version);

// What the file holds; an empty table when there is none. A file with anything unexpected in it is
// ignored as a whole: nullopt, and `problem` says why.
std::optional<tuning_table> read_tunings(const std::string& path, std::string& problem);
// Replaces the file as one act, and makes its directory; false, and `problem`, when it cannot.
bool write_tunings(const std::string& path, const tuning_table& table, std::string& problem);

}  // namespace dinfer::kernels::cuda
