// SPDX-License-Identifier: Apache-2.0
// The parts of a decoder layer, cut over the ranks of a stage, for every model to share: attention
// (columns of q, k, v; rows of the output) and MLP (columns of gate and up; rows of down), Shoeybi
// et al. 2019. Both leave this rank's part of the sum in `partial`, which the next add_norm sums
// over ranks into the residual; the bias of that sum is rank 0's to add. Thread: the shard's.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/models/model.hpp"
#include "runtime/models/weight_loader.hpp"
#include "runtime/parallel/layout.hpp"

#include <cstdint>
#include <string>

namespace dinfer::runtime {

// Intermediate results of one step on one rank, in one allocation. T <= tokens, R <= rows.
class workspace {
 public:
  struct widths {
    std::int64_t hidden = 0, qkv = 0, attended = 0, mlp = 0;
    std::int64_t table = 0;  // of the embedding, where it is not hidden's; else 0
  };

  static std::uint64_t bytes(const widths& w, std::int64_t tokens, std::int64_t rows,
                             kernels::dtype activation);
  void reserve(kernels::device& device, const widths& w, std::int64_t tokens, std::int64_t rows,
               kernels::dtype activation);

  kernels::tensor normed(std::int64_t t) const { return cut(normed_, t); }      // [T, H]
  kernels::tensor partial(std::int64_t t) const { return cut(partial_, t); }    // [T, H]
  kernels::tensor qkv(std::int64_t t) const { return cut(qkv_, t); }            // [T, (Q + 2K) D]
  kernels::tensor attended(std::int64_t t) const { return cut(attended_, t); }  // [T, Q D]
  kernels::tensor mlp(std::int64_t t) const { return cut(mlp_, t); }            // [T, F]
  kernels::tensor embedded(std::int64_t t) const { return cut(embedded_, t); }  // [T or R, E]
  kernels::tensor chosen(std::int64_t r) const { return cut(chosen_, r); }      // [R, H]
  kernels::tensor chosen_normed(std::int64_t r) const { return cut(chosen_normed_, r); }  // [R, H]

 private:
  static kernels::tensor cut(kernels::tensor whole, std::int64_t rows);

  kernels::buffer memory_;
  kernels::tensor normed_, partial_, qkv_, attended_, mlp_, embedded_, chosen_, chosen_normed_;
};

// The heads of one attention block on this rank.
struct attention_heads {
  std::int32_t query = 0, kv = 0, dim = 0;
  std::int32_t window = 0;
  float scale = 0;
};

class norm_block {
 public:
  // `prefix`.weight, and .bias of a layer norm.
  result<void> load(weight_loader& loader, const std::string& prefix, const model_shape& shape);
  kernels::norm_args args(const model_shape& shape) const;

 private:
  weight_ptr gain_, bias_;
};

class attention_block {
 public:
  // Tensors `prefix`_q, _k, _v, or _qkv that holds all three, and _output: "blk.3.attn" reads
  // blk.3.attn_q.weight, and .bias where the shape has one.
  result<void> load(weight_loader& loader, const std::string& prefix, const model_shape& shape,
                    const rank_layout& layout);
  // The form in which run() likes its x.
  kernels::tensor input(const kernels::ops& ops, kernels::tensor x) const {
    return ops.input_of(*qkv_, x, kernels::producer::norm);
  }
  // x [T, H] -> partial. `layer` counts within the KV group.
  void run(kernels::ops& ops, const forward_args& args, kernels::tensor x, const workspace& space,
           const attention_heads& heads, const kernels::rope_args& rope, const rank_layout& layout,
           std::int32_t layer) const;

 private:
  weight_ptr qkv_, qkv_bias_, output_, output_bias_;
};

class mlp_block {
 public:
  // Tensors `prefix`_up and _down, and _gate of a gated one: "blk.3.ffn" reads blk.3.ffn_up.weight.
  result<void> load(weight_loader& loader, const std::string& prefix, const model_shape& shape,
                    const rank_layout& layout);
  kernels::tensor input(const kernels::ops& ops, kernels::tensor x) const {
    return ops.input_of(*up_, x, kernels::producer::norm);
  }
  // x [T, H] -> partial.
  void run(kernels::ops& ops, kernels::tensor x, const workspace& space) const;

 private:
  kernels::activation activation_ = kernels::activation::none;
  weight_ptr up_, up_bias_, down_, down_bias_;
};

// Cuts `rows` rows off the front of a matrix.
kernels::tensor first_rows(kernels::tensor matrix, std::int64_t rows);

}  // namespace dinfer::runtime
