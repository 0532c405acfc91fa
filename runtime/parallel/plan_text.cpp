// SPDX-License-Identifier: Apache-2.0
// A placement as two tables: parts of the model, and bytes.
#include "runtime/parallel/memory_plan.hpp"
#include "runtime/parallel/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace dinfer::runtime {
namespace {

using row = std::vector<std::string>;

// "0-15", "7"; the end is not in it.
std::string span_text(range r) {
  return r.size() == 1 ? fmt::format("{}", r.begin) : fmt::format("{}-{}", r.begin, r.end - 1);
}

row rank_row(const placed_rank& rank, const cluster_config& config) {
  const rank_layout& layout = rank.layout;
  return {fmt::format("{}", layout.stage), fmt::format("{}", layout.rank),
          config.nodes.at(rank.node).name, rank.device,
          span_text(layout.layers),        span_text(layout.query_heads),
          span_text(layout.kv_heads)};
}

row memory_row(const placed_rank& rank) {
  const step_memory& steps = rank.steps;
  row out{fmt::format("{}", rank.layout.rank)};
  for (const std::uint64_t bytes :
       {rank.weight_bytes, steps.activations, steps.logits, steps.sampler, steps.workspace,
        steps.reserve, rank.cache_bytes, rank.weight_bytes + steps.sum() + rank.cache_bytes})
    out.push_back(bytes == 0 ? "-" : size_text(bytes));
  out.push_back(rank.budget_bytes == 0 ? "?" : size_text(rank.budget_bytes));
  return out;
}

std::string table(const std::vector<row>& rows) {
  std::vector<std::size_t> width(rows.front().size());
  for (const row& r : rows)
    for (std::size_t i = 0; i < r.size(); ++i) width[i] = std::max(width[i], r[i].size());
  std::string out;
  for (const row& r : rows) {
    std::string line;
    for (std::size_t i = 0; i < r.size(); ++i) line += fmt::format("{:<{}}  ", r[i], width[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace

std::string render_plan(const placement& plan, const cluster_config& config,
                        const model_shape& shape) {
  std::string out = fmt::format(
      "model: {} ({}), {} layers, {} heads, {} KV heads, vocabulary {}\n"
      "plan:  tensor_parallel_size = {}, pipeline_parallel_size = {}: {}\n",
      shape.name, shape.architecture, shape.layers, shape.heads, shape.kv_heads, shape.vocabulary,
      plan.tensor_parallel_size, plan.pipeline_parallel_size, plan.reason);
  std::vector<row> parts{{"stage", "rank", "node", "device", "layers", "heads", "kv heads"}};
  std::vector<row> memory{{"rank", "weights", "activations", "logits", "sampler", "workspace",
                           "reserve", "cache", "sum", "of"}};
  for (const placed_rank& rank : plan.ranks) {
    parts.push_back(rank_row(rank, config));
    memory.push_back(memory_row(rank));
  }
  out += table(parts) + table(memory);
  if (!plan.idle.empty()) out += fmt::format("idle: {}\n", fmt::join(plan.idle, ", "));
  return out + render_cache(plan.cache_blocks, plan.block_size, plan.max_model_len) + "\n";
}

std::string render_cache(std::uint64_t blocks, std::uint32_t block_size,
                         std::uint32_t max_model_len) {
  const std::uint64_t tokens = blocks * block_size;
  const double requests = static_cast<double>(tokens) / std::max<std::uint32_t>(max_model_len, 1);
  return fmt::format(
      "KV cache: {} blocks of {} tokens = {} tokens, {:.1f} concurrent requests of "
      "{} tokens",
      blocks, block_size, tokens, requests, max_model_len);
}

}  // namespace dinfer::runtime
