// SPDX-License-Identifier: Apache-2.0
// A rank's ways to its peers: the tensor-parallel group of its stage, the pipe of the ranks that
// hold the same tensor-parallel place in every stage, and beside it the way of drawn tokens from
// the last stage to the first, in host memory. Names the ranks when one of them fails. Tensors of
// devices with groups of their own (NCCL) travel in these; their hosts meet first, so that whoever
// is missing has a name. Thread: the shard's, but for abort() and what says otherwise.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/communicator.hpp"
#include "kernels/device.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/runner.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

class rank_links {
 public:
  // `wires` may be null for a rank that is alone. `timeout`: of a wait for a peer.
  rank_links(kernels::device& device, const rank_layout& layout, std::unique_ptr<transport> wires,
             std::chrono::milliseconds timeout)
      : device_(&device),
        rank_(layout.rank),
        stage_(layout.stage),
        stages_(layout.stages),
        tp_rank_(layout.tp_rank),
        tp_size_(layout.tp_size),
        wires_(std::move(wires)),
        timeout_(timeout) {}

  // Serves one join().
  result<std::string> card();
  // Leaves all groups and joins them anew. `cards[rank]` of the whole cluster. An abort() after
  // card() ends it: cancelled.
  result<void> join(std::span<const std::string> cards, std::chrono::milliseconds deadline);
  // Forgets what is in flight; the peers meet. Throws device_error.
  void reset(std::uint32_t epoch);
  void abort() noexcept;  // any thread

  kernels::communicator* tp() noexcept { return tp_.get(); }  // null: alone in the stage
  bool piped() const noexcept { return stages_ > 1; }
  // Of several stages, throws device_error with the neighbour's rank in its text.
  void send_hidden(kernels::tensor hidden);  // to the next stage
  void take_hidden(kernels::tensor hidden);  // from the one before
  // In host memory, from the last stage to the first. Each end on one thread at a time.
  void return_tokens(kernels::tensor tokens);
  void take_tokens(kernels::tensor tokens);

  // Throws device_error{cancelled} once abort() was called: what the device has computed since
  // means nothing. Any thread.
  void check() const;
  // A device's or collective's failure with the ranks concerned. Any thread.
  error located(const kernels::device_error& failure) const;

 private:
  using group = std::unique_ptr<kernels::communicator>;
  struct place {
    std::string name;  // "stage 0"
    std::vector<std::string> cards;
    std::int32_t index = 0;
  };
  result<void> join_all(std::span<const std::string> cards, std::chrono::milliseconds deadline);
  result<group> meet(const place& at, std::chrono::milliseconds deadline);
  group join_devices(const std::string& id, const place& at, bool neighbours);
  template <class Work>
  void in_lane(Work work) const;

  kernels::device* device_;
  std::int32_t rank_, stage_, stages_, tp_rank_, tp_size_;
  std::unique_ptr<transport> wires_;
  std::chrono::milliseconds timeout_;
  std::atomic<bool> aborted_ = false;
  std::mutex mutex_;  // guards the pointers against abort()
  group met_;         // the stage's hosts, where their devices have a group of their own
  group tp_, pipe_;   // of tensors
  group returns_;     // of tokens
};

}  // namespace dinfer::runtime
