// SPDX-License-Identifier: Apache-2.0
// GGUF metadata, key by key. Numbers of the file decide allocations and loops later on, so each has
// a range here; what would change the model's result and is not built is refused by name. Thread:
// the caller's.
#include "runtime/models/gguf_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace dinfer::runtime {
namespace {

tl::unexpected<error> refuse(const std::string& key, const std::string& why) {
  return fail(errc::bad_file, fmt::format("{}: {}", key, why), key);
}

// The factor by which all positions are divided; 1 without scaling.
result<double> read_linear_scaling(const gguf_keys& meta) {
  const std::string_view type = meta.text("rope.scaling.type").value_or("none");
  std::string_view key = "rope.scaling.factor";
  std::optional<double> factor = meta.number(key);
  if (meta.number("rope.scale_linear")) {  // how older files say it
    key = "rope.scale_linear";
    factor = meta.number(key);
  } else if (type == "none") {
    return 1.0;
  } else if (type != "linear") {
    return meta.unsupported("rope.scaling.type",
                            fmt::format("{} is not built; none and linear are", type));
  }
  if (!factor || *factor == 0) return 1.0;
  if (!(*factor > 0 && std::isfinite(*factor)))
    return meta.wrong(key, fmt::format("is {}; more than 0 fits", *factor));
  return *factor;
}

// Divides each frequency by the factor that the file has for it (Llama 3.1 and later).
result<void> apply_frequency_factors(const weight_source& source, model_shape& shape) {
  const std::string name = "rope_freqs.weight";
  const stored_tensor* factors = source.find(name);
  if (factors == nullptr) return {};
  const auto wanted = static_cast<std::int64_t>(shape.inverse_frequencies.size());
  if (factors->type != kernels::dtype::f32 || factors->shape != std::vector<std::int64_t>{wanted})
    return refuse(name, fmt::format("is not {} f32 values", wanted));
  for (std::size_t i = 0; i < shape.inverse_frequencies.size(); ++i) {
    float factor;
    std::memcpy(&factor, factors->data.data() + i * sizeof factor, sizeof factor);
    if (!(factor > 0 && std::isfinite(factor)))
      return refuse(name, fmt::format("value {} is {}; more than 0 fits", i, factor));
    shape.inverse_frequencies[i] /= factor;
  }
  return {};
}

result<void> read_gguf_eos(const weight_source& source, model_shape& shape) {
  for (const std::string key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                "tokenizer.ggml.eom_token_id"}) {
    const auto id = source.integer(key);
    if (!id && source.number(key)) return refuse(key, "is not an integer");
    if (!id) continue;
    if (*id < 0 || *id >= shape.vocabulary)
      return refuse(key, fmt::format("is {}; 0 to {} fits", *id, shape.vocabulary - 1));
    const auto token = static_cast<token_id>(*id);
    auto& eos = shape.eos_tokens;
    if (std::find(eos.begin(), eos.end(), token) == eos.end()) eos.push_back(token);
  }
  return {};
}

}  // namespace

tl::unexpected<error> gguf_keys::wrong(std::string_view key, const std::string& why) const {
  return refuse(full(key), why);
}

tl::unexpected<error> gguf_keys::unsupported(std::string_view key, const std::string& why) const {
  return fail(errc::unsupported, fmt::format("{}: {}", full(key), why), full(key));
}

bool gguf_keys::present(std::string_view key) const {
  const std::string name = full(key);
  return source_.number(name) || source_.boolean(name) || source_.text(name) ||
         source_.numbers(name) || source_.texts(name);
}

result<double> gguf_keys::number_or(std::string_view key, double otherwise) const {
  const auto value = number(key);
  if (!value && present(key)) return wrong(key, "is not a number");
  return value.value_or(otherwise);
}

result<std::optional<std::int64_t>> gguf_keys::uniform(std::string_view key) const {
  if (const auto one = source_.integer(full(key))) return one;
  const auto many = source_.integers(full(key));
  if ((!many || many->empty()) && present(key)) return wrong(key, "is not an integer");
  if (!many) return std::nullopt;
  if (std::any_of(many->begin(), many->end(), [&](auto v) { return v != many->front(); }))
    return unsupported(key, "differs from layer to layer");
  return many->front();
}

result<std::int32_t> gguf_keys::bounded(std::string_view key, std::int64_t least, std::int64_t most,
                                        std::optional<std::int64_t> otherwise) const {
  DINFER_TRY(auto value, uniform(key));
  if (!value) value = otherwise;
  if (!value) return wrong(key, "is missing");
  if (*value < least || *value > most)
    return wrong(key, fmt::format("is {}; {} to {} fits", *value, least, most));
  return static_cast<std::int32_t>(*value);
}

