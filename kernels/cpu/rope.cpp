// SPDX-License-Identifier: Apache-2.0
// rope_store of cpu_ops: turns queries and keys by their positions, and stores keys and values into
// their pages.
#include "dinfer/error.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/pages.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace dinfer::kernels::cpu {

namespace {

constexpr std::int64_t chunk_rows = 8;

void store_line(dtype type, const float* from, std::int32_t n, std::byte* to) {
  if (type == dtype::f32) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
    return;
  }
  for (std::int32_t i = 0; i < n; ++i) {
    const std::uint16_t h = type == dtype::f16 ? to_f16(from[i]) : to_bf16(from[i]);
    std::memcpy(to + 2 * i, &h, sizeof h);
  }
}

// Turns the pairs of one head; sines[2 i], sines[2 i + 1]: cosine and sine of pair i.
void rotate(const rope_args& rope, const float* sines, float* head) {
  const std::int32_t half = rope.rotary / 2;
  const bool apart = rope.style == rope_style::half;
  for (std::int32_t i = 0; i < half; ++i) {
    float& a = head[apart ? i : 2 * i];
    float& b = head[apart ? i + half : 2 * i + 1];
    const float cosine = sines[2 * i], sine = sines[2 * i + 1];
    const float turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
  }
}

// Keys and values of token `t`: all key heads, then all value heads.
void store(const rope_store_args& args, std::int64_t t, const float* keys) {
  const auto& pages = args.pages;
  const auto dim = args.head_dim;
  const auto position = args.batch->positions.as<std::int32_t>()[t];
  const auto* blocks = blocks_of(*args.batch, args.batch->token_sequence.as<std::int32_t>()[t]);
  const auto page = blocks[position / pages.block_size];
  const auto at = row_bytes(pages.type, std::int64_t{position % pages.block_size} * dim);
  for (std::int32_t h = 0; h < args.kv_heads; ++h) {
    const float* key = keys + static_cast<std::int64_t>(h) * dim;
    const float* value = key + static_cast<std::int64_t>(args.kv_heads) * dim;
    store_line(pages.type, key, dim, matrix(pages, page, args.layer, 0, h) + at);
    store_line(pages.type, value, dim, matrix(pages, page, args.layer, 1, h) + at);
  }
}

}  // namespace

const float* cpu_ops::angles_of(std::span<const std::int32_t> positions,
                                std::span<const float> frequencies) {
  auto& known = angles_;
  if (std::ranges::equal(positions, known.positions) &&
      std::ranges::equal(frequencies, known.frequencies)) {
    return known.values.data();
  }
  known.positions.clear();  // until the values are those of the new ones
  const auto width = 2 * frequencies.size();
  known.values.resize(positions.size() * width);
  for_rows({0, static_cast<std::int64_t>(positions.size())}, chunk_rows,
           [&](std::int64_t t, std::uint32_t) {
             const auto row = static_cast<std::size_t>(t);
             for (std::size_t i = 0; i < frequencies.size(); ++i) {
               const float angle = static_cast<float>(positions[row]) * frequencies[i];
               known.values[row * width + 2 * i] = std::cos(angle);
               known.values[row * width + 2 * i + 1] = std::sin(angle);
             }
           });
  known.frequencies.assign(frequencies.begin(), frequencies.end());
  known.positions.assign(positions.begin(), positions.end());
  return known.values.data();
}

void cpu_ops::rope_store(const rope_store_args& args) {
  const auto& batch = *args.batch;
  const auto& pages = args.pages;
  const auto dim = args.head_dim;
  const auto half = args.rope.style == rope_style::none ? 0 : args.rope.rotary / 2;
  const auto width = static_cast<std::int64_t>(args.query_heads + 2 * args.kv_heads) * dim;
  check_pages(pages, args.layer, dim);
  DINFER_ASSERT(is_f32(args.qkv) && args.qkv.columns() == width && pages.kv_heads == args.kv_heads);
  DINFER_ASSERT(2 * half <= dim);
  const auto* positions = batch.positions.as<std::int32_t>();
  const float* angles = nullptr;
  if (half > 0)
    angles = angles_of({positions, static_cast<std::size_t>(batch.tokens)},
                       {args.rope.inverse_frequencies.as<float>(), static_cast<std::size_t>(half)});
  for_rows({0, batch.tokens}, chunk_rows, [&](std::int64_t t, std::uint32_t) {
    float* row = args.qkv.as<float>() + t * width;
    for (std::int32_t h = 0; half > 0 && h < args.query_heads + args.kv_heads; ++h)
      rotate(args.rope, angles + 2 * half * t, row + static_cast<std::int64_t>(h) * dim);
    store(args, t, row + static_cast<std::int64_t>(args.query_heads) * dim);
  });
}

}  // namespace dinfer::kernels::cpu
