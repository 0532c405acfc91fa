// SPDX-License-Identifier: Apache-2.0
// The arithmetic of layout.hpp: which heads, columns, rows and layers a rank holds.
#include "runtime/parallel/layout.hpp"

#include "runtime/models/model_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

namespace dinfer::runtime {
namespace {

std::int64_t blocks_of(std::int64_t elements, std::int64_t block) noexcept {
  return (elements + block - 1) / block;
}

// Columns of the MLP that stay together: a block as it is stored, or 32 where those are too few.
std::int64_t mlp_unit(const model_shape& shape, std::int64_t tp) noexcept {
  constexpr std::int64_t smallest = 32;
  return tp <= blocks_of(shape.mlp, shape.mlp_block) ? shape.mlp_block : smallest;
}

// Query heads that share a KV head.
std::int32_t group_size(const model_shape& shape) noexcept { return shape.heads / shape.kv_heads; }

struct head_part {
  range query, kv;
};
using head_split = head_part (*)(const model_shape&, std::int32_t tp, std::int32_t rank);

// Whole KV groups; where there are more ranks than groups, ranks are dealt to KV heads as KV heads
// would be to ranks, and those of one KV head share its query heads.
head_part part_by_groups(const model_shape& shape, std::int32_t tp, std::int32_t rank) {
  const std::int32_t group = group_size(shape);
  if (tp <= shape.kv_heads) {
    const range kv = split_evenly(shape.kv_heads, tp, rank);
    return {{kv.begin * group, kv.end * group}, kv};
  }
  std::int32_t kv = 0;
  while (split_evenly(tp, shape.kv_heads, kv).end <= rank) ++kv;
  const range sharers = split_evenly(tp, shape.kv_heads, kv);
  const range part = split_evenly(group, static_cast<std::int32_t>(sharers.size()),
                                  static_cast<std::int32_t>(rank - sharers.begin));
  return {{kv * group + part.begin, kv * group + part.end}, {kv, kv + 1}};
}

// Query heads as evenly as they go, and every KV head that they read.
head_part part_by_queries(const model_shape& shape, std::int32_t tp, std::int32_t rank) {
  const std::int32_t group = group_size(shape);
  const range query = split_evenly(shape.heads, tp, rank);
  return {query, {query.begin / group, (query.end - 1) / group + 1}};
}

// Of the rank that holds most. A head's rows of the projections cost the same for queries, keys and
// values; a query head has as many columns of the output projection, a KV head its pages.
std::int64_t heaviest(const model_shape& shape, std::int32_t tp, head_split split) {
  std::int64_t most = 0;
  for (std::int32_t rank = 0; rank < tp; ++rank) {
    const head_part held = split(shape, tp, rank);
    most = std::max(most, held.query.size() + held.kv.size());
  }
  return most;
}

head_split split_of(const model_shape& shape, std::int32_t tp, head_rule rule) {
  const bool groups = rule == head_rule::least_work ||
                      heaviest(shape, tp, part_by_groups) <= heaviest(shape, tp, part_by_queries);
  return groups ? part_by_groups : part_by_queries;
}

void lay_out_heads(const model_shape& shape, head_split split, rank_layout& rank) {
  const head_part part = split(shape, rank.tp_size, rank.tp_rank);
  rank.query_heads = part.query;
  rank.kv_heads = part.kv;
  for (std::int64_t head = part.query.begin; head < part.query.end; ++head)
    rank.kv_of_query.push_back(static_cast<std::int32_t>(head / group_size(shape) - part.kv.begin));
}

void lay_out_mlp(const model_shape& shape, rank_layout& rank) {
  const std::int64_t unit = mlp_unit(shape, rank.tp_size);
  const range units = split_evenly(blocks_of(shape.mlp, unit), rank.tp_size, rank.tp_rank);
  rank.mlp = {units.begin * unit, std::min<std::int64_t>(units.end * unit, shape.mlp)};
}

void lay_out_vocabulary(const model_shape& shape, rank_layout& rank) {
  const std::int64_t shard = blocks_of(shape.vocabulary, rank.tp_size);
  rank.vocabulary = {rank.tp_rank * shard,
                     std::min<std::int64_t>((rank.tp_rank + 1) * shard, shape.vocabulary)};
}

// What keeps `tp` ranks from each having something to do; empty when nothing does.
std::string obstacle(const model_shape& shape, std::int64_t tp) {
  if (tp > shape.heads) return fmt::format("the model has {} attention heads", shape.heads);
  const std::int64_t unit = mlp_unit(shape, tp), units = blocks_of(shape.mlp, unit);
  if (tp > units)
    return fmt::format("the model's MLP has {} columns, {} blocks of {}", shape.mlp, units, unit);
  if ((tp - 1) * blocks_of(shape.vocabulary, tp) >= shape.vocabulary)
    return fmt::format("the model's vocabulary has {} rows", shape.vocabulary);
  return {};
}

result<void> check_tensor_parallel(const model_shape& shape, std::uint32_t size) {
  if (size == 0)
    return fail(errc::invalid_argument, "tensor_parallel_size = 0: at least 1",
                "tensor_parallel_size");
  const std::string why = obstacle(shape, size);
  if (why.empty()) return {};
  std::int64_t fits = std::min<std::int64_t>(size, shape.heads);
  while (fits > 1 && !obstacle(shape, fits).empty()) --fits;
  return fail(errc::invalid_argument,
              fmt::format("tensor_parallel_size = {}: {}; at most {}", size, why, fits),
              "tensor_parallel_size");
}

result<void> check_stages(const model_shape& shape, std::span<const std::uint32_t> layers) {
  const auto wrong = [&](const std::string& why) {
    return fail(errc::invalid_argument,
                fmt::format("pp_layers = [{}]: {}", fmt::join(layers, ", "), why), "pp_layers");
  };
  if (layers.empty()) return wrong("at least one stage");
  if (std::find(layers.begin(), layers.end(), 0U) != layers.end())
    return wrong("every stage holds at least one layer");
  const std::uint64_t sum = std::accumulate(layers.begin(), layers.end(), std::uint64_t{0});
  if (sum != static_cast<std::uint64_t>(shape.layers))
    return wrong(fmt::format("sums to {}; the model has {} layers", sum, shape.layers));
  return {};
}

bool lies_in(const rank_layout& own, const model_shape& shape) {
  return own.tp_rank >= 0 && own.tp_rank < own.tp_size && own.stage >= 0 &&
         own.stage < own.stages && own.layers.begin >= 0 && own.layers.begin < own.layers.end &&
         own.layers.end <= shape.layers;
}

bool same_parts(const rank_layout& a, const rank_layout& b) {
  return a.query_heads == b.query_heads && a.kv_heads == b.kv_heads &&
         a.kv_of_query == b.kv_of_query && a.mlp == b.mlp && a.vocabulary == b.vocabulary;
}

// cost[i]: heaviest stage when the first i layers are shared out over the stages so far.
class stage_search {
 public:
  stage_search(std::span<const std::uint64_t> layers, std::uint64_t first_extra,
               std::uint64_t last_extra, std::uint32_t stages)
      : first_extra_(first_extra), last_extra_(last_extra), stages_(stages), sums_{0} {
    for (const std::uint64_t bytes : layers) sums_.push_back(sums_.back() + bytes);
  }

