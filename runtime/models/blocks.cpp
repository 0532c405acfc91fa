// SPDX-License-Identifier: Apache-2.0
// Norms, attention and MLP of one rank, written against ops.hpp alone. Thread: the shard's.
#include "runtime/models/blocks.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace dinfer::runtime {
namespace {

constexpr std::uint64_t alignment = 64;

std::uint64_t matrix_bytes(std::int64_t rows, std::int64_t columns, kernels::dtype type) {
  const auto bytes = static_cast<std::uint64_t>(rows * kernels::row_bytes(type, columns));
  return (bytes + alignment - 1) / alignment * alignment;
}

// Elements of some heads, `before` elements into a tensor.
range elements_of(const range& heads, std::int64_t head_dim, std::int64_t before = 0) {
  return {before + heads.begin * head_dim, before + heads.end * head_dim};
}

// The bias of a sum over ranks: one of them adds it.
result<weight_ptr> sum_bias(weight_loader& loader, bool wanted, const std::string& name,
                            const model_shape& shape, const rank_layout& layout) {
  if (!wanted || layout.tp_rank != 0) return nullptr;
  const std::array<row_part, 1> all{{{name, shape.hidden, 1, {0, shape.hidden}}}};
  return loader.vector_parts(all);
}

// The same parts of the biases that go with matrices.
template <std::size_t N>
std::array<row_part, N> biases_of(std::array<row_part, N> parts) {
  constexpr std::string_view weight = "weight";
  for (row_part& p : parts) p.name.replace(p.name.size() - weight.size(), weight.size(), "bias");
  return parts;
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
  sum += matrix_bytes(std::max(tokens, rows), w.table, activation);
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
  embedded_ = take(std::max(tokens, rows), w.table);
  chosen_ = take(rows, w.hidden);
  chosen_normed_ = take(rows, w.hidden);
}

kernels::tensor workspace::cut(kernels::tensor whole, std::int64_t rows) {
  return first_rows(whole, rows);
}

result<void> norm_block::load(weight_loader& loader, const std::string& prefix,
                              const model_shape& shape) {
  DINFER_TRY(gain_, loader.vector(prefix + ".weight", shape.hidden));
  if (shape.norm != kernels::norm_kind::layer) return {};
  DINFER_TRY(bias_, loader.vector(prefix + ".bias", shape.hidden));
  return {};
}

kernels::norm_args norm_block::args(const model_shape& shape) const {
  return {shape.norm, gain_.get(), bias_.get(), shape.norm_epsilon};
}

result<void> attention_block::load(weight_loader& loader, const std::string& prefix,
                                   const model_shape& shape, const rank_layout& layout) {
  const std::int64_t dim = shape.head_dim, hidden = shape.hidden;
  const std::int64_t q_rows = shape.heads * dim, kv_rows = shape.kv_heads * dim;
  const range query = elements_of(layout.query_heads, dim);
  std::array<row_part, 3> parts{{
      {prefix + "_q.weight", q_rows, hidden, query},
      {prefix + "_k.weight", kv_rows, hidden, elements_of(layout.kv_heads, dim)},
      {prefix + "_v.weight", kv_rows, hidden, elements_of(layout.kv_heads, dim)},
  }};
  if (shape.fused_qkv) {
    const std::string name = prefix + "_qkv.weight";
    const std::int64_t rows = q_rows + 2 * kv_rows;
    parts[0] = {name, rows, hidden, query};
    parts[1] = {name, rows, hidden, elements_of(layout.kv_heads, dim, q_rows)};
    parts[2] = {name, rows, hidden, elements_of(layout.kv_heads, dim, q_rows + kv_rows)};
  }
  DINFER_TRY(qkv_, loader.rows(parts, kernels::weight_role::matrix));
  if (shape.qkv_bias) {
    DINFER_TRY(qkv_bias_, loader.vector_parts(biases_of(parts)));
  }
  DINFER_TRY(output_, loader.columns(prefix + "_output.weight", hidden, q_rows, query));
  DINFER_TRY(output_bias_,
             sum_bias(loader, shape.output_bias, prefix + "_output.bias", shape, layout));
  return {};
}

void attention_block::run(kernels::ops& ops, const forward_args& args, kernels::tensor x,
                          const workspace& space, const attention_heads& heads,
                          const kernels::rope_args& rope, const rank_layout& layout,
                          std::int32_t layer) const {
  const std::int64_t tokens = args.batch->tokens;
  const kernels::tensor qkv = space.qkv(tokens);
  const kernels::kv_pages& pages = args.pages.front();

  kernels::linear_args project;
  project.x = x;
  project.w = qkv_.get();
  project.bias = qkv_bias_.get();
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
  out.bias = output_bias_.get();
  out.out = space.partial(tokens);
  ops.linear(out);
}

result<void> mlp_block::load(weight_loader& loader, const std::string& prefix,
                             const model_shape& shape, const rank_layout& layout) {
  activation_ = shape.activation;
  const row_part up{prefix + "_up.weight", shape.mlp, shape.hidden, layout.mlp};
  if (shape.gated()) {
    const std::array<row_part, 2> parts{
        {{prefix + "_gate.weight", shape.mlp, shape.hidden, layout.mlp}, up}};
    DINFER_TRY(up_, loader.rows(parts, kernels::weight_role::gate_up));
  } else {
    DINFER_TRY(up_, loader.rows(std::array<row_part, 1>{up}, kernels::weight_role::matrix));
  }
  if (shape.mlp_bias) {
    DINFER_TRY(up_bias_, loader.vector_parts(biases_of(std::array<row_part, 1>{up})));
  }
  DINFER_TRY(down_, loader.columns(prefix + "_down.weight", shape.hidden, shape.mlp, layout.mlp));
  DINFER_TRY(down_bias_, sum_bias(loader, shape.mlp_bias, prefix + "_down.bias", shape, layout));
  return {};
}

void mlp_block::run(kernels::ops& ops, kernels::tensor x, const workspace& space) const {
  const std::int64_t tokens = x.rows();
  kernels::tensor wide = space.mlp(tokens);
  if (activation_ == kernels::activation::swiglu)
    wide = ops.input_of(*down_, wide, kernels::producer::swiglu);
  kernels::linear_args widen;
  widen.x = x;
  widen.w = up_.get();
  widen.bias = up_bias_.get();
  widen.act = activation_;
  widen.out = wide;
  ops.linear(widen);

  kernels::linear_args narrow;
  narrow.x = wide;
  narrow.w = down_.get();
  narrow.bias = down_bias_.get();
  narrow.out = space.partial(tokens);
  ops.linear(narrow);
}

}  // namespace dinfer::runtime
