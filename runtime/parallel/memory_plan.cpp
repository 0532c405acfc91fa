// SPDX-License-Identifier: Apache-2.0
// The sums behind a plan. A rank's share of a layer is its share of the layer's elements: exact
// when all matrices of a layer are stored alike, close otherwise.
#include "runtime/parallel/memory_plan.hpp"

#include "kernels/cuda/packed_layout.hpp"
#include "runtime/base/config_defaults.hpp"

#include <fmt/core.h>

#include <algorithm>
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
  const double matrices = shape.gated() ? 3 : 2;
  return (attention + matrices * static_cast<double>(mlp)) * shape.hidden;
}

std::uint64_t share(std::uint64_t bytes, double part, double whole) noexcept {
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(bytes) * part / whole));
}

std::uint64_t product(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<std::uint64_t>(a * b);
}

// Elements of the embedding and what stands around it; of the head, without positions.
std::uint64_t table_elements(const model_shape& shape, bool positions) noexcept {
  const std::int64_t columns = shape.table_columns();
  std::uint64_t sum = product(shape.vocabulary, columns);
  if (columns != shape.hidden) sum += product(columns, shape.hidden);
  return positions ? sum + product(shape.max_positions, shape.hidden) : sum;
}

// Elements of the vectors of some layers: norms and biases.
std::uint64_t vector_elements(const model_shape& shape, std::int64_t layers, bool head) noexcept {
  const std::int64_t norm = shape.norm == kernels::norm_kind::layer ? 2 : 1;
  std::int64_t layer = 2 * norm * shape.hidden;
  if (shape.qkv_bias) layer += (std::int64_t{shape.heads} + 2 * shape.kv_heads) * shape.head_dim;
  if (shape.output_bias) layer += shape.hidden;
  if (shape.mlp_bias) layer += std::int64_t{shape.mlp} + shape.hidden;
  return product(layers, layer) + (head ? product(norm, shape.hidden) : 0);
}

// What the CUDA backend takes (kernels/cuda: ops.cpp, sampler.cpp), rounded up.
constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gemm_bytes = 96 * mib;         // a library's workspace: 1.5 L2 caches
constexpr std::uint64_t attention_bytes = 32 * mib;    // decoding merges its pieces there
constexpr std::uint64_t recording_bytes = 1024 * mib;  // model_runner.cpp keeps as much
constexpr std::uint64_t driver_bytes = 512 * mib;      // a context and its kernels
constexpr std::uint64_t group_bytes = 512 * mib;  // of each, NCCL's and ours; model_runner.cpp too
constexpr std::uint64_t slot_bytes = 16 << 10;    // biases, stop tokens, parameters
constexpr std::uint64_t drawn_row_bytes = 168;    // a token, 20 others and log-probabilities

// Of ranks that draw from parts of the vocabulary: candidates of 1024 rows, and 32 rows of logits
// as they are sent, received and put together.
std::uint64_t exchange_bytes(const model_shape& shape, const rank_layout& layout) {
  const std::int64_t ranks = layout.tp_size;
  const std::int64_t widest = (shape.vocabulary + ranks - 1) / ranks;
  return product(1 + ranks, 1024 * 8) +
         product((1 + ranks) * widest + shape.vocabulary, 32 * sizeof(float));
}

step_memory cuda_extras(const model_shape& shape, const rank_layout& layout,
                        const device_rules& rules) {
  step_memory out;
  out.workspace = gemm_bytes + attention_bytes;
  // Gate and up are one product of both before they become one.
  if (shape.gated())
    out.workspace +=
        product(2 * layout.mlp.size(), std::int64_t{rules.tokens} * rules.element_bytes);
  // What meets 8-bit floats is turned into them first, where what made it could not.
  if (rules.fp8 || rules.keeps_f8) {
    const std::int64_t widest = std::max({std::int64_t{shape.hidden}, layout.mlp.size(),
                                          layout.query_heads.size() * shape.head_dim});
    out.workspace += product(widest + std::int64_t{sizeof(float)}, rules.tokens);
  }
  // Packed weights are unpacked there for products of many rows.
  if (rules.packed) {
    const std::int64_t rows = std::max(layout.vocabulary.size(), 2 * layout.mlp.size());
    const std::uint64_t widest = product(rows * shape.hidden, rules.element_bytes);
    out.workspace += std::min<std::uint64_t>(widest, kernels::cuda::most_unpacked_bytes);
  }
  const std::uint64_t groups = (layout.tp_size > 1 ? 1 : 0) + (layout.stages > 1 ? 1 : 0);
  out.reserve = recording_bytes + driver_bytes + groups * group_bytes;
  if (!layout.first() && !layout.last()) return out;
  const std::uint64_t counts = 2 * static_cast<std::uint64_t>(shape.vocabulary);
  out.sampler = rules.sequences * (counts + slot_bytes) + rules.tokens * drawn_row_bytes;
  if (layout.last() && layout.tp_size > 1) out.sampler += exchange_bytes(shape, layout);
  return out;
}

}  // namespace