  // The smallest possible weight of the heaviest stage.
  std::uint64_t lightest_maximum() const {
    return best<std::uint64_t>(
               [](std::uint64_t so_far, std::uint64_t stage) { return std::max(so_far, stage); })
        .first;
  }

  // Among the splits whose stages weigh `limit` at most, the most even one: least sum of squares.
  std::vector<std::uint32_t> most_even(std::uint64_t limit) const {
    return best<double>([limit](double so_far, std::uint64_t stage) {
             const auto weight = static_cast<double>(stage);
             return stage > limit ? std::numeric_limits<double>::infinity()
                                  : so_far + weight * weight;
           })
        .second;
  }

 private:
  std::uint64_t weight(std::uint32_t stage, std::size_t begin, std::size_t end) const {
    return sums_[end] - sums_[begin] + (stage == 0 ? first_extra_ : 0) +
           (stage + 1 == stages_ ? last_extra_ : 0);
  }

  // Dynamic programme over (stages, layers). `add(cost so far, weight of the next stage)` must not
  // fall when the cost so far rises.
  template <class Cost, class Add>
  std::pair<Cost, std::vector<std::uint32_t>> best(Add add) const {
    const std::size_t layers = sums_.size() - 1;
    const Cost worst = std::numeric_limits<Cost>::max();
    std::vector<std::vector<std::size_t>> cut(stages_, std::vector<std::size_t>(layers + 1, 0));
    std::vector<Cost> cost(layers + 1, worst);
    cost[0] = Cost{0};
    for (std::uint32_t stage = 0; stage < stages_; ++stage) {
      std::vector<Cost> next(layers + 1, worst);
      // Ties go to the earliest cut from the back: earlier stages hold the layer too many.
      for (std::size_t end = stage + 1; end <= layers; ++end)
        for (std::size_t begin = stage; begin < end; ++begin) {
          if (cost[begin] == worst) continue;
          const Cost candidate = add(cost[begin], weight(stage, begin, end));
          if (candidate > next[end] || (candidate == next[end] && next[end] == worst)) continue;
          next[end] = candidate;
          cut[stage][end] = begin;
        }
      cost = std::move(next);
    }
    std::vector<std::uint32_t> counts(stages_);
    std::size_t end = layers;
    for (std::uint32_t stage = stages_; stage-- > 0;) {
      counts[stage] = static_cast<std::uint32_t>(end - cut[stage][end]);
      end = cut[stage][end];
    }
    return {cost[layers], counts};
  }

