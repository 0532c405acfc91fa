// SPDX-License-Identifier: Apache-2.0
// config.json to a model_shape: which family it is of, and what families share. Thread: the
// caller's.
#include "runtime/models/config_json.hpp"

#include "runtime/models/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace dinfer::runtime {
namespace {

constexpr std::size_t most_eos = 16;

result<const model_factory*> find_configured(const config_section& root) {
  DINFER_TRY(const auto name, root.only_text("architectures"));
  std::string known;
  for (const model_factory* f : all_models()) {
    if (f->read_config == nullptr) continue;
    if (name && f->config_name == *name) return f;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", f->config_name);
  }
  return root.unsupported("architectures", fmt::format("this build has one of {}", known));
}

// Llama 3.1: waves longer than the old context are stretched, short ones stay, between them it is
// mixed.
result<void> scale_llama3(const config_section& scaling, model_shape& shape) {
  DINFER_TRY(const double factor, scaling.positive("factor"));
  DINFER_TRY(const double low, scaling.positive("low_freq_factor"));
  DINFER_TRY(const double high, scaling.positive("high_freq_factor"));
  DINFER_TRY(const double context, scaling.positive("original_max_position_embeddings"));
  if (!(high > low))
    return scaling.wrong("high_freq_factor",
                         fmt::format("is {}; more than low_freq_factor, {}, fits", high, low));
  for (float& frequency : shape.inverse_frequencies) {
    const double turns = context * frequency / (2 * std::numbers::pi);  // in the old context
    if (turns > high) continue;
    const double mixed = turns < low ? 0.0 : (turns - low) / (high - low);
    frequency = static_cast<float>((1 - mixed) * frequency / factor + mixed * frequency);
  }
  return {};
}

result<void> apply_scaling(const config_section& scaling, model_shape& shape) {
  const std::string_view key = scaling.has("rope_type") ? "rope_type" : "type";
  DINFER_TRY(const auto type, scaling.text(key, "default"));
  if (type == "default") return {};
  if (type == "llama3") return scale_llama3(scaling, shape);
  if (type != "linear")
    return scaling.unsupported(
        key, fmt::format("\"{}\" is not built; default, linear and llama3 are", type));
  DINFER_TRY(const double factor, scaling.positive("factor"));
  for (float& frequency : shape.inverse_frequencies)
    frequency = static_cast<float>(frequency / factor);
  return {};
}

// One id, or an array of them.
result<void> read_eos(const config_section& root, model_shape& shape) {
  constexpr std::string_view key = "eos_token_id";
  DINFER_TRY(const auto ids, root.integers(key, most_eos));
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= shape.vocabulary)
      return root.wrong(key, fmt::format("is {}; 0 to {} fits", id, shape.vocabulary - 1));
    auto& known = shape.eos_tokens;
    const auto token = static_cast<token_id>(id);
    if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
  return {};
}

}  // namespace

result<void> read_config_sizes(const config_section& root, const size_keys& keys,
                               bool mlp_may_be_absent, model_shape& shape) {
  DINFER_TRY(shape.layers, root.integer(keys.layers, 1, shape_limits::layers));
  DINFER_TRY(shape.hidden, root.integer(keys.hidden, 1, shape_limits::width));
  std::optional<std::int64_t> mlp;
  if (mlp_may_be_absent) mlp = std::int64_t{4} * shape.hidden;
  DINFER_TRY(shape.mlp, root.integer(keys.mlp, 1, shape_limits::width, mlp));
  DINFER_TRY(shape.vocabulary, root.integer("vocab_size", 1, shape_limits::vocabulary));
  DINFER_TRY(shape.max_positions, root.integer(keys.positions, 1, shape_limits::positions));
  return {};
}

result<void> read_config_heads(const config_section& root, const size_keys& keys,
                               model_shape& shape) {
  DINFER_TRY(shape.heads, root.integer(keys.heads, 1, shape_limits::heads));
  DINFER_TRY(shape.kv_heads,
             root.integer("num_key_value_heads", 1, shape_limits::heads, shape.heads));
  if (shape.heads % shape.kv_heads != 0)
    return root.wrong("num_key_value_heads", fmt::format("{} KV heads do not divide {} heads",
                                                         shape.kv_heads, shape.heads));
  if (!root.has("head_dim") && shape.hidden % shape.heads != 0)
    return root.wrong(keys.heads,
                      fmt::format("{} heads do not divide {}", shape.heads, shape.hidden));
  DINFER_TRY(shape.head_dim,
             root.integer("head_dim", 1, shape_limits::head_dim, shape.hidden / shape.heads));
  return {};
}

