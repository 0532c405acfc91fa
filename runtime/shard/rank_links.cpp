// SPDX-License-Identifier: Apache-2.0
// Joining and leaving of a rank's groups. Stages are joined before lanes, on every rank: a group
// that waits for a member never waits for one that waits in another group.
#include "runtime/shard/rank_links.hpp"

#include "runtime/shard/rank_card.hpp"

#include <fmt/format.h>

#include <utility>

namespace dinfer::runtime {

using kernels::device_error;

result<std::string> rank_links::card() {
  aborted_ = false;  // here, so that an abort between this and join() is not lost
  rank_card own;
  try {  // a group is founded by the card of its first member
    if (tp_size_ > 1 && tp_rank_ == 0) own.stage_group = device_->make_group_id();
    if (stages_ > 1 && stage_ == 0) own.lane_group = device_->make_group_id();
  } catch (const device_error& e) {
    return tl::unexpected(located(e));
  }
  if (wires_ != nullptr) {
    DINFER_TRY(own.host, wires_->card());
  }
  std::string text = write_rank_card(own);
  if (text.size() > most_card_bytes)
    return fail(errc::internal, fmt::format("rank {}: a card of {} bytes", rank_, text.size()));
  return text;
}

// The hosts of a group.
result<rank_links::group> rank_links::meet(const place& at, std::chrono::milliseconds deadline) {
  if (at.cards.size() == 1) return nullptr;
  if (wires_ == nullptr) {
    return fail(errc::invalid_argument, fmt::format("rank {}: {} ranks in {}, but no transport",
                                                    rank_, at.cards.size(), at.name));
  }
  return wires_->join(at.name, at.cards, at.index, {deadline, &aborted_});
}

// Its devices.
rank_links::group rank_links::join_devices(const std::string& id, const place& at,
                                           bool neighbours) {
  return device_->join_group(
      {id, at.index, static_cast<std::int32_t>(at.cards.size()), neighbours, timeout_, &aborted_});
}

result<void> rank_links::join(std::span<const std::string> cards,
                              std::chrono::milliseconds deadline) {
  const auto all = static_cast<std::size_t>(std::int64_t{stages_} * tp_size_);
  if (cards.size() != all) {
    return fail(errc::mismatch, fmt::format("rank {}: {} cards for {} stages of {} ranks", rank_,
                                            cards.size(), stages_, tp_size_));
  }
  group met, tp, pipe, returns;  // the old ones go without the lock: NCCL's takes its time
  {
    const std::lock_guard lock(mutex_);
    met = std::move(met_);
    tp = std::move(tp_);
    pipe = std::move(pipe_);
    returns = std::move(returns_);
  }
  met.reset(), tp.reset(), pipe.reset(), returns.reset();
  try {
    return join_all(cards, deadline);
  } catch (const device_error& e) {
    return tl::unexpected(located(e));
  }
}

result<void> rank_links::join_all(std::span<const std::string> cards,
                                  std::chrono::milliseconds deadline) {
  place stage{fmt::format("stage {}", stage_), {}, tp_rank_};
  place lane{fmt::format("lane {}", tp_rank_), {}, stage_};
  std::string stage_group, lane_group;
  for (std::size_t i = 0; i < cards.size(); ++i) {
    DINFER_TRY(rank_card one, read_rank_card(cards[i]));
    const auto rank = static_cast<std::int32_t>(i);
    if (rank == stage_ * tp_size_) stage_group = one.stage_group;
    if (rank == tp_rank_) lane_group = one.lane_group;
    if (rank / tp_size_ == stage_) stage.cards.push_back(one.host);
    if (rank % tp_size_ == tp_rank_) lane.cards.push_back(std::move(one.host));
  }
  const place beside{fmt::format("returns {}", tp_rank_), lane.cards, stage_};
  group met, tp, pipe, returns;
  DINFER_TRY(tp, meet(stage, deadline));
  DINFER_TRY(returns, meet(beside, deadline));
  if (!stage_group.empty() && tp) {
    met = std::exchange(tp, nullptr);
    tp = join_devices(stage_group, stage, false);
  }
  if (!lane_group.empty() && returns) {
    pipe = join_devices(lane_group, lane, true);
  } else {
    DINFER_TRY(pipe, meet(lane, deadline));
  }
  const std::lock_guard lock(mutex_);
  met_ = std::move(met);
  tp_ = std::move(tp);
  pipe_ = std::move(pipe);
  returns_ = std::move(returns);
  if (aborted_) return fail(errc::cancelled, fmt::format("rank {}: joining was aborted", rank_));
  return {};
}

// A failure in `work` is a neighbour's in the pipe: its peers are stages.
template <class Work>
void rank_links::in_lane(Work work) const {
  try {
    work();
  } catch (const device_error& e) {
    if (e.peer() < 0) throw;
    const std::int32_t peer = e.peer() * tp_size_ + tp_rank_;
    throw device_error(e.code(), fmt::format("{}; waited for rank {}", e.what(), peer));
  }
}

void rank_links::reset(std::uint32_t epoch) {
  aborted_ = false;
  if (met_) met_->reset(epoch);
  if (tp_) tp_->reset(epoch);
  if (!piped()) return;
  in_lane([&] { returns_->reset(epoch), pipe_->reset(epoch); });
}

void rank_links::abort() noexcept {
  aborted_ = true;  // first: whoever is woken asks
  const std::lock_guard lock(mutex_);
  for (const group* one : {&met_, &tp_, &pipe_, &returns_}) {
    if (*one) (*one)->abort();
  }
}

void rank_links::send_hidden(kernels::tensor hidden) {
  in_lane([&] { pipe_->send(hidden, stage_ + 1); });
}

void rank_links::take_hidden(kernels::tensor hidden) {
  in_lane([&] { pipe_->recv(hidden, stage_ - 1); });
}

void rank_links::return_tokens(kernels::tensor tokens) {
  in_lane([&] { returns_->send(tokens, 0); });
}

void rank_links::take_tokens(kernels::tensor tokens) {
  in_lane([&] { returns_->recv(tokens, stages_ - 1); });
}

void rank_links::check() const {
  if (aborted_) throw device_error(errc::cancelled, "the group was aborted");
}

error rank_links::located(const device_error& failure) const {
  std::string text =
      fmt::format("rank {} (stage {}, tp rank {}): {}", rank_, stage_, tp_rank_, failure.what());
  if (failure.peer() >= 0)
    text += fmt::format("; waited for rank {}", stage_ * tp_size_ + failure.peer());
  return {failure.code(), std::move(text), {}};
}

}  // namespace dinfer::runtime
