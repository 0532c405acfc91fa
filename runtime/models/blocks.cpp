// SPDX-License-Identifier: Apache-2.0
// Attention and MLP of one rank, written against ops.hpp alone.
#include "runtime/models/blocks.hpp"

#include <array>
#include <cstddef>

namespace dinfer::runtime {
namespace {

constexpr std::uint64_t alignment = 64;

std::uint64_t matrix_bytes(std::int64_t rows, std::int64_t columns, kernels::dtype type) {
  const auto bytes = static_cast<std::uint64_t>(rows * kernels::row_bytes(type, columns));
  return (bytes + alignment - 1) / alignment * alignment;
}

range columns_of(const range& heads, std::int64_t head_dim) {
  return {heads.begin * head_dim, heads.end * head_dim};
}

}  // namespace

kernels::tensor first_rows(kernels::tensor matrix, std::int64_t rows) {
  DINFER_ASSERT(matrix.rank == 2 && rows <= matrix.shape[0]);
  matrix.shape[0] = rows;
  return matrix;
}

std::uint64_t workspace::bytes(const widths& w, std::int64_t tokens, std::int64_t rows,
                               kernels::dtype activation) {
  std::uint64_t sum = 0;
  for (const std::int64_t columns : {w.hidden, w.hidden, w.qkv, w.attended, w.mlp})
    sum += matrix_bytes(tokens, columns, activation);
  return sum + 2 * matrix_bytes(rows, w.hidden, activation);
}

void workspace::reserve(kernels::device& device, const widths& w, std::int64_t tokens,
                        std::int64_t rows, kernels::dtype activation) {
  memory_ = device.allocate(bytes(w, tokens, rows, activation), false);
  auto* next = static_cast<std::byte*>(memory_.data());
  const auto take = [&](std::int64_t n, std::int64_t columns) {
    kernels::tensor t = kernels::view(next, activation, n, columns);
    next += matrix_bytes(n, columns, activation);
    return t;
  };
  normed_ = take(tokens, w.hidden);
  partial_ = take(tokens, w.hidden);
  qkv_ = take(tokens, w.qkv);
  attended_ = take(tokens, w.attended);
  mlp_ = take(tokens, w.mlp);
  chosen_ = take(rows, w.hidden);
  chosen_normed_ = take(rows, w.hidden);
}

kernels::tensor workspace::cut(kernels::tensor whole, std::int64_t rows) {
  return first_rows(whole, rows);
}

result<void> attention_block::load(weight_loader& loader, const std::string& prefix,
                                   const model_shape& shape, const rank_layout& layout) {
  const std::int64_t dim = shape.head_dim;
  const std::int64_t kv_rows = shape.kv_heads * dim;
  const range query = columns_of(layout.query_heads, dim);
  const range kv = columns_of(layout.kv_heads, dim);
  const std::array<row_part, 3> parts{{
      {prefix + "_q.weight", shape.heads * dim, shape.hidden, query},
      {prefix + "_k.weight", kv_rows, shape.hidden, kv},
      {prefix + "_v.weight", kv_rows, shape.hidden, kv},
  }};
  DINFER_TRY(qkv_, loader.rows(parts, kernels::weight_role::matrix));
  DINFER_TRY(output_,
             loader.columns(prefix + "_output.weight", shape.hidden, shape.heads * dim, query));
  return {};
}

void attention_block::run(kernels::ops& ops, const forward_args& args, const workspace& space,
                          const attention_heads& heads, const kernels::rope_args& rope,
                          const rank_layout& layout, std::int32_t layer) const {
  const std::int64_t tokens = args.batch->tokens;
  const kernels::tensor qkv = space.qkv(tokens);
  const kernels::kv_pages& pages = args.pages.front();

  kernels::linear_args project;
  project.x = space.normed(tokens);
  project.w = qkv_.get();
  project.out = qkv;
  ops.linear(project);

  kernels::rope_store_args store;
  store.qkv = qkv;
  store.query_heads = heads.query;
  store.kv_heads = heads.kv;
  store.head_dim = heads.dim;
  store.rope = rope;
  store.batch = args.batch;
  store.pages = pages;
  store.layer = layer;
  ops.rope_store(store);

  kernels::attention_args attend;
  attend.qkv = qkv;
  attend.query_heads = heads.query;
  attend.head_dim = heads.dim;
  attend.kv_of_query = layout.kv_of_query;
  attend.scale = heads.scale;
  attend.window = heads.window;
  attend.batch = args.batch;
  attend.pages = pages;
  attend.layer = layer;
  attend.out = space.attended(tokens);
  ops.attention(attend);

  kernels::linear_args out;
  out.x = space.attended(tokens);
  out.w = output_.get();
  out.out = space.partial(tokens);
  ops.linear(out);
}

result<void> gated_mlp_block::load(weight_loader& loader, const std::string& prefix,
                                   const model_shape& shape, const rank_layout& layout) {
  const std::array<row_part, 2> parts{{
      {prefix + "_gate.weight", shape.mlp, shape.hidden, layout.mlp},
      {prefix + "_up.weight", shape.mlp, shape.hidden, layout.mlp},
  }};
  DINFER_TRY(gate_up_, loader.rows(parts, kernels::weight_role::gate_up));
  DINFER_TRY(down_, loader.columns(prefix + "_down.weight", shape.hidden, shape.mlp, layout.mlp));
  return {};
}

void gated_mlp_block::run(kernels::ops& ops, const workspace& space, std::int64_t tokens) const {
  kernels::linear_args widen;
  widen.x = space.normed(tokens);
  widen.w = gate_up_.get();
  widen.act = kernels::activation::swiglu;
  widen.out = space.mlp(tokens);
  ops.linear(widen);

  kernels::linear_args narrow;
  narrow.x = space.mlp(tokens);
  narrow.w = down_.get();
  narrow.out = space.partial(tokens);
  ops.linear(narrow);
}

}  // namespace dinfer::runtime