result<void> read_gguf_sizes(const gguf_keys& meta, std::string_view epsilon_key,
                             model_shape& shape) {
  DINFER_TRY(shape.layers, meta.bounded("block_count", 1, shape_limits::layers));
  DINFER_TRY(shape.hidden, meta.bounded("embedding_length", 1, shape_limits::width));
  DINFER_TRY(shape.mlp, meta.bounded("feed_forward_length", 1, shape_limits::width));
  DINFER_TRY(shape.max_positions, meta.bounded("context_length", 1, shape_limits::positions));
  const auto epsilon = meta.number(epsilon_key);
  if (!epsilon) return meta.wrong(epsilon_key, "is missing, or not a number");
  if (!(*epsilon >= 0 && *epsilon < 1))
    return meta.wrong(epsilon_key, fmt::format("is {}; 0 to 1 fits", *epsilon));
  shape.norm_epsilon = static_cast<float>(*epsilon);
  return {};
}

result<void> read_gguf_heads(const gguf_keys& meta, model_shape& shape) {
  DINFER_TRY(shape.heads, meta.bounded("attention.head_count", 1, shape_limits::heads));
  DINFER_TRY(shape.kv_heads,
             meta.bounded("attention.head_count_kv", 1, shape_limits::heads, shape.heads));
  if (shape.heads % shape.kv_heads != 0)
    return meta.wrong("attention.head_count_kv", fmt::format("{} KV heads do not divide {} heads",
                                                             shape.kv_heads, shape.heads));
  DINFER_TRY(const auto stated, meta.uniform("attention.key_length"));
  if (!stated && shape.hidden % shape.heads != 0)
    return meta.wrong("attention.head_count",
                      fmt::format("{} heads do not divide {}", shape.heads, shape.hidden));
  DINFER_TRY(shape.head_dim, meta.bounded("attention.key_length", 1, shape_limits::head_dim,
                                          shape.hidden / shape.heads));
  DINFER_TRY(const auto value_length,
             meta.bounded("attention.value_length", 1, shape_limits::head_dim, shape.head_dim));
  if (value_length != shape.head_dim)
    return meta.unsupported("attention.value_length", fmt::format("{} differs from key_length, {}",
                                                                  value_length, shape.head_dim));
  return {};
}

result<void> read_gguf_rope(const gguf_keys& meta, kernels::rope_style style, model_shape& shape) {
  shape.rope = style;
  DINFER_TRY(shape.rotary, meta.bounded("rope.dimension_count", 2, shape.head_dim, shape.head_dim));
  if (shape.rotary % 2 != 0)
    return meta.wrong("rope.dimension_count",
                      fmt::format("is {}; an even number fits", shape.rotary));
  DINFER_TRY(const double base, meta.number_or("rope.freq_base", 10000.0));
  if (!(base > 1 && std::isfinite(base)))
    return meta.wrong("rope.freq_base", fmt::format("is {}; more than 1 fits", base));
  DINFER_TRY(const double scale, read_linear_scaling(meta));
  for (std::int32_t i = 0; i < shape.rotary; i += 2)
    shape.inverse_frequencies.push_back(
        static_cast<float>(std::pow(base, -static_cast<double>(i) / shape.rotary) / scale));
  return apply_frequency_factors(meta.source(), shape);
}

result<void> read_gguf_vocabulary(const gguf_keys& meta, model_shape& shape) {
  const weight_source& source = meta.source();
  const std::string name = "token_embd.weight";
  const stored_tensor* table = source.find(name);
  if (table == nullptr) return refuse(name, "the tensor is missing");
  if (table->shape.size() != 2 || table->shape[1] != shape.hidden ||
      table->shape[0] > shape_limits::vocabulary)
    return refuse(name, fmt::format("has shape [{}]; [vocabulary, {}] fits",
                                    fmt::join(table->shape, ", "), shape.hidden));
  shape.vocabulary = static_cast<std::int32_t>(table->shape[0]);
  shape.tied_embeddings = source.find("output.weight") == nullptr;
  const auto tokens = source.texts("tokenizer.ggml.tokens");
  if (tokens && tokens->size() > static_cast<std::size_t>(shape.vocabulary))
    return refuse("tokenizer.ggml.tokens", fmt::format("has {} tokens; the embedding has {} rows",
                                                       tokens->size(), shape.vocabulary));
  return read_gguf_eos(source, shape);
}

result<void> refuse_gguf_variants(const gguf_keys& meta, model_shape& shape) {
  if (meta.number("expert_count").value_or(0) > 0)
    return meta.unsupported("expert_count", "mixture of experts is not built");
  if (!meta.boolean("attention.causal").value_or(true))
    return meta.unsupported("attention.causal", "only causal attention is built");
  for (const std::string_view key : {"logit_scale", "residual_scale", "embedding_scale",
                                     "attention.scale", "attention.clamp_kqv"})
    if (meta.number(key).value_or(0) != 0)
      return meta.unsupported(key, "is not built for " + shape.architecture);
  // Full attention is exact while no sequence is longer than the window.
  const double window = meta.number("attention.sliding_window").value_or(0);
  if (window >= 1 && window < shape.max_positions)
    shape.max_positions = static_cast<std::int32_t>(window);
  return {};
}

}  // namespace dinfer::runtime
