// SPDX-License-Identifier: Apache-2.0
// A tile is eight rows of one block of columns: what a word of AWQ's spans, and a cache line of
// GPTQ's words half of.
#include "runtime/weights/int4.hpp"

#include "kernels/cpu/half.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace dinfer::runtime {
namespace {

namespace cpu = kernels::cpu;
using kernels::dtype;

constexpr std::int64_t tile_rows = 8;
constexpr std::int64_t block = 32;
constexpr std::int64_t words_of_block = block / 8;
constexpr std::int64_t most_threads = 8;
constexpr std::int64_t blocks_of_thread = 1 << 14;  // that are worth one
// Where AWQ has the number of each row of a word.
constexpr std::array<int, tile_rows> awq_place{0, 4, 1, 5, 2, 6, 3, 7};

template <class T>
T load(std::span<const std::byte> from, std::int64_t index) noexcept {
  T value;
  std::memcpy(&value, from.data() + index * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

std::uint32_t word(std::span<const std::byte> words, std::int64_t index) noexcept {
  return load<std::uint32_t>(words, index);
}

// Number i of a word as byte i.
std::uint64_t spread(std::uint32_t numbers) noexcept {
  std::uint64_t x = numbers;
  x = (x | x << 16) & 0x0000FFFF0000FFFFULL;
  x = (x | x << 8) & 0x00FF00FF00FF00FFULL;
  return (x | x << 4) & 0x0F0F0F0F0F0F0F0FULL;
}

// The numbers of a block, in order.
using block_words = std::array<std::uint32_t, words_of_block>;
using tile = std::array<block_words, tile_rows>;

void read_tile(const int4_matrix& m, std::int64_t first_row, std::int64_t b, tile& out) {
  const std::int64_t rows = std::min(tile_rows, m.rows - first_row);
  if (m.order != int4_order::awq) {
    const bool by_row = m.order == int4_order::by_row;
    for (std::int64_t w = 0; w < words_of_block; ++w) {
      const std::int64_t column = b * words_of_block + w;
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t at =
            by_row ? (first_row + r) * (m.columns / 8) + column : column * m.rows + first_row + r;
        out[static_cast<std::size_t>(r)][static_cast<std::size_t>(w)] = word(m.words, at);
      }
    }
    return;
  }
  out = {};
  for (std::int64_t k = 0; k < block; ++k) {
    const std::uint32_t all = word(m.words, ((b * block + k) * m.rows + first_row) / 8);
    for (std::size_t r = 0; r < tile_rows; ++r)
      out[r][static_cast<std::size_t>(k / 8)] |= (all >> 4 * awq_place[r] & 15U) << k % 8 * 4;
  }
}

float scale_of(const int4_matrix& m, std::int64_t row, std::int64_t group) noexcept {
  const std::int64_t groups = m.columns / m.group;
  const std::int64_t at =
      m.order == int4_order::by_row ? row * groups + group : group * m.rows + row;
  if (m.scale_type == dtype::f32) return load<float>(m.scales, at);
  const auto half = load<std::uint16_t>(m.scales, at);
  return m.scale_type == dtype::f16 ? cpu::from_f16(half) : cpu::from_bf16(half);
}

std::uint32_t zero_of(const int4_matrix& m, std::int64_t row, std::int64_t group) noexcept {
  if (m.zeros.empty()) return 8;
  const std::int64_t groups = m.columns / m.group;
  const std::int64_t at =
      m.order == int4_order::by_row ? row / 8 * groups + group : group * (m.rows / 8) + row / 8;
  const auto i = static_cast<std::size_t>(row % 8);
  const int place = m.order == int4_order::awq ? awq_place[i] : static_cast<int>(i);
  const std::uint32_t stored = word(m.zeros, at) >> 4 * place & 15U;
  return m.zeros_less_one ? (stored + 1) & 15U : stored;
}

// d and m of a block, as they are stored; false: one of them is no number that fits.
bool scales_of_block(const int4_matrix& m, std::int64_t row, std::int64_t group,
                     std::array<std::uint16_t, 2>& out) noexcept {
  constexpr float largest = 65504;
  const float scale = scale_of(m, row, group);
  const float offset = -scale * static_cast<float>(zero_of(m, row, group));
  out = {cpu::to_f16(scale), cpu::to_f16(offset)};
  return scale > 0 && scale <= largest && std::isfinite(cpu::from_f16(out[1]));
}

void write_block(const block_words& words, const std::array<std::uint16_t, 2>& scales,
                 std::byte* out) {
  std::memcpy(out, scales.data(), 4);
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint64_t bytes = spread(words[half]) | spread(words[half + 2]) << 4;
    std::memcpy(out + 4 + 8 * half, &bytes, sizeof bytes);
  }
}

constexpr std::int64_t none = -1;

// One tile of eight rows, as many of them as are asked for; the number of a row whose scales do not
// fit, or none.
std::int64_t convert_tile(const int4_matrix& m, std::int64_t first_row, range rows, range blocks,
                          std::byte* out) {
  const std::int64_t bytes = kernels::info(dtype::q4_1).block_bytes;
  const std::int64_t begin = std::max(first_row, rows.begin);
  const std::int64_t end = std::min(first_row + tile_rows, rows.end);
  tile numbers{};
  std::array<std::array<std::uint16_t, 2>, tile_rows> scales{};
  std::int64_t group = none;
  for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
    const bool next = std::exchange(group, b * block / m.group) != b * block / m.group;
    read_tile(m, first_row, b, numbers);
    for (std::int64_t row = begin; row < end; ++row) {
      const auto r = static_cast<std::size_t>(row - first_row);
      if (next && !scales_of_block(m, row, group, scales[r])) return row;
      write_block(numbers[r], scales[r],
                  out + ((row - rows.begin) * blocks.size() + b - blocks.begin) * bytes);
    }
  }
  return none;
}

