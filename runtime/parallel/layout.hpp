// SPDX-License-Identifier: Apache-2.0
// Which part of a model a rank holds. Pure arithmetic, the same on every node. Ranks are numbered
// stage by stage: rank = stage * tensor_parallel_size + tp_rank. Splits may be uneven: layers by
// bytes or as given; heads by head_rule; the MLP by blocks as they are stored (32 or 256 columns;
// 32 where there are too few of 256); the vocabulary by equal shards, the last one shorter. Shoeybi
// et al. 2019 (Megatron-LM), Huang et al. 2019 (GPipe).
#pragma once

#include "dinfer/error.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::runtime {

struct range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const noexcept { return end - begin; }
  bool operator==(const range&) const = default;
};

// Parts of `units` as equal as possible, the larger ones first.
range split_evenly(std::int64_t units, std::int32_t parts, std::int32_t index);

struct model_shape;  // runtime/models/model_config.hpp

struct rank_layout {
  std::int32_t rank = 0;
  std::int32_t stage = 0, stages = 1;
  std::int32_t tp_rank = 0, tp_size = 1;
  range layers;
  range query_heads, kv_heads;            // of every attention layer
  std::vector<std::int32_t> kv_of_query;  // local KV head that each local query head reads
  range mlp;                              // columns of gate and up, rows of down
  range vocabulary;                       // rows of the embedding and of the head
  bool first() const noexcept { return stage == 0; }
  bool last() const noexcept { return stage == stages - 1; }
};

// Layers per stage so that the heaviest stage is as light as it can be; `layer_bytes` per layer,
// `first_extra` and `last_extra` (embedding; norm and head) are counted where they lie. Every stage
// gets at least one layer.
std::vector<std::uint32_t> split_layers(std::span<const std::uint64_t> layer_bytes,
                                        std::uint64_t first_extra, std::uint64_t last_extra,
                                        std::uint32_t stages);

// Which heads a rank of a stage holds.
enum class head_rule : std::uint8_t {
  // Whole KV groups, or, where the heaviest rank has less to do then, query heads one by one, and a
  // KV head that two ranks read is held by both: all wait for the heaviest.
  lightest_rank,
  // Whole KV groups while there are enough: for ranks that help each other (kernels/neighbours.hpp)
  // it is the sum that counts.
  least_work,
};

// All ranks of a cluster. `layers_per_stage` sums to the model's layers. Errors: invalid_argument
// naming the key (tensor_parallel_size, pp_layers, ...) and what would fit.
result<std::vector<rank_layout>> lay_out(const model_shape& shape,
                                         std::uint32_t tensor_parallel_size,
                                         std::span<const std::uint32_t> layers_per_stage,
                                         head_rule heads = head_rule::lightest_rank);

// The ranks of the stage that `own` is one of, by tp_rank, each with all layers. Errors: those of
// lay_out; mismatch, when `own` was made for another model, whose tensors it would read past.
result<std::vector<rank_layout>> stage_of(const rank_layout& own, const model_shape& shape);

}  // namespace dinfer::runtime
