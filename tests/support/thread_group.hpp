// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of a test, over host memory: what one gives, all take. Waits at most ten
// seconds. Supports what tests need: gathering, sums of f32, and messages.
#pragma once

#include "kernels/communicator.hpp"
#include "kernels/device.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace dinfer::tests {

class thread_group {
 public:
  explicit thread_group(std::int32_t size) : given_(static_cast<std::size_t>(size)) {}

  std::int32_t size() const { return static_cast<std::int32_t>(given_.size()); }

  // What every rank gave, once all have.
  std::vector<std::vector<std::byte>> meet(std::int32_t rank, const void* data,
                                           std::int64_t bytes) {
    std::unique_lock lock(mutex_);
    const auto* from = static_cast<const std::byte*>(data);
    given_[static_cast<std::size_t>(rank)].assign(from, from + bytes);
    const auto round = round_;
    if (++here_ == size()) {
      taken_ = given_;
      here_ = 0;
      ++round_;
      changed_.notify_all();
    }
    wait(lock, [&] { return round_ != round; });
    return taken_;
  }

  void send(std::pair<std::int32_t, std::int32_t> way, const void* data, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto* from = static_cast<const std::byte*>(data);
    messages_[way].emplace_back(from, from + bytes);
    changed_.notify_all();
  }
  std::vector<std::byte> receive(std::pair<std::int32_t, std::int32_t> way) {
    std::unique_lock lock(mutex_);
    wait(lock, [&] { return !messages_[way].empty(); });
    auto message = std::move(messages_[way].front());
    messages_[way].pop_front();
    return message;
  }

  void abort() noexcept {
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
  }

 private:
  template <class Ready>
  void wait(std::unique_lock<std::mutex>& lock, Ready ready) {
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(10), [&] { return aborted_ || ready(); });
    if (aborted_) throw kernels::device_error(errc::cancelled, "thread_group: aborted");
    if (!came) throw kernels::device_error(errc::timeout, "thread_group: a rank did not come");
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<std::byte>> given_, taken_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::deque<std::vector<std::byte>>> messages_;
  std::int32_t here_ = 0;
  std::uint64_t round_ = 0;
  bool aborted_ = false;
};

class thread_communicator final : public kernels::communicator {
 public:
  thread_communicator(std::shared_ptr<thread_group> group, std::int32_t rank)
      : group_(std::move(group)), rank_(rank) {}

  std::int32_t rank() const noexcept override { return rank_; }
  std::int32_t size() const noexcept override { return group_->size(); }

  void all_gather(kernels::tensor in, kernels::tensor out) override {
    auto* to = out.as<std::byte>();
    for (const auto& part : group_->meet(rank_, in.data, in.bytes())) {
      std::memcpy(to, part.data(), part.size());
      to += part.size();
    }
  }
  void all_reduce(kernels::tensor inout) override {
    auto* sum = inout.as<float>();
    const auto parts = group_->meet(rank_, inout.data, inout.bytes());
    for (std::int64_t i = 0; i < inout.elements(); ++i) {
      float total = 0;
      for (const auto& part : parts) {
        float value = 0;
        std::memcpy(&value, part.data() + i * 4, sizeof value);
        total += value;
      }
      sum[i] = total;
    }
  }
  void send(kernels::tensor in, std::int32_t peer) override {
    group_->send({rank_, peer}, in.data, in.bytes());
  }
  void recv(kernels::tensor out, std::int32_t peer) override {
    const auto message = group_->receive({peer, rank_});
    std::memcpy(out.data, message.data(), message.size());
  }
  void reduce_scatter(kernels::tensor, kernels::tensor) override { refuse(); }
  void all_to_all(kernels::tensor, kernels::tensor) override { refuse(); }
  void broadcast(kernels::tensor, std::int32_t) override { refuse(); }
  void abort() noexcept override { group_->abort(); }
  void reset(std::uint32_t) override { group_->meet(rank_, nullptr, 0); }

 private:
  [[noreturn]] static void refuse() {
    throw kernels::device_error(errc::unsupported, "thread_group: not among what tests need");
  }
  std::shared_ptr<thread_group> group_;
  std::int32_t rank_;
};

}  // namespace dinfer::tests
