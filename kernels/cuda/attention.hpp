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

// How the decode kernel cuts its work; planned on the device once a step, since a recorded step is
// replayed with other lengths.
struct decode_plan {
  std::int32_t chunk = 0;           // keys of a piece of work, a multiple of 64; fixed for a device
  std::int32_t most_sequences = 0;  // what the buffers below hold
  std::int32_t most_chunks = 0;     // of one sequence
  std::int32_t* work = nullptr;     // [1 + most_sequences + 1]: see attention_decode.cu
  float* partial = nullptr;         // merge space
  std::int32_t* tickets = nullptr;  // [most_sequences * kv_heads], zero between launches
};

// Bytes of a decode_plan's three buffers, for the largest step.
struct decode_space {
  std::size_t work_bytes = 0, partial_bytes = 0, ticket_bytes = 0;
};
decode_space decode_space_for(std::int32_t most_sequences, std::int64_t most_context,
                              std::int32_t query_heads, std::int32_t kv_heads,
                              std::int32_t head_dim, std::int32_t chunk);

// Once a step, from `context`: fills plan.work.
void plan_decode(const decode_plan& plan, const std::int32_t* context, std::int32_t decodes,
                 cudaStream_t stream);
// The first shape.decodes sequences. `type`: of activations and pages.
void attend_decode(const attention_shape& shape, const decode_plan& plan, dtype type,
                   std::int32_t multiprocessors, cudaStream_t stream);
// Sequences first_sequence.. of the step, `tokens` query tokens in all; each of any length, 1 too.
void attend_prefill(const attention_shape& shape, std::int32_t first_sequence, std::int32_t tokens,
                    dtype type, cudaStream_t stream);

// The same on Hopper's own instructions (attention_prefill_sm90.cu, built for sm_90a): only where
// prefill_sm90_fits, on a device of compute capability 9.0. A row's bits depend on its position and
// its sequence's keys alone. `shape.positions` is not read: a sequence's queries are its last ones.
bool prefill_sm90_fits(const attention_shape& shape, dtype type);
void attend_prefill_sm90(const attention_shape& shape, std::int32_t first_sequence,
                         std::int32_t tokens, dtype type, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
