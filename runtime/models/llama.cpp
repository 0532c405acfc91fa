// SPDX-License-Identifier: Apache-2.0
// The llama architecture (Touvron et al. 2023) with grouped-query attention: rms norms, rotary
// positions, gated MLP, no biases; the head may be the embedding. Tensor names are GGUF's.
#include "runtime/models/blocks.hpp"
#include "runtime/models/registry.hpp"
#include "runtime/models/weight_loader.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <utility>

namespace dinfer::runtime {
namespace {

constexpr const char* embedding_name = "token_embd.weight";
constexpr const char* head_name = "output.weight";
constexpr const char* head_norm_name = "output_norm.weight";

struct layer_weights {
  weight_ptr attention_norm, mlp_norm;
  attention_block attention;
  gated_mlp_block mlp;
};

class llama final : public model {
 public:
  llama(const model_shape& shape, const rank_layout& layout) : shape_(shape), layout_(layout) {}

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

  // Bytes of this rank in the file.
  result<std::uint64_t> measure(const weight_source& source);

 private:
  result<void> read(weight_loader& loader);
  result<void> read_layer(weight_loader& loader, std::int64_t index, layer_weights& layer) const;
  workspace::widths widths() const;
  kernels::norm_args norm(const weight_ptr& gain) const {
    return {kernels::norm_kind::rms, gain.get(), nullptr, shape_.norm_epsilon};
  }
  void embed(kernels::ops& ops, const forward_args& args) const;
  bool head_is_embedding() const { return shape_.tied_embeddings && layout_.first(); }

  model_shape shape_;
  rank_layout layout_;
  weight_ptr embedding_, head_, head_norm_;
  std::vector<layer_weights> layers_;
  kernels::buffer frequencies_;  // f32 [rotary / 2]
  workspace space_;
  std::uint64_t weight_bytes_ = 0, replicated_bytes_ = 0, workspace_bytes_ = 0;
};

std::vector<kv_group> llama::kv_groups() const {
  kv_group group;
  for (std::int64_t i = layout_.layers.begin; i < layout_.layers.end; ++i)
    group.layers.push_back(static_cast<std::int32_t>(i));
  group.kv_heads = static_cast<std::int32_t>(layout_.kv_heads.size());
  group.head_dim = shape_.head_dim;
  return {std::move(group)};
}

workspace::widths llama::widths() const {
  const std::int64_t query = layout_.query_heads.size() * shape_.head_dim;
  const std::int64_t kv = layout_.kv_heads.size() * shape_.head_dim;
  return {shape_.hidden, query + 2 * kv, query, layout_.mlp.size()};
}

result<void> llama::read_layer(weight_loader& loader, std::int64_t index,
                               layer_weights& layer) const {
  const std::string prefix = fmt::format("blk.{}.", index);
  DINFER_TRY(layer.attention_norm, loader.vector(prefix + "attn_norm.weight", shape_.hidden));
  DINFER_CHECK(layer.attention.load(loader, prefix + "attn", shape_, layout_));
  DINFER_TRY(layer.mlp_norm, loader.vector(prefix + "ffn_norm.weight", shape_.hidden));
  DINFER_CHECK(layer.mlp.load(loader, prefix + "ffn", shape_, layout_));
  return {};
}

result<void> llama::read(weight_loader& loader) {
  const auto vocabulary_part = [&](const char* name) {
    return std::array<row_part, 1>{{{name, shape_.vocabulary, shape_.hidden, layout_.vocabulary}}};
  };
  if (layout_.first()) {
    DINFER_TRY(embedding_,
               loader.rows(vocabulary_part(embedding_name), kernels::weight_role::embedding));
  }
  layers_.clear();
  for (std::int64_t i = layout_.layers.begin; i < layout_.layers.end; ++i)
    DINFER_CHECK(read_layer(loader, i, layers_.emplace_back()));
  if (!layout_.last()) return {};
  DINFER_TRY(head_norm_, loader.vector(head_norm_name, shape_.hidden));
  if (head_is_embedding()) return {};
  const char* name = shape_.tied_embeddings ? embedding_name : head_name;
  DINFER_TRY(head_, loader.rows(vocabulary_part(name), kernels::weight_role::matrix));
  return {};
}

result<std::uint64_t> llama::measure(const weight_source& source) {
  weight_loader loader(source);
  DINFER_CHECK(read(loader));
  return loader.stored_bytes();
}

result<void> llama::load(const weight_source& source, kernels::device& device,
                         const kernels::prepare_options& options, const load_progress& progress) {
  DINFER_TRY(const std::uint64_t total, measure(source));
  weight_loader loader(source, device, options, total, progress);
  DINFER_CHECK(read(loader));
  const std::size_t bytes = shape_.inverse_frequencies.size() * sizeof(float);
  frequencies_ = device.allocate(bytes, false);
  device.upload(frequencies_.data(), shape_.inverse_frequencies.data(), bytes);
  weight_bytes_ = loader.weight_bytes();
  replicated_bytes_ = loader.replicated_bytes();
  return {};
}

void llama::reserve(kernels::device& device, const forward_limits& limits) {
  kernels::step_limits step;
  step.tokens = limits.tokens;
  step.query_heads = static_cast<std::int32_t>(layout_.query_heads.size());
  step.kv_heads = static_cast<std::int32_t>(layout_.kv_heads.size());
  step.head_dim = shape_.head_dim;
  step.mlp = layout_.mlp.size();
  const kernels::dtype activation = device.traits().activation;
  space_.reserve(device, widths(), limits.tokens, limits.rows, activation);
  workspace_bytes_ = workspace::bytes(widths(), limits.tokens, limits.rows, activation) +
                     device.ops().reserve(step);
}

void llama::embed(kernels::ops& ops, const forward_args& args) const {
  kernels::embed_args look_up;
  look_up.ids = args.ids;
  look_up.table = embedding_.get();
  look_up.first_row = layout_.vocabulary.begin;
  look_up.out = args.hidden;
  ops.embed(look_up);
  // Every token is in the table of one rank; the others hold zeros.
  if (args.tp != nullptr) args.tp->all_reduce(args.hidden);
}

void llama::forward(kernels::device& device, const forward_args& args) {
  kernels::ops& ops = device.ops();
  const std::int64_t tokens = args.batch->tokens;
  if (layout_.first()) embed(ops, args);

  kernels::rope_args rope;
  rope.style = shape_.rope;
  rope.rotary = shape_.rotary;
  rope.inverse_frequencies =
      kernels::view(frequencies_.data(), kernels::dtype::f32, shape_.inverse_frequencies.size());
  attention_heads heads;
  heads.query = static_cast<std::int32_t>(layout_.query_heads.size());
  heads.kv = static_cast<std::int32_t>(layout_.kv_heads.size());
  heads.dim = shape_.head_dim;
  heads.scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim));

