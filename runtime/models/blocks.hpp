// SPDX-License-Identifier: Apache-2.0
// The two halves of a decoder layer, cut over the ranks of a stage, for every model to share:
// attention (columns of q, k, v; rows of the output) and MLP (columns of gate and up; rows of
// down), Shoeybi et al. 2019. Both take a normed input and leave this rank's part of the sum in
// `partial`, which the next add_norm sums over ranks into the residual. Thread: the shard's.
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
  kernels::tensor chosen(std::int64_t r) const { return cut(chosen_, r); }      // [R, H]
  kernels::tensor chosen_normed(std::int64_t r) const { return cut(chosen_normed_, r); }  // [R, H]

 private:
  static kernels::tensor cut(kernels::tensor whole, std::int64_t rows);

  kernels::buffer memory_;
  kernels::tensor normed_, partial_, qkv_, attended_, mlp_, chosen_, chosen_normed_;
};

// The heads of one attention block on this rank.
struct attention_heads {
  std::int32_t query = 0, kv = 0, dim = 0;
  std::int32_t window = 0;
  float scale = 0;
};

class attention_block {
 public:
  // Tensors `prefix`_q, _k, _v and _output: "blk.3.attn" reads blk.3.attn_q.weight.
  result<void> load(weight_loader& loader, const std::string& prefix, const model_shape& shape,
                    const rank_layout& layout);
  // normed -> partial. `layer` counts within the KV group.
  void run(kernels::ops& ops, const forward_args& args, const workspace& space,
           const attention_heads& heads, const kernels::rope_args& rope, const rank_layout& layout,
           std::int32_t layer) const;

 private:
  weight_ptr qkv_, output_;
};

class gated_mlp_block {
 public:
  // Tensors `prefix`_gate, _up and _down: "blk.3.ffn" reads blk.3.ffn_gate.weight.
  result<void> load(weight_loader& loader, const std::string& prefix, const model_shape& shape,
                    const rank_layout& layout);
  // normed -> partial.
  void run(kernels::ops& ops, const workspace& space, std::int64_t tokens) const;

 private:
  weight_ptr gate_up_, down_;
};

// Cuts `rows` rows off the front of a matrix.
kernels::tensor first_rows(kernels::tensor matrix, std::int64_t rows);

}  // namespace dinfer::runtime