tl::unexpected<error> bad_scale(const int4_matrix& m, std::int64_t row) {
  std::array<std::uint16_t, 2> ignored{};
  std::int64_t group = 0;
  while (scales_of_block(m, row, group, ignored)) ++group;
  return fail(errc::bad_file,
              fmt::format("{}: tensor {}: the scale of row {}, group {} is {}; above 0 and in "
                          "16-bit floats' range, times its zero too, fits",
                          m.file, m.scales_name, row, group, scale_of(m, row, group)),
              m.scales_name);
}

}  // namespace

result<void> to_q4_1(const int4_matrix& matrix, range rows, range columns, std::byte* out) {
  DINFER_ASSERT(rows.begin >= 0 && rows.end <= matrix.rows && columns.end <= matrix.columns);
  DINFER_ASSERT(columns.begin >= 0 && columns.begin % block == 0 && columns.end % block == 0);
  const range blocks{columns.begin / block, columns.end / block};
  std::atomic<std::int64_t> next{rows.begin / tile_rows}, wrong{none};
  const std::int64_t tiles_end = (rows.end + tile_rows - 1) / tile_rows;
  const auto work = [&] {
    for (auto t = next.fetch_add(1); t < tiles_end && wrong == none; t = next.fetch_add(1)) {
      const std::int64_t row = convert_tile(matrix, t * tile_rows, rows, blocks, out);
      if (row != none) wrong = row;
    }
  };
  const std::int64_t cores = std::thread::hardware_concurrency();
  const std::int64_t worth = rows.size() * blocks.size() / blocks_of_thread;
  std::vector<std::jthread> others;
  try {
    for (std::int64_t i = 1; i < std::min({most_threads, cores, worth}); ++i)
      others.emplace_back(work);
  } catch (const std::system_error&) {  // those that run will do
  }
  work();
  others.clear();
  if (wrong != none) return bad_scale(matrix, wrong);
  return {};
}

}  // namespace dinfer::runtime
