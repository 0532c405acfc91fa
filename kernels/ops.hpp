// SPDX-License-Identifier: Apache-2.0
// Every operation a model is made of, once: the contract that the CPU and CUDA backends keep.
// Operations run in stream order and may be fused: a tensor that is described as "for linear only"
// may hold anything a backend likes, as long as its own `linear` reads it right.
//
// T: tokens of the step. H: hidden size. D: head_dim. Q, K: query and KV heads of this rank.
// Activations have the device's dtype (f32 on the CPU); statistics, softmax and accumulation are
// f32 or better. Row independence: in f32, and in every dtype where
// device_options::batch_invariant, each output row depends on its own input row alone, bit for bit:
// not on T, nor on how a prompt was cut into chunks, nor on the batch. K is summed in one order;
// attention in key order.
#pragma once

#include "kernels/communicator.hpp"
#include "kernels/sampler.hpp"
#include "kernels/tensor.hpp"
#include "kernels/weight.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace dinfer::kernels {

enum class norm_kind : std::uint8_t { rms, layer };

struct norm_args {
  norm_kind kind = norm_kind::rms;
  const weight* gain = nullptr;  // [H]
  const weight* bias = nullptr;  // [H], layer only
  float epsilon = 1e-5F;
};

// residual += sum over ranks of partial; normed = norm(residual). Zhang & Sennrich 2019 (RMSNorm).
// With a norm, a rank may leave in `residual` only the rows that it adds to next time, of as many;
// a sum without a norm makes it whole again.
struct add_norm_args {
  communicator* tp = nullptr;       // null or size 1: no exchange
  tensor partial;                   // [T, H], destroyed; empty: nothing is added
  tensor residual;                  // [T, H], in and out
  const norm_args* norm = nullptr;  // null: no norm, `normed` is left alone
  tensor normed;                    // [T, H], for linear only; or `residual`, which it replaces
};

enum class activation : std::uint8_t { none, swiglu, gelu_tanh, gelu, relu };

// out = activation(x W^T + bias). With swiglu W is a gate_up weight and out has half its rows as
// columns.
struct linear_args {
  tensor x;  // [T, K]
  const weight* w = nullptr;
  const weight* bias = nullptr;
  activation act = activation::none;
  tensor out;  // [T, N]
};

// One KV group's pages: [page][layer][K|V][kv_head][block_size][head_dim]. Page 0 is never handed
// out: padding may be written to it. f8_e4m3 has no scale: numbers are rounded to nearest even as
// they are stored, beyond 448 to 448.
struct kv_pages {
  void* base = nullptr;
  dtype type = dtype::f32;  // as activations, or f8_e4m3 where device_traits::fp8
  std::int64_t pages = 0;
  std::int32_t layers = 0, kv_heads = 0, block_size = 0, head_dim = 0;

  std::int64_t layer_elements() const noexcept {
    return std::int64_t{2} * kv_heads * block_size * head_dim;
  }
  std::int64_t page_elements() const noexcept { return layers * layer_elements(); }
};

// What a step computes, as index arrays in device memory. A sequence with context 0 is padding: its
// table row is one of null blocks, and its attention is zeros.
struct step_batch {
  std::int32_t tokens = 0;     // T
  std::int32_t sequences = 0;  // S
  std::int32_t decodes = 0;    // of these, the first ones, with one token each
  tensor positions;            // i32 [T]
  tensor token_sequence;       // i32 [T]: index of the sequence a token belongs to
  tensor query_begin;  // i32 [S + 1]: tokens of sequence s are query_begin[s] .. query_begin[s + 1]
  tensor context;      // i32 [S]: keys of the sequence once this step is stored
  tensor table_rows;   // i32 [S]: the sequence's row of block_table
  tensor block_table;  // i32 [rows, max blocks]: page of each block
};

enum class rope_style : std::uint8_t {
  none,
  interleaved,
  half
};  // pairs (2i, 2i+1) | (i, i + D/2)

// Su et al. 2021. `inverse_frequencies` holds rotary/2 values, in which any scaling is already
// applied.
struct rope_args {
  rope_style style = rope_style::half;
  std::int32_t rotary = 0;     // leading dimensions of a head that turn
  tensor inverse_frequencies;  // f32 [rotary / 2]
};

// Rotates the query and key heads of qkv in place and stores keys and values into their pages.
struct rope_store_args {
  tensor qkv;  // [T, (Q + 2K) * D]: query heads, key heads, value heads
  std::int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  rope_args rope;
  const step_batch* batch = nullptr;
  kv_pages pages;
  std::int32_t layer = 0;  // of this group, on this rank
};

// Causal attention over the pages; query head h reads KV head kv_of_query[h] (grouped-query
// attention, Ainslie et al. 2023; the map may be uneven under tensor parallelism). Online softmax
// in key order (Milakov & Gimelshein 2018).
struct attention_args {
  tensor qkv;  // as rope_store left it; only query heads are read
  std::int32_t query_heads = 0, head_dim = 0;
  std::span<const std::int32_t> kv_of_query;  // host, [Q]
  float scale = 0;                            // usually 1 / sqrt(D)
  std::int32_t window = 0;                    // 0: full; else keys further back are not seen
  const step_batch* batch = nullptr;
  kv_pages pages;
  std::int32_t layer = 0;
  tensor out;  // [T, Q * D]
};

struct embed_args {
  tensor ids;  // i32 [T]
  const weight* table = nullptr;
  std::int64_t first_row = 0;              // of the vocabulary in the table; ids outside give zeros
  const weight* position_table = nullptr;  // learnt positions (GPT-2), added; null: none
  tensor positions;                        // i32 [T]
  tensor out;                              // [T, H]
};

// What writes the x of a linear: `normed` of an add_norm, `out` of a linear with swiglu.
enum class producer : std::uint8_t { norm, swiglu };

// The largest step that will come.
struct step_limits {
  std::int64_t tokens = 0;
  std::int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t mlp = 0;  // columns that a gate_up weight's linear gives
};

class ops {
 public:
  virtual ~ops() = default;

  // Takes what operations need beside their arguments, once, after the weights and before the first
  // step; returns the bytes of device memory.
  virtual std::uint64_t reserve(const step_limits&) { return 0; }

  virtual std::unique_ptr<weight> prepare(std::span<const weight_slice> slices, weight_role role,
                                          const prepare_options& options) = 0;
  // The form in which linear of `w` likes its x, in the memory of `x`: what an output of `from` may
  // be that nobody else reads. linear of `w` takes either.
  virtual tensor input_of(const weight& /*w*/, tensor x, producer /*from*/) const { return x; }
  virtual void embed(const embed_args& args) = 0;
  virtual void add_norm(const add_norm_args& args) = 0;
  virtual void linear(const linear_args& args) = 0;
  virtual void rope_store(const rope_store_args& args) = 0;
  virtual void attention(const attention_args& args) = 0;
  // out[i] = in[rows[i]]; in [T, H], rows i32 [R], out [R, H].
  virtual void gather_rows(tensor in, tensor rows, tensor out) = 0;
  // table[entries[i][0]] = entries[i][1]; table i32, entries i32 [n, 2], no index twice.
  virtual void put_entries(tensor table, tensor entries) = 0;
  virtual std::unique_ptr<sampler> make_sampler(std::uint32_t slots, std::int64_t vocabulary) = 0;
};

}  // namespace dinfer::kernels
