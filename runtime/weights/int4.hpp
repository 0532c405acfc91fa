// SPDX-License-Identifier: Apache-2.0
// Matrices of 4-bit numbers as GPTQ, AWQ and compressed-tensors pack them, and from there to blocks
// of GGUF's q4_1, which every device takes. An element is scale * (number - zero), with a scale and
// a zero for a group of columns of each row; a block has d = scale and m = -zero * scale, both f16:
// m is off by 2^-11 of itself at most, nothing where the zero is 8. Thread: any.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/tensor.hpp"
#include "runtime/parallel/layout.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace dinfer::runtime {

// Words are of 32 bits and hold eight numbers, the first in the lowest bits but for AWQ's order.
enum class int4_order : std::uint8_t {
  gptq,    // words [columns / 8, rows], zeros [groups, rows / 8], scales [groups, rows]
  awq,     // words [columns, rows / 8], zeros and scales as gptq's; in a word rows 0 2 4 6 1 3 5 7
  by_row,  // words [rows, columns / 8], zeros [rows / 8, groups], scales [rows, groups]
};

// Parts of sizes that go together: whoever makes one has checked them.
struct int4_matrix {
  int4_order order = int4_order::gptq;
  std::int64_t rows = 0, columns = 0;               // columns: of whole groups
  std::int64_t group = 0;                           // columns that share a scale: whole blocks
  std::span<const std::byte> words, zeros, scales;  // zeros: none, all are 8
  kernels::dtype scale_type = kernels::dtype::f16;  // bf16, f32
  bool zeros_less_one = false;                      // as they are stored, modulo 16
  std::string scales_name, file;                    // for messages
};

// Blocks of q4_1 of `rows`, and of `columns` that begin and end with blocks, which lie inside of
// the matrix, one row after another: out has as many bytes as they take. By several threads where
// that is worth it. Error: bad_file (a scale that is not above 0, or not in f16's range).
result<void> to_q4_1(const int4_matrix& matrix, range rows, range columns, std::byte* out);

}  // namespace dinfer::runtime
