// SPDX-License-Identifier: Apache-2.0
// One rank's part of a decoder as a list of operations (Vaswani et al. 2017; norms first: Xiong et
// al. 2020; Llama: Touvron et al. 2023; OPT: Zhang et al. 2022). Tensor names are GGUF's. Thread:
// the shard's.
#include "runtime/models/decoder.hpp"

#include "runtime/models/blocks.hpp"
#include "runtime/models/weight_loader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace dinfer::runtime {
namespace {

constexpr const char* embedding_name = "token_embd.weight";
constexpr const char* embedding_in_name = "token_embd_in.weight";
constexpr const char* positions_name = "position_embd.weight";
constexpr const char* head_name = "output.weight";
constexpr const char* head_in_name = "output_proj.weight";
constexpr const char* head_norm_name = "output_norm";

struct layer_weights {
  norm_block attention_norm, mlp_norm;
  attention_block attention;
  mlp_block mlp;
};

class decoder final : public model {
 public:
  decoder(const model_shape& shape, const rank_layout& layout) : shape_(shape), layout_(layout) {}

  const model_shape& shape() const noexcept override { return shape_; }
  const rank_layout& layout() const noexcept override { return layout_; }
  std::vector<kv_group> kv_groups() const override;
  result<void> load(const weight_source& source, kernels::device& device,
                    const kernels::prepare_options& options,
                    const load_progress& progress) override;
  std::uint64_t weight_bytes() const noexcept override { return weight_bytes_; }
  std::uint64_t replicated_bytes() const noexcept override { return replicated_bytes_; }
  std::uint64_t workspace_bytes() const noexcept override { return workspace_bytes_; }
  void reserve(kernels::device& device, const forward_limits& limits) override;
  void forward(kernels::device& device, const forward_args& args) override;
  void head(kernels::device& device, const head_args& args) override;

  // Every tensor of this rank, from a loader of any kind.
  result<void> read(weight_loader& loader);

 private:
  result<void> read_embedding(weight_loader& loader);
  result<void> read_layer(weight_loader& loader, std::int64_t index, layer_weights& layer) const;
  result<void> read_head(weight_loader& loader);
  result<weight_ptr> read_table(weight_loader& loader, const char* name,
                                kernels::weight_role role) const;
  workspace::widths widths() const;
  attention_heads heads() const;
  kernels::rope_args rope() const;
  bool narrow() const { return shape_.table_columns() != shape_.hidden; }
  bool head_is_embedding() const { return shape_.tied_embeddings && layout_.first(); }
  void embed(kernels::ops& ops, const forward_args& args) const;

