// SPDX-License-Identifier: Apache-2.0
// GGUF metadata to a model_shape; a config.json has its own reader. Numbers of the file decide
// allocations and loops later on, so each has a range here; what would change the model's result
// and is not built is refused by name.
#include "runtime/models/model_config.hpp"

#include "runtime/models/config_json.hpp"
#include "runtime/weights/random_source.hpp"
#include "runtime/weights/source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>

namespace dinfer::runtime {
namespace {

tl::unexpected<error> wrong(const std::string& key, const std::string& why) {
  return fail(errc::bad_file, fmt::format("{}: {}", key, why), key);
}

// The metadata of one architecture: keys are given without its prefix.
class keys {
 public:
  keys(const weight_source& source, std::string_view architecture)
      : source_(source), prefix_(std::string(architecture) + ".") {}

  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  std::optional<double> number(std::string_view key) const { return source_.number(full(key)); }
  std::optional<std::string_view> text(std::string_view key) const {
    return source_.text(full(key));
  }
  std::optional<bool> boolean(std::string_view key) const { return source_.boolean(full(key)); }

  // Whether the key stands there with any value that could have been meant.
  bool present(std::string_view key) const {
    const std::string name = full(key);
    return source_.number(name) || source_.boolean(name) || source_.text(name) ||
           source_.numbers(name) || source_.texts(name);
  }

  // A number. `otherwise` only where the key is absent: one of another type is refused.
  result<double> number_or(std::string_view key, double otherwise) const {
    const auto value = number(key);
    if (!value && present(key)) return wrong(full(key), "is not a number");
    return value.value_or(otherwise);
  }

  // An integer, or an array of one value for all layers. nullopt: absent.
  result<std::optional<std::int64_t>> uniform(std::string_view key) const {
    if (const auto one = source_.integer(full(key))) return one;
    const auto many = source_.integers(full(key));
    if ((!many || many->empty()) && present(key)) return wrong(full(key), "is not an integer");
    if (!many) return std::nullopt;
    if (std::any_of(many->begin(), many->end(), [&](auto v) { return v != many->front(); }))
      return fail(errc::unsupported, full(key) + ": differs from layer to layer", full(key));
    return many->front();
  }

  // An integer from `least` to `most`; absent: `otherwise`, or an error without one.
  result<std::int32_t> bounded(std::string_view key, std::int64_t least, std::int64_t most,
                               std::optional<std::int64_t> otherwise = {}) const {
    DINFER_TRY(auto value, uniform(key));
    if (!value) value = otherwise;
    if (!value) return wrong(full(key), "is missing");
    if (*value < least || *value > most)
      return wrong(full(key), fmt::format("is {}; {} to {} fits", *value, least, most));
    return static_cast<std::int32_t>(*value);
  }

