// SPDX-License-Identifier: Apache-2.0
// Drawing tokens on a GPU: what its kernels keep per slot, what they are given, and their
// launchers. sampler.cpp drives them. Host code; the launches are asynchronous on `stream` and
// throw device_error.
//
// Two kernels draw. Simple rows (sample_simple.cu) are cut over many blocks; all others
// (sample_row.cu) get one block each. Both look at every row and take their own, so that a row's
// token never depends on the rows beside it. Where ranks hold parts of the vocabulary, the best of
// each part is enough for simple rows; all others are put together first (sample_shards.cu).
#pragma once

#include "kernels/sampler.hpp"
#include "kernels/weight.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

inline constexpr std::int32_t most_biases = 1024;      // of one sequence
inline constexpr std::int32_t most_stop_tokens = 512;  // that min_tokens forbids
inline constexpr std::int32_t most_vocabulary = 1 << 22;

// Token counts of a penalised sequence: 15 bits of drawn ones, and whether the prompt had it.
inline constexpr std::uint32_t seen_in_prompt = 0x8000, most_counted = 0x7FFF;

// What a sequence asked for, ready for use.
struct slot_params {
  std::uint64_t seed = 0;
  float scale = 1;         // of logits before noise and filters: 1 / temperature
  float top_p = 1;         // 1: off
  float least_depth = 0;   // min_p: kept when (logit - best) * scale is not less; -infinity: off
  std::int32_t top_k = 0;  // 0: off
  float repetition = 1, presence = 0, frequency = 0;
  std::uint32_t min_tokens = 0;
  std::int32_t logprobs = -1, prompt_logprobs = -1;
  std::int32_t biases = 0, stops = 0;  // how many
  bool greedy = true, filtered = false, penalised = false;
};

// Whether the best of the row, or of the row with noise, is the token. `drawn`: output tokens so
// far.
DINFER_HOST_DEVICE inline bool simple_row(const slot_params& p, std::uint32_t drawn,
                                          std::int32_t target) {
  return target < 0 && p.logprobs < 0 && (p.greedy || !p.filtered) && p.biases == 0 &&
         !p.penalised && (p.stops == 0 || drawn >= p.min_tokens);
}

struct token_bias {
  std::int32_t token = 0;
  float bias = 0;
};

// Device memory of all slots; the last one, `slots`, is for padding. By value into every kernel.
struct slot_arrays {
  slot_params* params = nullptr;    // [slots + 1]
  std::int32_t* last = nullptr;     // [slots + 1]
  std::uint32_t* drawn = nullptr;   // [slots + 1]: output tokens
  token_bias* biases = nullptr;     // [slots, most_biases], by token; equal tokens side by side
  std::int32_t* stops = nullptr;    // [slots, most_stop_tokens]
  std::uint16_t* counts = nullptr;  // [slots, counts_width], kept for penalised sequences
  std::int64_t counts_width = 0;    // the vocabulary, rounded up to 16 bytes; the rest is zeros
  std::int32_t slots = 0, vocabulary = 0;
};

// What the host has to say of one slot. `payload` is where its words begin: biases, stop tokens,
// prompt tokens, output tokens. Biases and stop tokens come with `started` alone.
struct slot_update {
  slot_params params;  // if started
  std::uint32_t slot = 0;
  std::int32_t last = 0;                   // if has_last
  std::uint32_t drawn = 0;                 // to be added
  std::uint32_t prompts = 0, outputs = 0;  // tokens in the payload, for penalties
  std::uint32_t payload = 0;
  bool started = false, has_last = false;
};

// Rows to draw, all in device memory: sample_args without its host parts.
struct draw_rows {
  float* logits = nullptr;  // [rows, vocabulary]
  std::int32_t rows = 0;
  const std::int32_t* slots = nullptr;
  const std::int32_t* positions = nullptr;
  const std::int32_t* targets = nullptr;  // null: none has one
  std::int32_t* tokens = nullptr;
  float* logprobs = nullptr;
  std::int32_t* top_tokens = nullptr;  // [rows, most_top]
  float* top_logprobs = nullptr;       // [rows, most_top]
};

// Where the blocks of one simple row meet. Zeros between launches.
inline constexpr std::int32_t most_draw_rows = 1024;  // of one launch
struct draw_meeting {
  unsigned long long* best = nullptr;  // [most_draw_rows]
  std::uint32_t* tickets = nullptr;    // [most_draw_rows]
};

// One rank's part of the vocabulary: [first, first + width).
struct vocabulary_shard {
  std::int32_t first = 0, width = 0;
};

// One update per slot at most; updates and payload in device memory.
void apply_updates(const slot_arrays& slots, const slot_update* updates,
                   const std::uint32_t* payload, std::int32_t count, cudaStream_t stream);
// ids[i] = last token of row_slots[i] where ids[i] < 0.
void fill_last(const slot_arrays& slots, std::int32_t* ids, const std::int32_t* row_slots,
               std::int64_t count, cudaStream_t stream);
// Rows that are simple_row, and padding. At most most_draw_rows rows.
void draw_simple(const slot_arrays& slots, const draw_rows& rows, const draw_meeting& meeting,
                 cudaStream_t stream);
// All others. Logits are changed.
void draw_others(const slot_arrays& slots, const draw_rows& rows, cudaStream_t stream);

// Of rows that are simple_row: the best candidate of a shard, as a word that is larger the better
// it is. rows.logits is [rows, shard.width]; best [rows]: 0 for padding, and where there is none.
void best_of_shard(const slot_arrays& slots, const draw_rows& rows, const draw_meeting& meeting,
                   vocabulary_shard shard, unsigned long long* best, cudaStream_t stream);
// Draws such rows from what all ranks found; found [ranks, rows].
void draw_best(const slot_arrays& slots, const draw_rows& rows, const unsigned long long* found,
               std::int32_t ranks, cudaStream_t stream);
// to[r][c] = from[r][c].
void copy_columns(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride,
                  std::int32_t rows, std::int32_t columns, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