  model_shape shape_;
  rank_layout layout_;
  weight_ptr embedding_, embedding_in_, positions_, head_, head_in_;
  norm_block head_norm_;
  std::vector<layer_weights> layers_;
  kernels::buffer frequencies_;  // f32 [rotary / 2]
  workspace space_;
  std::uint64_t weight_bytes_ = 0, replicated_bytes_ = 0, workspace_bytes_ = 0;
};

std::vector<kv_group> decoder::kv_groups() const {
  kv_group group;
  for (std::int64_t i = layout_.layers.begin; i < layout_.layers.end; ++i)
    group.layers.push_back(static_cast<std::int32_t>(i));
  group.kv_heads = static_cast<std::int32_t>(layout_.kv_heads.size());
  group.head_dim = shape_.head_dim;
  return {std::move(group)};
}

workspace::widths decoder::widths() const {
  const std::int64_t query = layout_.query_heads.size() * shape_.head_dim;
  const std::int64_t kv = layout_.kv_heads.size() * shape_.head_dim;
  return {shape_.hidden, query + 2 * kv, query, layout_.mlp.size(),
          narrow() ? shape_.table_columns() : 0};
}

attention_heads decoder::heads() const {
  attention_heads heads;
  heads.query = static_cast<std::int32_t>(layout_.query_heads.size());
  heads.kv = static_cast<std::int32_t>(layout_.kv_heads.size());
  heads.dim = shape_.head_dim;
  heads.scale = shape_.attention_scale != 0 ? shape_.attention_scale
                                            : 1 / std::sqrt(static_cast<float>(shape_.head_dim));
  return heads;
}

kernels::rope_args decoder::rope() const {
  kernels::rope_args rope;
  rope.style = shape_.rope;
  rope.rotary = shape_.rotary;
  rope.inverse_frequencies =
      kernels::view(frequencies_.data(), kernels::dtype::f32, shape_.inverse_frequencies.size());
  return rope;
}

result<weight_ptr> decoder::read_table(weight_loader& loader, const char* name,
                                       kernels::weight_role role) const {
  const std::array<row_part, 1> part{
      {{name, shape_.vocabulary, shape_.table_columns(), layout_.vocabulary}}};
  return loader.rows(part, role);
}

result<void> decoder::read_embedding(weight_loader& loader) {
  DINFER_TRY(embedding_, read_table(loader, embedding_name, kernels::weight_role::embedding));
  const std::int64_t hidden = shape_.hidden;
  if (narrow()) {
    const std::int64_t columns = shape_.table_columns();
    DINFER_TRY(embedding_in_, loader.columns(embedding_in_name, hidden, columns, {0, columns}));
  }
  // One rank adds positions to what all of them sum up.
  if (!shape_.learnt_positions || layout_.tp_rank != 0) return {};
  const std::int64_t first = shape_.first_position, end = first + shape_.max_positions;
  const std::array<row_part, 1> part{{{positions_name, end, hidden, {first, end}}}};
  DINFER_TRY(positions_, loader.rows(part, kernels::weight_role::embedding));
  return {};
}

result<void> decoder::read_layer(weight_loader& loader, std::int64_t index,
                                 layer_weights& layer) const {
  const std::string prefix = fmt::format("blk.{}.", index);
  DINFER_CHECK(layer.attention_norm.load(loader, prefix + "attn_norm", shape_));
  DINFER_CHECK(layer.attention.load(loader, prefix + "attn", shape_, layout_));
  DINFER_CHECK(layer.mlp_norm.load(loader, prefix + "ffn_norm", shape_));
  return layer.mlp.load(loader, prefix + "ffn", shape_, layout_);
}

result<void> decoder::read_head(weight_loader& loader) {
  if (shape_.final_norm) DINFER_CHECK(head_norm_.load(loader, head_norm_name, shape_));
  if (narrow()) {
    DINFER_TRY(head_in_, loader.columns(head_in_name, shape_.table_columns(), shape_.hidden,
                                        {0, shape_.hidden}));
  }
  if (head_is_embedding()) return {};
  const char* name = shape_.tied_embeddings ? embedding_name : head_name;
  DINFER_TRY(head_, read_table(loader, name, kernels::weight_role::head));
  return {};
}

result<void> decoder::read(weight_loader& loader) {
  if (layout_.first()) DINFER_CHECK(read_embedding(loader));
  layers_.clear();
  for (std::int64_t i = layout_.layers.begin; i < layout_.layers.end; ++i)
    DINFER_CHECK(read_layer(loader, i, layers_.emplace_back()));
  if (layout_.last()) DINFER_CHECK(read_head(loader));
  return {};
}

result<void> decoder::load(const weight_source& source, kernels::device& device,
                           const kernels::prepare_options& options, const load_progress& progress) {
  DINFER_TRY(const std::uint64_t total, decoder_rank_bytes(shape_, layout_, source));
  weight_loader loader(source, device, options, total, progress);
  DINFER_CHECK(read(loader));
  const std::size_t bytes = shape_.inverse_frequencies.size() * sizeof(float);
  frequencies_ = device.allocate(bytes, false);
  device.upload(frequencies_.data(), shape_.inverse_frequencies.data(), bytes);
  weight_bytes_ = loader.weight_bytes();
  replicated_bytes_ = loader.replicated_bytes();
  return {};
}

void decoder::reserve(kernels::device& device, const forward_limits& limits) {
  kernels::step_limits step;
  step.tokens = limits.tokens;
  step.query_heads = static_cast<std::int32_t>(layout_.query_heads.size());
  step.kv_heads = static_cast<std::int32_t>(layout_.kv_heads.size());
  step.head_dim = shape_.head_dim;
  step.mlp = shape_.gated() ? layout_.mlp.size() : 0;
  const kernels::dtype activation = device.traits().activation;
  space_.reserve(device, widths(), limits.tokens, limits.rows, activation);
  workspace_bytes_ = workspace::bytes(widths(), limits.tokens, limits.rows, activation) +
                     device.ops().reserve(step);
}

// Every token is in the table of one rank; the others hold zeros, which stay zeros when projected.
void decoder::embed(kernels::ops& ops, const forward_args& args) const {
  const std::int64_t tokens = args.batch->tokens;
  kernels::embed_args look_up;
  look_up.ids = args.ids;
  look_up.table = embedding_.get();
  look_up.first_row = layout_.vocabulary.begin;
  look_up.out = narrow() ? space_.embedded(tokens) : args.hidden;
  if (!narrow()) look_up.position_table = positions_.get();
  look_up.positions = args.batch->positions;
  ops.embed(look_up);
  if (narrow()) {
    kernels::linear_args widen;
    widen.x = space_.embedded(tokens);
    widen.w = embedding_in_.get();
    widen.out = args.hidden;
    ops.linear(widen);
  }
  if (narrow() && positions_ != nullptr) {
    kernels::embed_args places;
    places.ids = args.batch->positions;
    places.table = positions_.get();
    places.out = space_.partial(tokens);
    ops.embed(places);
    kernels::add_norm_args sum;
    sum.partial = space_.partial(tokens);
    sum.residual = args.hidden;
    ops.add_norm(sum);
  }
  if (args.tp != nullptr) args.tp->all_reduce(args.hidden);
}

void decoder::forward(kernels::device& device, const forward_args& args) {
  kernels::ops& ops = device.ops();
  const std::int64_t tokens = args.batch->tokens;
  if (layout_.first()) embed(ops, args);

  // Norms first: a norm of the residual feeds each block. Norms after: it becomes the residual.
  const bool after = shape_.norm_after;
  const kernels::tensor x = after ? args.hidden : space_.normed(tokens);
  kernels::add_norm_args sum;
  sum.tp = args.tp;
  sum.residual = args.hidden;
  const auto add_and_norm = [&](const norm_block& block, const kernels::tensor& normed) {
    const kernels::norm_args norm = block.args(shape_);
    sum.norm = &norm;
    sum.normed = normed;
    ops.add_norm(sum);
  };
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const layer_weights& layer = layers_[i];
    const kernels::tensor attended = after ? x : layer.attention.input(ops, x);
    const kernels::tensor widened = after ? x : layer.mlp.input(ops, x);
    if (!after) add_and_norm(layer.attention_norm, attended);
    layer.attention.run(ops, args, attended, space_, heads(), rope(), layout_,
                        static_cast<std::int32_t>(i));
    sum.partial = space_.partial(tokens);
    add_and_norm(after ? layer.attention_norm : layer.mlp_norm, widened);
    layer.mlp.run(ops, widened, space_);
    if (after) add_and_norm(layer.mlp_norm, x);
  }
  if (after) return;
  sum.norm = nullptr;
  ops.add_norm(sum);
}

