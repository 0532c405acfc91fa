// SPDX-License-Identifier: Apache-2.0
// Causal attention over paged keys and values on a GPU: what its kernels are given, and their
// launchers. Host code; the launches are asynchronous on `stream` and throw device_error.
//
// Sequences of a step come in two parts: the first `decodes` have one query token each
// (attention_decode.cu: split over keys, merged in the kernel), the others have many
// (attention_prefill.cu: tiles of queries, online softmax in key order).
#pragma once

#include "kernels/ops.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

inline constexpr std::int32_t most_kv_heads = 128;

// Of queries and results: f32, bf16 or f16; of pages the same, or f8_e4m3, which becomes the other
// on its way to the arithmetic, exactly, where head_dim is a multiple of 16.
struct attention_types {
  dtype activations, pages;
  attention_types(dtype all) noexcept : activations(all), pages(all) {}
  attention_types(dtype of_activations, dtype of_pages) noexcept
      : activations(of_activations), pages(of_pages) {}
  bool f8_pages() const noexcept { return pages == dtype::f8_e4m3; }
};

// By value into every kernel. Query head h of KV head k: first_query[k] <= h < first_query[k + 1].
struct attention_shape {
  const void* qkv = nullptr;  // [T, qkv_columns], activations; query head h at column h * head_dim
  void* out = nullptr;        // [T, query_heads * head_dim]
  std::int64_t qkv_columns = 0;
  const void* pages = nullptr;  // of this layer: page p, K|V part c, KV head k, at element
                                // p * page_elements + (c * kv_heads + k) * block_size * head_dim,
                                // then [block_size][head_dim]
  std::int64_t page_elements = 0;
  std::int64_t page_count = 0;  // pages of the pool, for attend_prefill_sm90
  std::int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  std::int32_t block_size = 0;   // tokens, a power of two
  std::int32_t block_shift = 0;  // its logarithm
  std::int32_t window = 0;       // 0: full; else key j is seen by position i only if i - j < window
  float scale = 0;               // of the scores, before softmax
  const std::int32_t* positions = nullptr;    // [T]
  const std::int32_t* query_begin = nullptr;  // [S + 1]
  const std::int32_t* context = nullptr;      // [S]; 0: padding, out is zeros
  const std::int32_t* table_rows = nullptr;   // [S]
  const std::int32_t* block_table = nullptr;  // [rows, table_width]
  std::int64_t table_width = 0;
  std::int32_t tokens = 0, sequences = 0, decodes = 0;
  std::int16_t first_query[most_kv_heads + 1] = {};
};

// Memory for attend_decode. Keys of a sequence are cut into chunks of `chunk` keys, doubled until
// there are 65 at most (f8_e4m3: of 128 at least): the cut depends on the sequence's own length
// alone. A block computes chunk after chunk and sums them in order; where the chunks of a sequence
// and KV head fall to several blocks, they meet in `partial` and the last block to come sums them
// in the same order. There is no plan to make: every block finds its share of the work from
// `context`, so a recorded step can be replayed with other lengths.
struct decode_plan {
  std::int32_t chunk = 128;  // keys, a power of two, at least 64; fixed for a device
  float* partial = nullptr;  // merge space
  std::size_t partial_bytes = 0;
  std::int32_t* tickets = nullptr;        // zero between launches
  std::size_t shared_bytes = 227 * 1024;  // that a block may have; an H100's
};

// A share of the work ends inside one (sequence, KV head) at most, so merge space is bounded by the
// number of blocks, whatever the batch and its contexts.
struct decode_space {
  std::size_t partial_bytes = 0, ticket_bytes = 0;
};
decode_space decode_space_for(std::int32_t query_heads, std::int32_t kv_heads,
                              std::int32_t head_dim, std::int32_t multiprocessors);

// The first shape.decodes sequences, one token each: token s is sequence s. head_dim is a multiple
// of 8 up to 256; tensor cores serve 64, 80, 96, 128 and 256 in bf16 and f16; f32 has no f8_e4m3.
// Against exact arithmetic on the same inputs: f32 2e-5, f16 2e-3, bf16 1.5e-2 of the largest value
// of a row.
void attend_decode(const attention_shape& shape, const decode_plan& plan, attention_types types,
                   std::int32_t multiprocessors, cudaStream_t stream);
// Sequences first_sequence.. of the step, `tokens` query tokens in all or fewer; each of any
// length, 1 too; scale > 0, block_size >= 8. Tensor cores (mma.sync) serve head_dim 64 and 128 in
// bf16 and f16, other kernels f32 and every head_dim that is a multiple of 8 up to 256. A row's
// bits depend on its position and its sequence's keys alone, and not on the pages' type. Bounds: as
// attend_decode's.
void attend_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    attention_types types, cudaStream_t stream);

// The same on Hopper's own instructions (attention_prefill_sm90.cu, built for sm_90a): only where
// prefill_sm90_fits, on a device of compute capability 9.0. A row's bits depend on its position and
// its sequence's keys alone. `shape.positions` is not read: a sequence's queries are its last ones.
bool prefill_sm90_fits(const attention_shape& shape, attention_types types);
void attend_prefill_sm90(const attention_shape& shape, std::int32_t first_sequence,
                         std::int32_t tokens, attention_types types, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
