// SPDX-License-Identifier: Apache-2.0
// The arithmetic of drawing from one row of logits, in the order that request.hpp gives. Pure: a
// row's result depends on the row, the parameters and the position alone. Any thread.
#pragma once

#include "dinfer/request.hpp"
#include "kernels/cpu/vector/kernels.hpp"

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace dinfer::kernels::cpu {

// What a sequence has seen, for penalties.
struct token_history {
  struct counts {
    bool prompt = false;
    std::uint32_t output = 0;
  };
  std::unordered_map<token_id, counts> tokens;  // kept only when the sequence is penalised
  std::uint32_t drawn = 0;                      // output tokens in all
};

// A stretch of the vocabulary: x[0] belongs to token `first`.
struct logit_span {
  std::span<float> x;
  token_id first = 0;
};

struct candidate {
  float value = 0;
  token_id token = 0;
};

// Larger values first, then lower ids.
inline bool better(const candidate& a, const candidate& b) noexcept {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// NaN becomes -infinity, and +infinity a large number, so that differences are numbers.
void make_finite(std::span<float> x);
// Bias, penalties, and stop tokens that min_tokens forbids.
void adjust(logit_span row, const sampling_params& params, std::span<const token_id> stop_tokens,
            const token_history& history);

// The best token of a greedy or unfiltered row; x is destroyed. Rows may be cut anywhere: the best
// of the parts' candidates is the whole's. Value -infinity: no token can be drawn.
candidate draw_plain(const kernel_table& kernels, logit_span row, const sampling_params& params,
                     std::int64_t position);
// The same for a filtered row, which must be whole.
token_id draw_filtered(const kernel_table& kernels, std::span<float> x,
                       const sampling_params& params, std::int64_t position);

// Log-probabilities of a whole row: of `token`, and of the `top` best.
sampled_token report(const kernel_table& kernels, std::span<const float> x, token_id token,
                     std::int32_t top);

}  // namespace dinfer::kernels::cpu
