// SPDX-License-Identifier: Apache-2.0
// The metadata of a GGUF file, read key by key with a range for every number, and the parts of it
// that families share. Files are hostile; errors name the key. Thread: any.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/weights/source.hpp"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace dinfer::runtime {

// Keys are given without their architecture's prefix.
class gguf_keys {
 public:
  gguf_keys(const weight_source& source, std::string_view architecture)
      : source_(source), prefix_(std::string(architecture) + ".") {}

  const weight_source& source() const { return source_; }
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  std::optional<double> number(std::string_view key) const { return source_.number(full(key)); }
  std::optional<std::string_view> text(std::string_view key) const {
    return source_.text(full(key));
  }
  std::optional<bool> boolean(std::string_view key) const { return source_.boolean(full(key)); }

  tl::unexpected<error> wrong(std::string_view key, const std::string& why) const;
  tl::unexpected<error> unsupported(std::string_view key, const std::string& why) const;

  // Whether the key stands there with any value that could have been meant.
  bool present(std::string_view key) const;
  // A number. `otherwise` only where the key is absent: one of another type is refused.
  result<double> number_or(std::string_view key, double otherwise) const;
  // An integer, or an array of one value for all layers. nullopt: absent.
  result<std::optional<std::int64_t>> uniform(std::string_view key) const;
  // An integer from `least` to `most`; absent: `otherwise`, or an error without one.
  result<std::int32_t> bounded(std::string_view key, std::int64_t least, std::int64_t most,
                               std::optional<std::int64_t> otherwise = {}) const;

 private:
  const weight_source& source_;
  std::string prefix_;
};

// layers, hidden, mlp, max_positions, and the epsilon under `epsilon_key`.
result<void> read_gguf_sizes(const gguf_keys& meta, std::string_view epsilon_key,
                             model_shape& shape);
// heads, kv_heads, head_dim.
result<void> read_gguf_heads(const gguf_keys& meta, model_shape& shape);
// Rotary positions in pairs of `style`, and their scaling.
result<void> read_gguf_rope(const gguf_keys& meta, kernels::rope_style style, model_shape& shape);
// vocabulary, tied_embeddings, eos_tokens.
result<void> read_gguf_vocabulary(const gguf_keys& meta, model_shape& shape);
// Variants that share an architecture's name and compute something else.
result<void> refuse_gguf_variants(const gguf_keys& meta, model_shape& shape);

}  // namespace dinfer::runtime
