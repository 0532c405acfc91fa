// SPDX-License-Identifier: Apache-2.0
// Weights of bench_gpu_ops that are stored quantised, as in a GGUF file. Thread: the device's own.
#pragma once

#include "kernels/device.hpp"
#include "kernels/ops.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::bench {

// "q4_k"; ends the program for what is no quantised type.
inline kernels::dtype quantised_type(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(kernels::dtype::f8_e4m3); ++i) {
    const auto type = static_cast<kernels::dtype>(i);
    if (kernels::quantised(type) && kernels::info(type).name == name) return type;
  }
  std::fprintf(stderr, "bench_gpu_ops: %s is no quantised type\n", name.c_str());
  std::exit(1);
}

// Blocks with quants at random and scales of 2^-10.
inline std::vector<std::byte> made_up_blocks(kernels::dtype type, std::int64_t rows,
                                             std::int64_t columns) {
  using kernels::dtype;
  constexpr std::uint16_t scale = 0x1400;
  const auto block = static_cast<std::size_t>(kernels::info(type).block_bytes);
  std::vector<std::byte> out(static_cast<std::size_t>(rows * kernels::row_bytes(type, columns)));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::byte>(kernels::made_up_number(11, i));
  const bool last = type == dtype::q6_k;
  const bool two =
      type == dtype::q4_1 || type == dtype::q5_1 || type == dtype::q4_k || type == dtype::q5_k;
  for (std::size_t i = 0; i < out.size(); i += block) {
    std::memcpy(out.data() + i + (last ? block - 2 : 0), &scale, sizeof scale);
    if (two) std::memcpy(out.data() + i + 2, &scale, sizeof scale);
  }
  return out;
}

// A weight of such blocks; a gate_up weight's halves are the same ones.
inline std::unique_ptr<kernels::weight> of_blocks(kernels::device& d, kernels::weight_role role,
                                                  std::int64_t rows, std::int64_t columns,
                                                  kernels::dtype type,
                                                  const std::vector<std::byte>& blocks) {
  const bool two = role == kernels::weight_role::gate_up;
  kernels::weight_slice s;
  s.data = blocks.data();
  s.type = type;
  s.stored_columns = s.column_end = columns;
  s.row_end = two ? rows / 2 : rows;
  const std::vector<kernels::weight_slice> slices(two ? 2 : 1, s);
  auto made = d.ops().prepare(slices, role, {});
  d.synchronize();
  return made;
}

}  // namespace dinfer::bench