void decoder::head(kernels::device& device, const head_args& args) {
  kernels::ops& ops = device.ops();
  const std::int64_t rows = args.rows.elements();
  kernels::tensor x = space_.chosen(rows);
  ops.gather_rows(args.hidden, args.rows, x);

  if (shape_.final_norm) {
    const kernels::norm_args norm = head_norm_.args(shape_);
    kernels::add_norm_args normalise;
    normalise.residual = x;
    normalise.norm = &norm;
    normalise.normed = space_.chosen_normed(rows);
    ops.add_norm(normalise);
    x = space_.chosen_normed(rows);
  }
  kernels::linear_args project;
  if (narrow()) {
    project.x = x;
    project.w = head_in_.get();
    project.out = x = space_.embedded(rows);
    ops.linear(project);
  }
  project.x = x;
  project.w = head_is_embedding() ? embedding_.get() : head_.get();
  project.out = args.logits;
  ops.linear(project);
}

weight_sizes sizes_of(const model_shape& shape, const weight_source& source,
                      std::uint64_t (*bytes)(const stored_tensor&) noexcept) {
  weight_sizes sizes;
  for (std::int32_t i = 0; i < shape.layers; ++i)
    sizes.layer_bytes.push_back(bytes_of(source, fmt::format("blk.{}.", i), bytes));
  for (const char* name : {embedding_name, embedding_in_name, positions_name})
    sizes.embedding_bytes += bytes_of(source, name, bytes);
  for (const char* name :
       {head_norm_name, head_in_name, shape.tied_embeddings ? embedding_name : head_name})
    sizes.head_bytes += bytes_of(source, name, bytes);
  if (shape.tied_embeddings) sizes.tied_bytes = bytes_of(source, embedding_name, bytes);
  return sizes;
}

}  // namespace

std::unique_ptr<model> make_decoder(const model_shape& shape, const rank_layout& layout) {
  return std::make_unique<decoder>(shape, layout);
}

result<std::uint64_t> decoder_rank_bytes(const model_shape& shape, const rank_layout& layout,
                                         const weight_source& source) {
  weight_loader loader(source);
  DINFER_CHECK(decoder(shape, layout).read(loader));
  return loader.stored_bytes();
}

result<std::vector<model_tensor>> decoder_tensors(const model_shape& shape) {
  const auto layers = static_cast<std::uint32_t>(shape.layers);
  DINFER_TRY(const auto whole, lay_out(shape, 1, std::span(&layers, 1)));
  std::vector<model_tensor> list;
  weight_loader loader(list);
  DINFER_CHECK(decoder(shape, whole.front()).read(loader));
  return list;
}

result<weight_estimate> estimate_decoder(const model_shape& shape, const weight_source& source) {
  weight_estimate out;
  static_cast<weight_sizes&>(out) = sizes_of(shape, source, cpu_bytes);
  const auto& all = source.tensors();
  if (std::any_of(all.begin(), all.end(), [](const auto& t) { return quantised(t.type); }))
    out.packed = sizes_of(shape, source, packed_bytes);
  if (std::any_of(all.begin(), all.end(), [](const auto& t) { return f8_elements(t) != 0; }))
    out.f8_elements = sizes_of(shape, source, f8_elements).layer_bytes;
  return out;
}

}  // namespace dinfer::runtime
