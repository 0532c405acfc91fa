// SPDX-License-Identifier: Apache-2.0
// config.json to a model_shape, key by key. A key that is null counts as absent, as the library
// that writes these files has it.
#include "runtime/models/config_json.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <optional>

namespace dinfer::runtime {
namespace {

namespace dom = simdjson::dom;

constexpr std::string_view built = "LlamaForCausalLM";

// One object of the file; `prefix` names it in messages ("rope_scaling.").
class section {
 public:
  section(dom::object object, std::string file, std::string prefix)
      : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

  tl::unexpected<error> wrong(std::string_view key, const std::string& why,
                              errc code = errc::bad_file) const {
    const std::string full = prefix_ + std::string(key);
    return fail(code, fmt::format("{}: {}: {}", file_, full, why), full);
  }

  std::optional<dom::element> find(std::string_view key) const {
    dom::element value;
    if (object_.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
    return value;
  }

  // An integer from `least` to `most`; absent: `otherwise`, or an error without one.
  result<std::int32_t> integer(std::string_view key, std::int64_t least, std::int64_t most,
                               std::optional<std::int64_t> otherwise = {}) const {
    std::int64_t value = 0;
    if (const auto found = find(key)) {
      if (found->get(value) != simdjson::SUCCESS) return wrong(key, "is not an integer");
    } else if (otherwise) {
      value = *otherwise;
    } else {
      return wrong(key, "is missing");
    }
    if (value < least || value > most)
      return wrong(key, fmt::format("is {}; {} to {} fits", value, least, most));
    return static_cast<std::int32_t>(value);
  }

  result<double> number(std::string_view key, std::optional<double> otherwise) const {
    const auto found = find(key);
    if (!found && otherwise) return *otherwise;
    if (!found) return wrong(key, "is missing");
    double value = 0;
    if (found->get(value) != simdjson::SUCCESS) return wrong(key, "is not a number");
    return value;
  }

  result<bool> boolean(std::string_view key) const {  // absent: false
    const auto found = find(key);
    bool value = false;
    if (found && found->get(value) != simdjson::SUCCESS)
      return wrong(key, "is neither true nor false");
    return value;
  }

  result<std::string_view> text(std::string_view key, std::string_view otherwise) const {
    const auto found = find(key);
    if (!found) return otherwise;
    std::string_view value;
    if (found->get(value) != simdjson::SUCCESS) return wrong(key, "is not a string");
    return value.substr(0, 64);
  }

  // The object under `key`. nullopt: absent.
  result<std::optional<section>> child(std::string_view key) const {
    const auto found = find(key);
    if (!found) return std::optional<section>{};
    dom::object object;
    if (found->get(object) != simdjson::SUCCESS) return wrong(key, "is not an object");
    return std::optional<section>(section(object, file_, prefix_ + std::string(key) + "."));
  }

 private:
  dom::object object_;
  std::string file_, prefix_;
};

result<void> check_architecture(const section& root) {
  dom::array names;
  const auto found = root.find("architectures");
  if (!found || found->get(names) != simdjson::SUCCESS)
    return root.wrong("architectures", "is missing or not an array");
  std::string_view name;
  if (names.size() != 1 || names.at(0).get(name) != simdjson::SUCCESS || name != built)
    return root.wrong("architectures", fmt::format("this build has [\"{}\"] alone", built),
                      errc::unsupported);
  return {};
}

// Variants that share the architecture's name and compute something else.
result<void> refuse_variants(const section& root) {
  DINFER_TRY(const auto activation, root.text("hidden_act", "silu"));
  if (activation != "silu")
    return root.wrong("hidden_act", fmt::format("\"{}\" is not built; \"silu\" is", activation),
                      errc::unsupported);
  for (const std::string_view key : {"attention_bias", "mlp_bias"}) {
    DINFER_TRY(const bool biased, root.boolean(key));
    if (biased) return root.wrong(key, "biases are not built for llama", errc::unsupported);
  }
  DINFER_TRY(const double turning, root.number("partial_rotary_factor", 1.0));
  if (turning != 1.0)
    return root.wrong("partial_rotary_factor", "heads turn as a whole", errc::unsupported);
  for (const std::string_view key : {"quantization_config", "sliding_window"})
    if (root.find(key)) return root.wrong(key, "is not built for llama", errc::unsupported);
  return {};
}

result<void> read_sizes(const section& root, model_shape& shape) {
  DINFER_TRY(shape.layers, root.integer("num_hidden_layers", 1, shape_limits::layers));
  DINFER_TRY(shape.hidden, root.integer("hidden_size", 1, shape_limits::width));
  DINFER_TRY(shape.mlp, root.integer("intermediate_size", 1, shape_limits::width));
  DINFER_TRY(shape.vocabulary, root.integer("vocab_size", 1, shape_limits::vocabulary));
  DINFER_TRY(shape.max_positions,
             root.integer("max_position_embeddings", 1, shape_limits::positions));
  DINFER_TRY(shape.tied_embeddings, root.boolean("tie_word_embeddings"));
  DINFER_TRY(const double epsilon, root.number("rms_norm_eps", 1e-6));
  if (!(epsilon >= 0 && epsilon < 1))
    return root.wrong("rms_norm_eps", fmt::format("is {}; 0 to 1 fits", epsilon));
  shape.norm_epsilon = static_cast<float>(epsilon);
  return {};
}

result<void> read_heads(const section& root, model_shape& shape) {
  DINFER_TRY(shape.heads, root.integer("num_attention_heads", 1, shape_limits::heads));
  DINFER_TRY(shape.kv_heads,
             root.integer("num_key_value_heads", 1, shape_limits::heads, shape.heads));
  if (shape.heads % shape.kv_heads != 0)
    return root.wrong("num_key_value_heads", fmt::format("{} KV heads do not divide {} heads",
                                                         shape.kv_heads, shape.heads));
  if (!root.find("head_dim") && shape.hidden % shape.heads != 0)
    return root.wrong("num_attention_heads",
                      fmt::format("{} heads do not divide {}", shape.heads, shape.hidden));
  DINFER_TRY(shape.head_dim,
             root.integer("head_dim", 1, shape_limits::head_dim, shape.hidden / shape.heads));
  if (shape.head_dim % 2 != 0)
    return root.wrong("head_dim", fmt::format("is {}; an even number fits", shape.head_dim));
  return {};
}

result<double> positive(const section& from, std::string_view key) {
  DINFER_TRY(const double value, from.number(key, std::nullopt));
  if (!(value > 0 && std::isfinite(value)))
    return from.wrong(key, fmt::format("is {}; more than 0 fits", value));
  return value;
}

// Llama 3.1: waves longer than the old context are stretched, short ones stay, between them it is
// mixed.
result<void> scale_llama3(const section& scaling, model_shape& shape) {
  DINFER_TRY(const double factor, positive(scaling, "factor"));
  DINFER_TRY(const double low, positive(scaling, "low_freq_factor"));
  DINFER_TRY(const double high, positive(scaling, "high_freq_factor"));
  DINFER_TRY(const double context, positive(scaling, "original_max_position_embeddings"));
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

result<void> apply_scaling(const section& scaling, model_shape& shape) {
  const std::string_view key = scaling.find("rope_type") ? "rope_type" : "type";
  DINFER_TRY(const auto type, scaling.text(key, "default"));
  if (type == "default") return {};
  if (type == "llama3") return scale_llama3(scaling, shape);
  if (type != "linear")
    return scaling.wrong(key,
                         fmt::format("\"{}\" is not built; default, linear and llama3 are", type),
                         errc::unsupported);
  DINFER_TRY(const double factor, positive(scaling, "factor"));
  for (float& frequency : shape.inverse_frequencies)
    frequency = static_cast<float>(frequency / factor);
  return {};
}

result<void> read_rope(const section& root, model_shape& shape) {
  // Newer files keep the base beside the scaling.
  DINFER_TRY(const auto newer, root.child("rope_parameters"));
  DINFER_TRY(const auto older, root.child("rope_scaling"));
  const section& holder = newer && newer->find("rope_theta") ? *newer : root;
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

result<void> add_eos(const section& root, dom::element value, model_shape& shape) {
  std::int64_t id = 0;
  if (value.get(id) != simdjson::SUCCESS) return root.wrong("eos_token_id", "is not an integer");
  if (id < 0 || id >= shape.vocabulary)
    return root.wrong("eos_token_id", fmt::format("is {}; 0 to {} fits", id, shape.vocabulary - 1));
  shape.eos_tokens.push_back(static_cast<token_id>(id));
  return {};
}

// One id, or an array of them.
result<void> read_eos(const section& root, model_shape& shape) {
  constexpr std::size_t most = 16;
  const auto value = root.find("eos_token_id");
  if (!value) return {};
  dom::array ids;
  if (value->get(ids) != simdjson::SUCCESS) return add_eos(root, *value, shape);
  if (ids.size() > most) return root.wrong("eos_token_id", fmt::format("more than {} ids", most));
  for (const dom::element id : ids) DINFER_CHECK(add_eos(root, id, shape));
  return {};
}

}  // namespace

result<model_shape> parse_config_json(std::string_view text, const std::string& file,
                                      const std::string& name) {
  dom::parser parser;
  dom::element document;
  if (const auto problem = parser.parse(text.data(), text.size()).get(document);
      problem != simdjson::SUCCESS)
    return fail(errc::bad_file,
                fmt::format("{}: is not JSON: {}", file, simdjson::error_message(problem)), file);
  dom::object object;
  if (document.get(object) != simdjson::SUCCESS)
    return fail(errc::bad_file, file + ": is not a JSON object", file);
  const section root(object, file, "");
  model_shape shape;
  shape.architecture = "llama";
  shape.name = name;
  DINFER_CHECK(check_architecture(root));
  DINFER_CHECK(refuse_variants(root));
  DINFER_CHECK(read_sizes(root, shape));
  DINFER_CHECK(read_heads(root, shape));
  DINFER_CHECK(read_rope(root, shape));
  DINFER_CHECK(read_eos(root, shape));
  return shape;
}

}  // namespace dinfer::runtime
