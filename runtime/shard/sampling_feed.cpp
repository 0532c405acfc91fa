// SPDX-License-Identifier: Apache-2.0
// Counting of tokens by position, so that none is counted twice.
#include "runtime/shard/sampling_feed.hpp"

#include <algorithm>

namespace dinfer::runtime {

void sampling_feed::start(const sequence_start& s) {
  seat& own = seats_[s.slot];
  own.params = s.sampling;
  own.stop_tokens = s.stop_tokens;
  own.prompt_tokens = s.prompt_tokens;
  own.counted = 0;
  own.drawn = false;
  sampler_->start(s.slot, own.params, own.stop_tokens);
  if (own.params.penalised()) count(own, s.slot, 0, s.history);
}

void sampling_feed::count(seat& own, std::uint32_t slot, std::uint32_t first,
                          std::span<const token_id> tokens) {
  const auto end = first + static_cast<std::uint32_t>(tokens.size());
  const std::uint32_t begin = std::max(first, own.counted);
  if (begin >= end) return;
  const std::uint32_t border = std::clamp(own.prompt_tokens, begin, end);
  const auto part = [&](std::uint32_t from, std::uint32_t to, bool output) {
    if (from < to) sampler_->observe(slot, tokens.subspan(from - first, to - from), output);
  };
  part(begin, border, false);
  part(border, end, true);
  own.counted = end;
}

// A sequence that came back has drawn tokens that an unpenalised sampler was never told of;
// min_tokens must still count them.
void sampling_feed::first_draw(seat& own, std::uint32_t slot, std::uint32_t position) {
  own.drawn = true;
  const bool told = own.params.penalised();
  if (told || own.params.min_tokens == 0 || position <= own.prompt_tokens) return;
  own.params.min_tokens -= std::min(own.params.min_tokens, position - own.prompt_tokens);
  sampler_->start(slot, own.params, own.stop_tokens);
}

void sampling_feed::begin(const step_plan& plan) {
  for (const sequence_start& s : plan.starts) start(s);
  for (const sequence_step& s : plan.sequences) {
    seat& own = seats_[s.slot];
    if (own.params.penalised()) count(own, s.slot, s.first_position, s.tokens);
    if (!s.sample) continue;
    const std::uint32_t position = s.first_position + s.query_count;
    if (!own.drawn) first_draw(own, s.slot, position);
    own.counted = position + 1;
  }
}

}  // namespace dinfer::runtime
