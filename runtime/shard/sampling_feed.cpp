// SPDX-License-Identifier: Apache-2.0
// Counting of tokens by position, so that none is counted twice.
#include "runtime/shard/sampling_feed.hpp"

#include <algorithm>

namespace dinfer::runtime {

void sampling_feed::start(const sequence_start& s) {
  seat& seat = seats_[s.slot];
  seat.params = s.sampling;
  seat.stop_tokens = s.stop_tokens;
  seat.prompt_tokens = s.prompt_tokens;
  seat.counted = 0;
  seat.drawn = false;
  sampler_->start(s.slot, seat.params, seat.stop_tokens);
  if (seat.params.penalised()) count(seat, s.slot, 0, s.history);
}

void sampling_feed::count(seat& seat, std::uint32_t slot, std::uint32_t first,
                          std::span<const token_id> tokens) {
  const auto end = first + static_cast<std::uint32_t>(tokens.size());
  const std::uint32_t begin = std::max(first, seat.counted);
  if (begin >= end) return;
  const std::uint32_t border = std::clamp(seat.prompt_tokens, begin, end);
  const auto part = [&](std::uint32_t from, std::uint32_t to, bool output) {
    if (from < to) sampler_->observe(slot, tokens.subspan(from - first, to - from), output);
  };
  part(begin, border, false);
  part(border, end, true);
  seat.counted = end;
}

// A sequence that came back has drawn tokens that an unpenalised sampler was never told of;
// min_tokens must still count them.
void sampling_feed::first_draw(seat& seat, std::uint32_t slot, std::uint32_t position) {
  seat.drawn = true;
  const bool told = seat.params.penalised();
  if (told || seat.params.min_tokens == 0 || position <= seat.prompt_tokens) return;
  seat.params.min_tokens -= std::min(seat.params.min_tokens, position - seat.prompt_tokens);
  sampler_->start(slot, seat.params, seat.stop_tokens);
}

void sampling_feed::begin(const step_plan& plan) {
  for (const sequence_start& s : plan.starts) start(s);
  for (const sequence_step& s : plan.sequences) {
    seat& seat = seats_[s.slot];
    if (seat.params.penalised()) count(seat, s.slot, s.first_position, s.tokens);
    if (!s.sample) continue;
    const std::uint32_t position = s.first_position + s.query_count;
    if (!seat.drawn) first_draw(seat, s.slot, position);
    seat.counted = position + 1;
  }
}

}  // namespace dinfer::runtime