device_rules rules_for(const cluster_config& config, const model_shape& shape,
                       const weight_estimate& weights) {
  device_rules out;
  out.cuda = on_cuda(config);
  out.element_bytes = static_cast<std::uint32_t>(kernels::row_bytes(activation_type(config), 1));
  out.page_bytes = static_cast<std::uint32_t>(
      kernels::row_bytes(page_type(config.cache.kv_cache_dtype, activation_type(config)), 1));
  // A GPU holds weights in the type that it computes in, but for what it packs.
  if (out.cuda) out.matrix_bytes = out.element_bytes;
  else if (config.model.dequantize) out.matrix_bytes = sizeof(float);
  out.fp8 = config.model.quantization == quantization_choice::fp8;
  out.keeps_f8 = out.cuda && !config.model.dequantize && !weights.f8_elements.empty();
  out.packed = out.cuda && out.element_bytes == 2 && !out.fp8 && !config.model.dequantize &&
               !weights.packed.layer_bytes.empty();
  out.block_size = config.cache.block_size != 0 ? config.cache.block_size : out.cuda ? 32 : 16;
  out.tokens = batched_tokens(config);
  out.sequences = config.scheduler.max_num_seqs;
  out.max_model_len = config.model.max_model_len != 0
                          ? config.model.max_model_len
                          : static_cast<std::uint32_t>(shape.max_positions);
  return out;
}

std::uint64_t planned_weight_bytes(const model_shape& shape, const rank_layout& layout,
                                   const weight_estimate& estimate, const device_rules& rules) {
  const double whole = layer_elements(shape, shape.heads, shape.kv_heads, shape.mlp);
  const double part =
      layer_elements(shape, layout.query_heads.size(), layout.kv_heads.size(), layout.mlp.size());
  const bool stored = rules.matrix_bytes == 0 || rules.packed;
  const weight_sizes& weights = rules.packed ? estimate.packed : estimate;
  // A scale for every row of 8-bit floats is a thousandth of them.
  const std::uint64_t layer =
      static_cast<std::uint64_t>(whole) * (rules.fp8 ? 1 : rules.matrix_bytes);
  std::uint64_t layers = 0;
  for (auto i = layout.layers.begin; i < layout.layers.end; ++i) {
    const auto at = static_cast<std::size_t>(i);
    layers += stored ? weights.layer_bytes.at(at) : layer;
    if (rules.keeps_f8 && !rules.fp8)
      layers -= std::min(layer, estimate.f8_elements.at(at) * (rules.matrix_bytes - 1));
  }
  std::uint64_t bytes = share(layers, part, whole);

  const std::uint64_t table = table_elements(shape, false) * rules.matrix_bytes;
  std::uint64_t tables = 0;
  if (layout.first())
    tables += stored ? weights.embedding_bytes
                     : table_elements(shape, shape.learnt_positions) * rules.matrix_bytes;
  if (layout.last()) {
    // On a single stage a tied head is the embedding that is there already.
    const bool shared = shape.tied_embeddings && layout.first();
    const std::uint64_t twice =
        stored ? weights.tied_bytes
               : product(shape.vocabulary, shape.table_columns()) * rules.matrix_bytes;
    tables += (stored ? weights.head_bytes : table) - (shared ? twice : 0);
  }
  bytes += share(tables, static_cast<double>(layout.vocabulary.size()), shape.vocabulary);
  if (stored) return bytes;
  // Vectors stay f32, and most of them are the same on every rank.
  return bytes + vector_elements(shape, layout.layers.size(), layout.last()) * sizeof(float);
}

step_memory planned_step_memory(const model_shape& shape, const rank_layout& layout,
                                const device_rules& rules) {
  step_memory out = rules.cuda ? cuda_extras(shape, layout, rules) : step_memory{};
  // Residual, normed and partial sums; query, key and value heads; attention's result; the MLP's.
  const std::int64_t heads = 2 * layout.query_heads.size() + 2 * layout.kv_heads.size();
  const std::int64_t token =
      3 * std::int64_t{shape.hidden} + heads * shape.head_dim + layout.mlp.size();
  std::int64_t elements = token * rules.tokens;
  if (shape.table_columns() != shape.hidden)
    elements += std::int64_t{shape.table_columns()} * std::max(rules.tokens, rules.sequences);
  if (layout.last()) {
    // Rows that logits are wanted of, and the same normed.
    elements += 2 * std::int64_t{shape.hidden} * rules.sequences;
    out.logits = product(layout.vocabulary.size(), rules.sequences) * sizeof(float);
  }
  out.activations = product(elements, rules.element_bytes);
  return out;
}

std::uint64_t planned_block_bytes(const model_shape& shape, const rank_layout& layout,
                                  const device_rules& rules) {
  const std::int64_t vectors = 2 * layout.layers.size() * layout.kv_heads.size();
  return product(vectors * shape.head_dim, std::int64_t{rules.block_size} * rules.page_bytes);
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
