// SPDX-License-Identifier: Apache-2.0
// The shape of a model from a Hugging Face style config.json, and the parts of it that families
// share. The text is hostile: every number has a range, and what would change the model's result
// and is not built is refused by name. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/models/config_section.hpp"
#include "runtime/models/model_config.hpp"

#include <string>
#include <string_view>

namespace dinfer::runtime {

// `file` stands in messages, `name` becomes the shape's. Errors: bad_file (not JSON, a key is
// missing, of the wrong type or out of range), unsupported (another architecture, or a feature that
// is not built); the subject is the key.
result<model_shape> parse_config_json(std::string_view text, const std::string& file,
                                      const std::string& name);

// Adds the end-of-sequence tokens of a generation_config.json to a shape's. Errors: bad_file.
result<void> add_generation_eos(std::string_view text, const std::string& file, model_shape& shape);

// For families. Names of keys differ between them.
struct size_keys {
  std::string_view layers = "num_hidden_layers", hidden = "hidden_size", mlp = "intermediate_size",
                   positions = "max_position_embeddings", heads = "num_attention_heads";
};
// layers, hidden, vocabulary, max_positions; the MLP too, where it may be left out as 4 hidden.
result<void> read_config_sizes(const config_section& root, const size_keys& keys,
                               bool mlp_may_be_absent, model_shape& shape);
// heads, kv_heads, head_dim.
result<void> read_config_heads(const config_section& root, const size_keys& keys,
                               model_shape& shape);
// Rotary positions and their scaling.
result<void> read_config_rope(const config_section& root, model_shape& shape);
result<void> read_config_epsilon(const config_section& root, std::string_view key, double otherwise,
                                 model_shape& shape);
// An activation without a gate, by the name that transformers gives it.
result<void> read_config_activation(const config_section& root, std::string_view otherwise,
                                    model_shape& shape);
// Keys that no family here has.
result<void> refuse_config_keys(const config_section& root,
                                std::initializer_list<std::string_view> keys,
                                const model_shape& shape);
// Switches that must be off.
result<void> refuse_config_switches(const config_section& root,
                                    std::initializer_list<std::string_view> keys,
                                    const model_shape& shape);

}  // namespace dinfer::runtime