  std::uint64_t first_extra_, last_extra_;
  std::uint32_t stages_;
  std::vector<std::uint64_t> sums_;  // sums_[i]: bytes of layers 0 .. i - 1
};

}  // namespace

range split_evenly(std::int64_t units, std::int32_t parts, std::int32_t index) {
  DINFER_ASSERT(units >= 0 && parts >= 1 && index >= 0 && index < parts);
  const std::int64_t each = units / parts;
  const std::int64_t larger = units % parts;  // parts that hold one more
  const std::int64_t begin = index * each + std::min<std::int64_t>(index, larger);
  return {begin, begin + each + (index < larger ? 1 : 0)};
}

std::vector<std::uint32_t> split_layers(std::span<const std::uint64_t> layer_bytes,
                                        std::uint64_t first_extra, std::uint64_t last_extra,
                                        std::uint32_t stages) {
  DINFER_ASSERT(stages >= 1 && stages <= layer_bytes.size());
  const stage_search search(layer_bytes, first_extra, last_extra, stages);
  return search.most_even(search.lightest_maximum());
}

result<std::vector<rank_layout>> lay_out(const model_shape& shape,
                                         std::uint32_t tensor_parallel_size,
                                         std::span<const std::uint32_t> layers_per_stage,
                                         head_rule rule) {
  DINFER_CHECK(check_tensor_parallel(shape, tensor_parallel_size));
  DINFER_CHECK(check_stages(shape, layers_per_stage));
  const head_split heads = split_of(shape, static_cast<std::int32_t>(tensor_parallel_size), rule);
  std::vector<rank_layout> ranks;
  std::int64_t first_layer = 0;
  for (std::size_t stage = 0; stage < layers_per_stage.size(); ++stage) {
    const range layers{first_layer, first_layer + layers_per_stage[stage]};
    for (std::uint32_t tp_rank = 0; tp_rank < tensor_parallel_size; ++tp_rank) {
      rank_layout rank;
      rank.rank = static_cast<std::int32_t>(ranks.size());
      rank.stage = static_cast<std::int32_t>(stage);
      rank.stages = static_cast<std::int32_t>(layers_per_stage.size());
      rank.tp_rank = static_cast<std::int32_t>(tp_rank);
      rank.tp_size = static_cast<std::int32_t>(tensor_parallel_size);
      rank.layers = layers;
      lay_out_heads(shape, heads, rank);
      lay_out_mlp(shape, rank);
      lay_out_vocabulary(shape, rank);
      ranks.push_back(std::move(rank));
    }
    first_layer = layers.end;
  }
  return ranks;
}

result<std::vector<rank_layout>> stage_of(const rank_layout& own, const model_shape& shape) {
  const auto layers = static_cast<std::uint32_t>(shape.layers);
  for (const head_rule rule : {head_rule::lightest_rank, head_rule::least_work}) {
    const auto tp = static_cast<std::uint32_t>(own.tp_size);
    DINFER_TRY(auto stage, lay_out(shape, tp, std::span(&layers, 1), rule));
    if (lies_in(own, shape) && same_parts(own, stage[static_cast<std::size_t>(own.tp_rank)]))
      return stage;
  }
  return fail(errc::mismatch,
              fmt::format("rank {}: its layout does not belong to model {}", own.rank, shape.name));
}

}  // namespace dinfer::runtime