 private:
  const weight_source& source_;
  std::string prefix_;
};

result<void> read_sizes(const keys& meta, model_shape& shape) {
  DINFER_TRY(shape.layers, meta.bounded("block_count", 1, shape_limits::layers));
  DINFER_TRY(shape.hidden, meta.bounded("embedding_length", 1, shape_limits::width));
  DINFER_TRY(shape.mlp, meta.bounded("feed_forward_length", 1, shape_limits::width));
  DINFER_TRY(shape.max_positions, meta.bounded("context_length", 1, shape_limits::positions));
  const auto epsilon = meta.number("attention.layer_norm_rms_epsilon");
  const std::string key = meta.full("attention.layer_norm_rms_epsilon");
  if (!epsilon) return wrong(key, "is missing, or not a number");
  if (!(*epsilon >= 0 && *epsilon < 1))
    return wrong(key, fmt::format("is {}; 0 to 1 fits", *epsilon));
  shape.norm_epsilon = static_cast<float>(*epsilon);
  return {};
}

result<void> read_heads(const keys& meta, model_shape& shape) {
  DINFER_TRY(shape.heads, meta.bounded("attention.head_count", 1, shape_limits::heads));
  DINFER_TRY(shape.kv_heads,
             meta.bounded("attention.head_count_kv", 1, shape_limits::heads, shape.heads));
  if (shape.heads % shape.kv_heads != 0)
    return wrong(meta.full("attention.head_count_kv"),
                 fmt::format("{} KV heads do not divide {} heads", shape.kv_heads, shape.heads));
  DINFER_TRY(const auto stated, meta.uniform("attention.key_length"));
  if (!stated && shape.hidden % shape.heads != 0)
    return wrong(meta.full("attention.head_count"),
                 fmt::format("{} heads do not divide {}", shape.heads, shape.hidden));
  DINFER_TRY(shape.head_dim, meta.bounded("attention.key_length", 1, shape_limits::head_dim,
                                          shape.hidden / shape.heads));
  DINFER_TRY(const auto value_length,
             meta.bounded("attention.value_length", 1, shape_limits::head_dim, shape.head_dim));
  if (value_length != shape.head_dim)
    return fail(errc::unsupported,
                fmt::format("{}: {} differs from key_length, {}",
                            meta.full("attention.value_length"), value_length, shape.head_dim),
                meta.full("attention.value_length"));
  return {};
}

// The factor by which all positions are divided; 1 without scaling.
result<double> read_linear_scaling(const keys& meta) {
  const std::string_view type = meta.text("rope.scaling.type").value_or("none");
  std::string_view key = "rope.scaling.factor";
  std::optional<double> factor = meta.number(key);
  if (meta.number("rope.scale_linear")) {  // how older files say it
    key = "rope.scale_linear";
    factor = meta.number(key);
  } else if (type == "none") {
    return 1.0;
  } else if (type != "linear") {
    return fail(errc::unsupported,
                fmt::format("{}: {} is not built; none and linear are",
                            meta.full("rope.scaling.type"), type),
                meta.full("rope.scaling.type"));
  }
  if (!factor || *factor == 0) return 1.0;
  if (!(*factor > 0 && std::isfinite(*factor)))
    return wrong(meta.full(key), fmt::format("is {}; more than 0 fits", *factor));
  return *factor;
}

// Divides each frequency by the factor that the file has for it (Llama 3.1 and later).
result<void> apply_frequency_factors(const weight_source& source, model_shape& shape) {
  const std::string name = "rope_freqs.weight";
  const stored_tensor* factors = source.find(name);
  if (factors == nullptr) return {};
  const auto wanted = static_cast<std::int64_t>(shape.inverse_frequencies.size());
  if (factors->type != kernels::dtype::f32 || factors->shape != std::vector<std::int64_t>{wanted})
    return wrong(name, fmt::format("is not {} f32 values", wanted));
  for (std::size_t i = 0; i < shape.inverse_frequencies.size(); ++i) {
    float factor;
    std::memcpy(&factor, factors->data.data() + i * sizeof factor, sizeof factor);
    if (!(factor > 0 && std::isfinite(factor)))
      return wrong(name, fmt::format("value {} is {}; more than 0 fits", i, factor));
    shape.inverse_frequencies[i] /= factor;
  }
  return {};
}

result<void> read_rope(const weight_source& source, const keys& meta, model_shape& shape) {
  // Query and key rows of a GGUF llama are permuted so that pairs lie side by side.
  shape.rope = kernels::rope_style::interleaved;
  DINFER_TRY(shape.rotary, meta.bounded("rope.dimension_count", 2, shape.head_dim, shape.head_dim));
  if (shape.rotary % 2 != 0)
    return wrong(meta.full("rope.dimension_count"),
                 fmt::format("is {}; an even number fits", shape.rotary));
  DINFER_TRY(const double base, meta.number_or("rope.freq_base", 10000.0));
  if (!(base > 1 && std::isfinite(base)))
    return wrong(meta.full("rope.freq_base"), fmt::format("is {}; more than 1 fits", base));
  DINFER_TRY(const double scale, read_linear_scaling(meta));
  for (std::int32_t i = 0; i < shape.rotary; i += 2)
    shape.inverse_frequencies.push_back(
        static_cast<float>(std::pow(base, -static_cast<double>(i) / shape.rotary) / scale));
  return apply_frequency_factors(source, shape);
}

result<void> read_vocabulary(const weight_source& source, model_shape& shape) {
  const std::string name = "token_embd.weight";
  const stored_tensor* table = source.find(name);
  if (table == nullptr) return wrong(name, "the tensor is missing");
  if (table->shape.size() != 2 || table->shape[1] != shape.hidden ||
      table->shape[0] > shape_limits::vocabulary)
    return wrong(name, fmt::format("has shape [{}]; [vocabulary, {}] fits",
                                   fmt::join(table->shape, ", "), shape.hidden));
  shape.vocabulary = static_cast<std::int32_t>(table->shape[0]);
  shape.tied_embeddings = source.find("output.weight") == nullptr;
  const auto tokens = source.texts("tokenizer.ggml.tokens");
  if (tokens && tokens->size() > static_cast<std::size_t>(shape.vocabulary))
    return wrong("tokenizer.ggml.tokens", fmt::format("has {} tokens; the embedding has {} rows",
                                                      tokens->size(), shape.vocabulary));
  for (const std::string key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                "tokenizer.ggml.eom_token_id"}) {
    const auto id = source.integer(key);
    if (!id && source.number(key)) return wrong(key, "is not an integer");
    if (!id) continue;
    if (*id < 0 || *id >= shape.vocabulary)
      return wrong(key, fmt::format("is {}; 0 to {} fits", *id, shape.vocabulary - 1));
    const auto token = static_cast<token_id>(*id);
    auto& eos = shape.eos_tokens;
    if (std::find(eos.begin(), eos.end(), token) == eos.end()) eos.push_back(token);
  }
  return {};
}

// Variants that share this architecture's name and compute something else.
result<void> refuse_variants(const keys& meta, model_shape& shape) {
  const auto refuse = [&](std::string_view key, const std::string& what) {
    return fail(errc::unsupported, fmt::format("{}: {}", meta.full(key), what), meta.full(key));
  };
  if (meta.number("expert_count").value_or(0) > 0)
    return refuse("expert_count", "mixture of experts is not built");
  if (!meta.boolean("attention.causal").value_or(true))
    return refuse("attention.causal", "only causal attention is built");
  for (const std::string_view key : {"logit_scale", "residual_scale", "embedding_scale",
                                     "attention.scale", "attention.clamp_kqv"})
    if (meta.number(key).value_or(0) != 0) return refuse(key, "is not built for llama");
  // Full attention is exact while no sequence is longer than the window.
  const double window = meta.number("attention.sliding_window").value_or(0);
  if (window >= 1 && window < shape.max_positions)
    shape.max_positions = static_cast<std::int32_t>(window);
  return {};
}

// A tensor that no part of a llama reads would be a silent difference from the model that was
// meant.
result<void> refuse_unknown_tensors(const weight_source& source) {
  static constexpr std::array<std::string_view, 4> of_model{
      "token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"};
  static constexpr std::array<std::string_view, 9> of_layer{
      "attn_norm.weight", "attn_q.weight",      "attn_k.weight",
      "attn_v.weight",    "attn_output.weight", "ffn_norm.weight",
      "ffn_gate.weight",  "ffn_up.weight",      "ffn_down.weight"};
  for (const stored_tensor& tensor : source.tensors()) {
    const std::string_view name = tensor.name;
    if (std::find(of_model.begin(), of_model.end(), name) != of_model.end()) continue;
    const std::size_t dot = name.starts_with("blk.") ? name.find('.', 4) : name.npos;
    const std::string_view part = dot == name.npos ? "" : name.substr(dot + 1);
    if (std::find(of_layer.begin(), of_layer.end(), part) != of_layer.end()) continue;
    return fail(errc::unsupported, fmt::format("tensor {}: is not part of a llama model", name),
                tensor.name);
  }
  return {};
}

result<void> read_llama(const weight_source& source, model_shape& shape) {
  const keys meta(source, shape.architecture);
  DINFER_CHECK(read_sizes(meta, shape));
  DINFER_CHECK(refuse_variants(meta, shape));
  DINFER_CHECK(refuse_unknown_tensors(source));
  DINFER_CHECK(read_heads(meta, shape));
  DINFER_CHECK(read_rope(source, meta, shape));
  return read_vocabulary(source, shape);
}

struct architecture {
  std::string_view name;
  result<void> (*read)(const weight_source& source, model_shape& shape);
};
constexpr std::array<architecture, 1> architectures{{{"llama", read_llama}}};

}  // namespace

result<model_shape> read_model_shape(const weight_source& source) {
  if (source.format() == config_json_key)
    return parse_config_json(source.text(config_json_key).value_or(""),
                             std::string(config_json_key),
                             std::string(source.text(model_name_key).value_or("")));
  const auto name = source.text("general.architecture");
  if (!name) return wrong("general.architecture", "is missing or not a string");
  for (const architecture& known : architectures) {
    if (known.name != *name) continue;
    model_shape shape;
    shape.architecture = known.name;
    shape.name = source.text("general.name").value_or(known.name);
    DINFER_CHECK(known.read(source, shape));
    return shape;
  }
  std::string names;
  for (const architecture& known : architectures)
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  return fail(errc::unsupported,
              fmt::format("general.architecture: {} is not built; this build has {}",
                          name->substr(0, 64), names),
              "general.architecture");
}

}  // namespace dinfer::runtime