  kernels::add_norm_args sum;
  sum.tp = args.tp;
  sum.residual = args.hidden;
  sum.normed = space_.normed(tokens);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const layer_weights& layer = layers_[i];
    const kernels::norm_args attention_norm = norm(layer.attention_norm);
    sum.norm = &attention_norm;
    ops.add_norm(sum);
    layer.attention.run(ops, args, space_, heads, rope, layout_, static_cast<std::int32_t>(i));
    sum.partial = space_.partial(tokens);
    const kernels::norm_args mlp_norm = norm(layer.mlp_norm);
    sum.norm = &mlp_norm;
    ops.add_norm(sum);
    layer.mlp.run(ops, space_, tokens);
  }
  sum.norm = nullptr;
  ops.add_norm(sum);
}

void llama::head(kernels::device& device, const head_args& args) {
  kernels::ops& ops = device.ops();
  const std::int64_t rows = args.rows.elements();
  const kernels::tensor chosen = space_.chosen(rows);
  ops.gather_rows(args.hidden, args.rows, chosen);

  const kernels::norm_args final_norm = norm(head_norm_);
  kernels::add_norm_args normalise;
  normalise.residual = chosen;
  normalise.norm = &final_norm;
  normalise.normed = space_.chosen_normed(rows);
  ops.add_norm(normalise);

  kernels::linear_args project;
  project.x = space_.chosen_normed(rows);
  project.w = head_is_embedding() ? embedding_.get() : head_.get();
  project.out = args.logits;
  ops.linear(project);
}

std::unique_ptr<model> make(const model_shape& shape, const rank_layout& layout) {
  return std::make_unique<llama>(shape, layout);
}

result<std::uint64_t> rank_bytes(const model_shape& shape, const rank_layout& layout,
                                 const weight_source& source) {
  return llama(shape, layout).measure(source);
}

result<weight_estimate> estimate(const model_shape& shape, const weight_source& source) {
  weight_estimate sizes;
  for (std::int32_t i = 0; i < shape.layers; ++i)
    sizes.layer_bytes.push_back(stored_bytes_of(source, fmt::format("blk.{}.", i)));
  sizes.embedding_bytes = stored_bytes_of(source, embedding_name);
  sizes.head_bytes = stored_bytes_of(source, head_norm_name) +
                     stored_bytes_of(source, shape.tied_embeddings ? embedding_name : head_name);
  return sizes;
}

}  // namespace

const model_factory llama_factory{"llama", make, estimate, rank_bytes};

}  // namespace dinfer::runtime