result<void> read_config_rope(const config_section& root, model_shape& shape) {
  if (shape.head_dim % 2 != 0)
    return root.wrong("head_dim", fmt::format("is {}; an even number fits", shape.head_dim));
  // Newer files keep the base beside the scaling.
  DINFER_TRY(const auto newer, root.child("rope_parameters"));
  DINFER_TRY(const auto older, root.child("rope_scaling"));
  const config_section& holder = newer && newer->has("rope_theta") ? *newer : root;
  DINFER_TRY(const double base, holder.number("rope_theta", 10000.0));
  if (!(base > 1 && std::isfinite(base)))
    return holder.wrong("rope_theta", fmt::format("is {}; more than 1 fits", base));
  shape.rope = kernels::rope_style::half;
  shape.rotary = shape.head_dim;
  for (std::int32_t i = 0; i < shape.rotary; i += 2)
    shape.inverse_frequencies.push_back(
        static_cast<float>(std::pow(base, -static_cast<double>(i) / shape.rotary)));
  if (newer) return apply_scaling(*newer, shape);
  if (older) return apply_scaling(*older, shape);
  return {};
}

result<void> read_config_epsilon(const config_section& root, std::string_view key, double otherwise,
                                 model_shape& shape) {
  DINFER_TRY(const double epsilon, root.number(key, otherwise));
  if (!(epsilon >= 0 && epsilon < 1))
    return root.wrong(key, fmt::format("is {}; 0 to 1 fits", epsilon));
  shape.norm_epsilon = static_cast<float>(epsilon);
  return {};
}

result<void> read_config_activation(const config_section& root, std::string_view otherwise,
                                    model_shape& shape) {
  struct named {
    std::string_view name;
    kernels::activation act;
  };
  static constexpr std::array<named, 4> known{
      {{"gelu_new", kernels::activation::gelu_tanh},
       {"gelu_pytorch_tanh", kernels::activation::gelu_tanh},
       {"gelu", kernels::activation::gelu},
       {"relu", kernels::activation::relu}}};
  constexpr std::string_view key = "activation_function";
  DINFER_TRY(const auto name, root.text(key, otherwise));
  for (const named& n : known) {
    if (n.name != name) continue;
    shape.activation = n.act;
    return {};
  }
  return root.unsupported(
      key,
      fmt::format("\"{}\" is not built; gelu_new, gelu_pytorch_tanh, gelu and relu are", name));
}

result<void> refuse_config_keys(const config_section& root,
                                std::initializer_list<std::string_view> keys,
                                const model_shape& shape) {
  for (const std::string_view key : keys)
    if (root.has(key))
      return root.unsupported(key, fmt::format("is not built for {}", shape.architecture));
  return {};
}

result<void> refuse_config_switches(const config_section& root,
                                    std::initializer_list<std::string_view> keys,
                                    const model_shape& shape) {
  for (const std::string_view key : keys) {
    DINFER_TRY(const bool on, root.boolean(key));
    if (on)
      return root.unsupported(key, fmt::format("true is not built for {}", shape.architecture));
  }
  return {};
}

result<model_shape> parse_config_json(std::string_view text, const std::string& file,
                                      const std::string& name) {
  DINFER_TRY(const config_section root, config_section::parse(text, file));
  DINFER_TRY(const model_factory* factory, find_configured(root));
  model_shape shape;
  shape.architecture = factory->architecture;
  shape.name = name;
  DINFER_CHECK(factory->read_config(root, shape));
  DINFER_CHECK(read_eos(root, shape));
  return shape;
}

result<void> add_generation_eos(std::string_view text, const std::string& file,
                                model_shape& shape) {
  DINFER_TRY(const config_section root, config_section::parse(text, file));
  return read_eos(root, shape);
}

}  // namespace dinfer::runtime
