// SPDX-License-Identifier: Apache-2.0
// Joining and leaving of a rank's groups.
#include "runtime/shard/rank_links.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace dinfer::runtime {

result<std::string> rank_links::card() {
  if (wires_ == nullptr) return std::string();
  return wires_->card();
}

result<std::unique_ptr<kernels::communicator>> rank_links::meet(
    const std::string& group, std::span<const std::string> cards, std::int32_t index,
    std::chrono::milliseconds deadline) {
  if (cards.size() == 1) return nullptr;
  if (wires_ == nullptr) {
    return fail(errc::invalid_argument, fmt::format("rank {}: {} ranks in {}, but no transport",
                                                    rank_, cards.size(), group));
  }
  return wires_->join(group, cards, index, deadline);
}

result<void> rank_links::join(std::span<const std::string> cards,
                              std::chrono::milliseconds deadline) {
  const auto all = static_cast<std::size_t>(std::int64_t{stages_} * tp_size_);
  if (cards.size() != all) {
    return fail(errc::mismatch, fmt::format("rank {}: {} cards for {} stages of {} ranks", rank_,
                                            cards.size(), stages_, tp_size_));
  }
  {
    const std::lock_guard lock(mutex_);
    tp_.reset();
    pipe_.reset();
  }
  const auto width = static_cast<std::size_t>(tp_size_);
  const auto own_stage = cards.subspan(static_cast<std::size_t>(stage_) * width, width);
  std::vector<std::string> lane;
  for (std::size_t i = static_cast<std::size_t>(tp_rank_); i < all; i += width)
    lane.push_back(cards[i]);
  try {
    DINFER_TRY(auto tp, meet(fmt::format("stage {}", stage_), own_stage, tp_rank_, deadline));
    DINFER_TRY(auto pipe, meet(fmt::format("lane {}", tp_rank_), lane, stage_, deadline));
    const std::lock_guard lock(mutex_);
    tp_ = std::move(tp);
    pipe_ = std::move(pipe);
  } catch (const kernels::device_error& e) {
    return tl::unexpected(located(e));
  }
  return {};
}

void rank_links::reset(std::uint32_t epoch) {
  if (tp_) tp_->reset(epoch);
  if (pipe_) through_pipe([&](kernels::communicator& pipe) { pipe.reset(epoch); });
}

void rank_links::abort() noexcept {
  const std::lock_guard lock(mutex_);
  if (tp_) tp_->abort();
  if (pipe_) pipe_->abort();
}

error rank_links::located(const kernels::device_error& failure) {
  std::string text =
      fmt::format("rank {} (stage {}, tp rank {}): {}", rank_, stage_, tp_rank_, failure.what());
  const bool piped = std::exchange(in_pipe_, false);
  if (failure.peer() >= 0) {
    const std::int32_t peer =
        piped ? failure.peer() * tp_size_ + tp_rank_ : stage_ * tp_size_ + failure.peer();
    text += fmt::format("; waited for rank {}", peer);
  }
  return {failure.code(), std::move(text), {}};
}

}  // namespace dinfer::runtime
