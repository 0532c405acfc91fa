// SPDX-License-Identifier: Apache-2.0
// The sums behind a plan. A rank's share of a layer is its share of the layer's elements: exact
// when all matrices of a layer are stored alike, close otherwise.
#include "runtime/parallel/memory_plan.hpp"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <numeric>

namespace dinfer::runtime {
namespace {

// Elements of the attention and MLP matrices of one layer, of which `query` and `kv` heads and
// `mlp` columns are held.
double layer_elements(const model_shape& shape, std::int64_t query, std::int64_t kv,
                      std::int64_t mlp) noexcept {
  const auto attention = 2.0 * static_cast<double>(query + kv) * shape.head_dim;
  return (attention + 3.0 * static_cast<double>(mlp)) * shape.hidden;
}

std::uint64_t share(std::uint64_t bytes, double part, double whole) noexcept {
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(bytes) * part / whole));
}

}  // namespace

std::uint64_t planned_weight_bytes(const model_shape& shape, const rank_layout& layout,
                                   const weight_estimate& weights, bool dequantized) {
  const double whole = layer_elements(shape, shape.heads, shape.kv_heads, shape.mlp);
  const double part =
      layer_elements(shape, layout.query_heads.size(), layout.kv_heads.size(), layout.mlp.size());
  const std::uint64_t float_layer = static_cast<std::uint64_t>(whole) * sizeof(float);
  std::uint64_t layers = 0;
  for (auto i = layout.layers.begin; i < layout.layers.end; ++i)
    layers += dequantized ? float_layer : weights.layer_bytes.at(static_cast<std::size_t>(i));
  std::uint64_t bytes = share(layers, part, whole);

  const std::uint64_t float_table = static_cast<std::uint64_t>(shape.vocabulary) *
                                    static_cast<std::uint64_t>(shape.hidden) * sizeof(float);
  std::uint64_t tables = 0;
  if (layout.first()) tables += dequantized ? float_table : weights.embedding_bytes;
  // On a single stage a tied head is the embedding that is there already.
  const bool shared = shape.tied_embeddings && layout.first();
  if (layout.last() && !shared) tables += dequantized ? float_table : weights.head_bytes;
  bytes += share(tables, static_cast<double>(layout.vocabulary.size()), shape.vocabulary);
  return bytes;
}

std::uint64_t planned_workspace_bytes(const model_shape& shape, const rank_layout& layout,
                                      std::uint32_t tokens, std::uint32_t logit_rows,
                                      std::uint32_t element_bytes) {
  // Residual, normed and partial sums; query, key and value heads; attention's result; the MLP's.
  const std::int64_t heads = 2 * layout.query_heads.size() + 2 * layout.kv_heads.size();
  const std::int64_t token =
      3 * std::int64_t{shape.hidden} + heads * shape.head_dim + layout.mlp.size();
  std::uint64_t bytes = static_cast<std::uint64_t>(token) * tokens * element_bytes;
  if (layout.last()) {
    const std::int64_t row = layout.vocabulary.size() + 2 * std::int64_t{shape.hidden};
    bytes += static_cast<std::uint64_t>(row) * logit_rows * sizeof(float);
  }
  return bytes;
}

std::uint64_t planned_block_bytes(const model_shape& shape, const rank_layout& layout,
                                  std::uint32_t block_size, std::uint32_t element_bytes) {
  const std::int64_t vectors = 2 * layout.layers.size() * layout.kv_heads.size();
  return static_cast<std::uint64_t>(vectors * shape.head_dim) * block_size * element_bytes;
}

std::string size_text(std::uint64_t bytes) {
  static constexpr std::array<const char*, 5> units{"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (value >= 1023.95 && unit + 1 < units.size()) value /= 1024, ++unit;
  return fmt::format("{:.1f} {}", value, units[unit]);
}

}  // namespace dinfer::runtime
