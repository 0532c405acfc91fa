// SPDX-License-Identifier: Apache-2.0
// A step's attention through the contract, on either device.
#pragma once

#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/kernels/cuda/paged_prompts.hpp"

namespace dinfer::tests {

// Of all tokens; [query heads * head_dim] each. `type`: of the device's activations, and of pages
// where the CPU has them or they are no 8-bit floats.
inline std::vector<float> attend(kernels::device& d, kernels::dtype type, const head_shape& w,
                                 const paged_step& s, std::int32_t decodes) {
  const std::int64_t tokens = s.tokens();
  const auto qkv = filled(d, type, s.qkv, tokens, w.qkv_columns());
  const auto pages = d.traits().host_memory ? type : w.page_type();
  const auto memory = filled(d, pages, s.memory, s.memory.size());
  const auto out = poisoned(d, type, tokens, w.out_columns());
  const auto positions = indices(d, s.positions), of = indices(d, s.token_sequence);
  const auto begin = indices(d, s.query_begin), context = indices(d, s.context);
  const auto rows = indices(d, s.table_rows);
  const auto table = indices(d, s.table, s.table_rows.size(), s.table_width);
  kernels::step_batch batch;
  batch.tokens = s.tokens();
  batch.sequences = static_cast<std::int32_t>(s.context.size());
  batch.decodes = decodes;
  batch.positions = positions;
  batch.token_sequence = of;
  batch.query_begin = begin;
  batch.context = context;
  batch.table_rows = rows;
  batch.block_table = table;
  std::vector<std::int32_t> kv_of_query;
  for (std::int32_t k = 0; k < w.kv_heads(); ++k) {
    kv_of_query.insert(kv_of_query.end(),
                       static_cast<std::size_t>(w.groups[static_cast<std::size_t>(k)]), k);
  }
  kernels::attention_args args;
  args.qkv = qkv;
  args.query_heads = w.query_heads();
  args.head_dim = w.head_dim;
  args.kv_of_query = kv_of_query;
  args.scale = w.scale();
  args.window = w.window;
  args.batch = &batch;
  args.pages = {memory.data(), pages, s.pages, s.layers, w.kv_heads(), w.block_size, w.head_dim};
  args.layer = s.layer;
  args.out = out;
  d.ops().attention(args);
  return out.values();
}

inline void reserve(kernels::device& d, const head_shape& w) {
  kernels::step_limits limits;
  limits.tokens = 8192;
  limits.query_heads = w.query_heads();
  limits.kv_heads = w.kv_heads();
  limits.head_dim = w.head_dim;
  d.ops().reserve(limits);
}

}  // namespace dinfer::tests
