// SPDX-License-Identifier: Apache-2.0
// A small config.json for tests of made-up models, and changes to it.
#pragma once

#include "tests/support/catch.hpp"

#include <string>

namespace dinfer::tests {

inline std::string tiny_config() {
  return R"({
  "architectures": ["LlamaForCausalLM"],
  "hidden_size": 64,
  "intermediate_size": 160,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "vocab_size": 320,
  "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5,
  "rope_theta": 500000.0,
  "tie_word_embeddings": false,
  "eos_token_id": 7
})";
}

// tiny_config() with one text in place of another.
inline std::string tiny_config_with(const std::string& before, const std::string& after) {
  auto text = tiny_config();
  const auto at = text.find(before);
  REQUIRE(at != std::string::npos);
  return text.replace(at, before.size(), after);
}

}  // namespace dinfer::tests
