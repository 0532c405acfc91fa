// SPDX-License-Identifier: Apache-2.0
// What every model offers: which tensors a rank needs, and the forward pass of its layers. A model
// is one file and one line in registry.cpp; it sees operations and weights, never a device, file
// format or communicator type.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/weights/source.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// A group of layers whose KV cache is alike. Full attention models have one.
struct kv_group {
  std::vector<std::int32_t> layers;         // model-wide indices, those of this rank's stage
  std::int32_t kv_heads = 0, head_dim = 0;  // of this rank
  std::int32_t window = 0;                  // 0: full
};

// Progress of loading: bytes of this rank so far, and in all.
using load_progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

// The largest step that a model will be given.
struct forward_limits {
  std::int64_t tokens = 0;
  std::int64_t rows = 0;  // of logits at a time
};

// Where activations and index arrays of a step live; made by the runner, large enough for
// max_num_batched_tokens.
struct forward_args {
  const kernels::step_batch* batch = nullptr;
  std::vector<kernels::kv_pages>
      pages;            // per KV group; batch->block_table is that of group 0 until groups differ
  kernels::tensor ids;  // i32 [T], first stage
  kernels::tensor hidden;               // [T, H]: in (not first stage) and out, the residual
  kernels::communicator* tp = nullptr;  // null: alone
};

// Some rows of a step's logits.
struct head_args {
  kernels::tensor hidden;  // [T, H], as forward() left it
  kernels::tensor rows;    // i32 [R]: token indices whose logits are wanted
  kernels::tensor logits;  // f32 [R, vocabulary shard], out
};

class model {
 public:
  virtual ~model() = default;
  virtual const model_shape& shape() const noexcept = 0;
  virtual const rank_layout& layout() const noexcept = 0;
  virtual std::vector<kv_group> kv_groups() const = 0;

  // Reads this rank's slices and nothing else. Errors: bad_file, unsupported. Throws device_error.
  virtual result<void> load(const weight_source& source, kernels::device& device,
                            const kernels::prepare_options& options,
                            const load_progress& progress) = 0;
  virtual std::uint64_t weight_bytes() const noexcept = 0;  // held after load
  virtual std::uint64_t replicated_bytes()
      const noexcept = 0;  // of these, the same on every rank of the stage

  // Device memory for intermediate results, taken once, by reserve().
  virtual std::uint64_t workspace_bytes() const noexcept = 0;
  virtual void reserve(kernels::device& device, const forward_limits& limits) = 0;

  // This rank's layers of one step. Throws device_error.
  virtual void forward(kernels::device& device, const forward_args& args) = 0;
  // Last stage: final norm and head of `rows` tokens at most, as often as rows are left.
  virtual void head(kernels::device& device, const head_args& args) = 0;
};

struct weight_sizes {
  std::vector<std::uint64_t> layer_bytes;  // whole layers, all ranks of a stage together
  std::uint64_t embedding_bytes = 0;       // with learnt positions
  std::uint64_t head_bytes = 0;            // norm and head, a tied one too
  std::uint64_t tied_bytes = 0;            // of these, what a first stage has as its embedding
};

// What ranks will hold, from file headers alone, without a device: for plans and for splitting
// layers by bytes. As a CPU has it, which is as it is stored, but for 8-bit floats in f32; and as a
// GPU has it that keeps quantised matrices packed and others in 16 bits, without layers where
// nothing is quantised.
struct weight_estimate : weight_sizes {
  weight_sizes packed = {};
  // Of each layer, elements that are stored as GPUs multiply them: 8-bit floats with a scale a row.
  // Empty: there are none.
  std::vector<std::uint64_t> f8_elements = {};
};

// A tensor that a whole model reads, of this row-major shape.
struct model_tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  kernels::weight_role role = kernels::weight_role::matrix;
};

class config_section;  // runtime/models/config_section.hpp
class gguf_keys;       // runtime/models/gguf_keys.hpp

struct model_factory {
  std::string_view architecture;  // GGUF's general.architecture
  std::string_view config_name;   // config.json's architectures[0]
  // Fill a shape whose architecture and name stand already. Null: no file of that kind has it.
  result<void> (*read_gguf)(const gguf_keys& meta, model_shape& shape);
  result<void> (*read_config)(const config_section& root, model_shape& shape);

  std::unique_ptr<model> (*make)(const model_shape& shape, const rank_layout& layout);
  result<weight_estimate> (*estimate)(const model_shape& shape, const weight_source& source);
  result<std::uint64_t> (*rank_bytes)(const model_shape& shape, const rank_layout& layout,
                                      const weight_source& source);
  result<std::vector<model_tensor>> (*tensors)(const model_shape& shape);
};

// The registry. Error: unsupported, listing the architectures that are built in.
std::span<const model_factory* const> all_models();
result<const model_factory*> find_model(std::string_view architecture);

}  // namespace dinfer::runtime
