// SPDX-License-Identifier: Apache-2.0
// The checks of a plan, in the order in which its parts apply.
#include "runtime/shard/slot_table.hpp"

#include <fmt/format.h>

#include <utility>

namespace dinfer::runtime {
namespace {

template <class... Args>
tl::unexpected<error> refuse(errc code, slot_id slot, fmt::format_string<Args...> text,
                             Args&&... args) {
  return fail(code,
              fmt::format("slot {}: {}", slot, fmt::format(text, std::forward<Args>(args)...)));
}

}  // namespace

slot_table::slot_table(shard_limits limits) : limits_(std::move(limits)), slots_(limits_.slots) {
  for (slot_state& s : slots_) s.tables.resize(limits_.blocks.size());
}

result<slot_state*> slot_table::taken(slot_id slot, const char* what) {
  if (slot >= limits_.slots) {
    return refuse(errc::invalid_argument, slot, "{}; there are {} slots", what, limits_.slots);
  }
  if (!slots_[slot].taken) return refuse(errc::mismatch, slot, "{}, but it is free", what);
  return &slots_[slot];
}

result<void> slot_table::check_tokens(slot_id slot, std::span<const token_id> tokens,
                                      const char* what) const {
  for (const token_id t : tokens) {
    if (t < 0 || t >= limits_.vocabulary) {
      return refuse(errc::invalid_argument, slot, "{} {} is outside 0..{}", what, t,
                    limits_.vocabulary - 1);
    }
  }
  return {};
}

result<void> slot_table::release(slot_id slot) {
  DINFER_TRY(slot_state * s, taken(slot, "released"));
  s->taken = false;
  for (auto& table : s->tables) table.clear();
  return {};
}

result<void> slot_table::start(const sequence_start& s) {
  if (s.slot >= limits_.slots) {
    return refuse(errc::invalid_argument, s.slot, "started; there are {} slots", limits_.slots);
  }
  slot_state& slot = slots_[s.slot];
  if (slot.taken) return refuse(errc::mismatch, s.slot, "started, but it is taken");
  if (s.prompt_tokens > limits_.model_len || s.history.size() > limits_.model_len) {
    return refuse(errc::invalid_argument, s.slot, "{} prompt and {} history tokens; at most {} fit",
                  s.prompt_tokens, s.history.size(), limits_.model_len);
  }
  if (s.adapter != 0) {
    return refuse(errc::unsupported, s.slot, "adapter {}; only the base model (0) is loaded",
                  s.adapter);
  }
  DINFER_CHECK(check_tokens(s.slot, s.stop_tokens, "stop token"));
  DINFER_CHECK(check_tokens(s.slot, s.history, "history token"));
  for (const logit_bias& b : s.sampling.logit_biases)
    DINFER_CHECK(check_tokens(s.slot, std::span(&b.token, 1), "biased token"));
  slot.taken = true;
  slot.begun = false;
  slot.next_position = 0;
  slot.stepped_in = slot.drawn_in = slot.token_from = 0;
  return {};
}

result<void> slot_table::append(const block_append& b) {
  DINFER_TRY(slot_state * s, taken(b.slot, "given blocks"));
  if (b.group >= s->tables.size()) {
    return refuse(errc::invalid_argument, b.slot, "KV group {}; there are {}", b.group,
                  s->tables.size());
  }
  auto& table = s->tables[b.group];
  if (b.blocks.size() > limits_.table_width() - table.size()) {
    return refuse(errc::invalid_argument, b.slot, "{} blocks; {} hold the longest sequence",
                  table.size() + b.blocks.size(), limits_.table_width());
  }
  for (const block_id block : b.blocks) {
    if (block < 1 || static_cast<std::uint32_t>(block) > limits_.blocks[b.group]) {
      return refuse(errc::invalid_argument, b.slot, "block {} of group {} is outside 1..{}", block,
                    b.group, limits_.blocks[b.group]);
    }
    if (b.group == 0) entries_.push_back({b.slot, static_cast<std::uint32_t>(table.size()), block});
    table.push_back(block);
  }
  return {};
}

result<void> slot_table::check_rows(const sequence_step& s) const {
  const std::size_t drawn = s.sample ? 1 : 0;
  if (s.logit_rows > s.query_count || s.logit_rows < drawn ||
      s.targets.size() != s.logit_rows - drawn) {
    return refuse(errc::invalid_argument, s.slot,
                  "{} logit rows of {} queries with {} targets and {} draws", s.logit_rows,
                  s.query_count, s.targets.size(), drawn);
  }
  return check_tokens(s.slot, s.targets, "target");
}

result<void> slot_table::advance(const sequence_step& s, step_id step) {
  DINFER_TRY(slot_state * slot, taken(s.slot, "stepped"));
  if (slot->stepped_in == step) return refuse(errc::mismatch, s.slot, "twice in one plan");
  const std::uint64_t end = std::uint64_t{s.first_position} + s.query_count;
  if (s.query_count == 0 || end > limits_.model_len) {
    return refuse(errc::invalid_argument, s.slot, "{} tokens from position {}; at most {} fit",
                  s.query_count, s.first_position, limits_.model_len);
  }
  if (slot->begun && s.first_position != slot->next_position) {
    return refuse(errc::mismatch, s.slot, "position {} planned, but {} is next", s.first_position,
                  slot->next_position);
  }
  for (const auto& table : slot->tables) {
    if (table.size() * limits_.block_size < end) {
      return refuse(errc::mismatch, s.slot, "{} blocks of {} tokens do not hold {} tokens",
                    table.size(), limits_.block_size, end);
    }
  }
  const bool own_token = s.tokens.empty() && s.query_count == 1 && slot->drawn_in != 0;
  if (!own_token && s.tokens.size() != s.query_count) {
    return refuse(errc::mismatch, s.slot, "{} tokens for {} queries", s.tokens.size(),
                  s.query_count);
  }
  DINFER_CHECK(check_tokens(s.slot, s.tokens, "token"));
  DINFER_CHECK(check_rows(s));
  slot->begun = true;
  slot->next_position = static_cast<std::uint32_t>(end);
  slot->stepped_in = step;
  slot->token_from = own_token ? slot->drawn_in : 0;
  if (s.sample) slot->drawn_in = step;
  return {};
}

result<void> slot_table::apply(const step_plan& plan) {
  entries_.clear();
  if (plan.sequences.empty() && !plan.blocks.empty())
    return fail(errc::mismatch, "blocks in a plan without sequences");
  for (const slot_id s : plan.releases) DINFER_CHECK(release(s));
  for (const sequence_start& s : plan.starts) DINFER_CHECK(start(s));
  for (const block_append& b : plan.blocks) DINFER_CHECK(append(b));
  std::uint64_t tokens = 0;
  for (const sequence_step& s : plan.sequences) tokens += s.query_count;
  if (tokens > limits_.batched_tokens || plan.sequences.size() > limits_.slots) {
    return fail(errc::invalid_argument,
                fmt::format("{} sequences and {} tokens in one step; at most {} and {} fit",
                            plan.sequences.size(), tokens, limits_.slots, limits_.batched_tokens));
  }
  for (const sequence_step& s : plan.sequences) DINFER_CHECK(advance(s, plan.step));
  return {};
}

}  // namespace dinfer::runtime
