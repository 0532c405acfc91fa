// SPDX-License-Identifier: Apache-2.0
// What a model is, whatever file said so: GGUF metadata or a config.json. Values, checked on
// reading. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "kernels/ops.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::runtime {

class weight_source;

// The largest numbers that a file may state: they decide allocations and loops.
struct shape_limits {
  static constexpr std::int64_t layers = 1024;
  static constexpr std::int64_t heads = 4096;
  static constexpr std::int64_t head_dim = 4096;
  static constexpr std::int64_t width = 1 << 20;  // hidden size and MLP
  static constexpr std::int64_t positions = 1 << 28;
  static constexpr std::int64_t vocabulary = 1 << 24;
};

struct model_shape {
  std::string architecture;  // "llama": the key into the model registry
  std::string name;          // for people
  std::int32_t layers = 0;
  std::int32_t hidden = 0;
  std::int32_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int32_t mlp = 0;
  std::int32_t mlp_block = 32;  // columns of its second matrix that a cut does not part
  std::int32_t vocabulary = 0;
  std::int32_t max_positions = 0;
  float norm_epsilon = 1e-5F;
  kernels::rope_style rope = kernels::rope_style::half;
  std::int32_t rotary = 0;                 // dimensions of a head that turn
  std::vector<float> inverse_frequencies;  // rotary / 2, scaling applied
  bool tied_embeddings = false;            // the head is the embedding
  std::vector<token_id> eos_tokens;

  // How a decoder is built; the defaults are Llama's.
  kernels::norm_kind norm = kernels::norm_kind::rms;             // layer: with biases
  kernels::activation activation = kernels::activation::swiglu;  // swiglu: the MLP has a gate
  bool norm_after = false;                                       // norms follow the sums
  bool final_norm = true;                                        // before the head
  bool fused_qkv = false;                                        // one tensor holds all three
  bool qkv_bias = false, output_bias = false, mlp_bias = false;  // of linears
  float attention_scale = 0;                                     // 0: 1 / sqrt(head_dim)
  bool learnt_positions = false;                                 // a table, added to tokens
  std::int32_t first_position = 0;                               // its row for position 0
  std::int32_t embedding = 0;  // columns of embedding and head, projected to hidden; 0: hidden

  std::int32_t table_columns() const noexcept { return embedding != 0 ? embedding : hidden; }
  bool gated() const noexcept { return activation == kernels::activation::swiglu; }
};

// Reads the shape from the metadata of an open source, by its format. Errors: unsupported
// (architecture not in the registry, or a feature that is not built), bad_file (a key is missing,
// of the wrong type or out of range; the message names it).
result<model_shape> read_model_shape(const weight_source& source);

}  // namespace dinfer::runtime
