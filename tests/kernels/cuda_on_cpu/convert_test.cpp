// SPDX-License-Identifier: Apache-2.0
// convert.cu against the CPU's expansion, bit for bit, on the host.
#include "kernels/cuda/convert.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/cuda_on_cpu.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

// [rows, columns] at `first_row` of `memory`, which has `leading` columns, mapped.
std::vector<float> placed(const std::vector<float>& values, std::int64_t rows, std::int64_t columns,
                          const cuda::placed_rows& to, std::int64_t column, std::size_t size) {
  std::vector<float> memory(size, poison);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto at = cuda::mapped_row(to.map, to.first_row + r) * to.leading + column;
    std::copy_n(values.begin() + r * columns, columns, memory.begin() + at);
  }
  return memory;
}

}  // namespace

TEST_CASE("convert_rows gives the CPU's bits for every stored type, placed and rounded") {
  auto random = seeded(621);
  const auto d = open_cpu(1);
  for (const auto stored : weight_types()) {
    for (const std::int64_t least : {32, 96, 1120}) {
      const std::int64_t columns = whole_blocks(stored, least);
      constexpr std::int64_t rows = 11, first_row = 5;
      const stored_matrix matrix(stored, rows, columns, random);
      const auto right = matrix.expanded();
      for (const auto type : activation_types()) {
        for (const auto map : {cuda::row_map::plain, cuda::row_map::gate, cuda::row_map::up}) {
          const std::int64_t leading = columns + 40, column = 24;
          const auto memory = poisoned(*d, type, 32, leading);
          cuda::placed_rows to;
          to.data = static_cast<std::byte*>(memory.data()) + row_bytes(type, column);
          to.type = type;
          to.leading = leading;
          to.map = map;
          to.first_row = first_row;
          cuda::convert_rows(
              {matrix.data.data(), stored, rows, columns, row_bytes(stored, columns)}, to, nullptr);
          const auto expected = placed(rounded(right, type), rows, columns, to, column,
                                       static_cast<std::size_t>(32 * leading));
          INFO(info(stored).name << " to " << info(type).name);
          const auto got = memory.values();
          for (std::size_t i = 0; i < got.size(); ++i) {
            if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
            if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0) {
              FAIL("element " << i << ": " << got[i] << " for " << expected[i]);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("convert_rows begins inside a block where it is told to") {
  auto random = seeded(622);
  const auto d = open_cpu(1);
  for (const auto stored : weight_types()) {
    constexpr std::int64_t rows = 3, width = 512, first = 41, columns = 300;
    const stored_matrix matrix(stored, rows, width, random);
    const auto all = matrix.expanded();
    const auto memory = poisoned(*d, dtype::f32, rows, columns);
    cuda::convert_rows({matrix.data.data(), stored, rows, columns, row_bytes(stored, width), first},
                       {memory.data(), dtype::f32, columns, cuda::row_map::plain, 0}, nullptr);
    std::vector<float> right;
    for (std::int64_t r = 0; r < rows; ++r) {
      right.insert(right.end(), all.begin() + r * width + first,
                   all.begin() + r * width + first + columns);
    }
    check_same(std::string(info(stored).name), memory.values(), right, columns);
  }
}

TEST_CASE("make_up_rows gives made_up_value of the stored index") {
  const auto d = open_cpu(1);
  for (const auto& numbers :
       {made_up_weights{1, 0x1p-9F, 0}, made_up_weights{77, 0.013F, 1.7F}, made_up_weights{}}) {
    constexpr std::int64_t rows = 3, columns = 1500, stride = 70000, first = 9 * stride + 13;
    const auto memory = poisoned(*d, dtype::f32, rows, columns);
    cuda::make_up_rows({numbers, first, stride, rows, columns},
                       {memory.data(), dtype::f32, columns, cuda::row_map::plain, 0}, nullptr);
    std::vector<float> right;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        right.push_back(made_up_value(numbers, static_cast<std::uint64_t>(first + r * stride + c)));
      }
    }
    check_same("made up", memory.values(), right, columns);
  }
}
