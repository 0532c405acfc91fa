// SPDX-License-Identifier: Apache-2.0
// A rank's two ways to its peers: the tensor-parallel group of its stage, and the pipe of the ranks
// that hold the same tensor-parallel place in every stage. Names the ranks when one of them fails.
// Thread: the shard's, but for abort().
#pragma once

#include "dinfer/error.hpp"
#include "kernels/communicator.hpp"
#include "kernels/device.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/runner.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace dinfer::runtime {

class rank_links {
 public:
  // `wires` may be null for a rank that is alone.
  rank_links(const rank_layout& layout, std::unique_ptr<transport> wires)
      : rank_(layout.rank),
        stage_(layout.stage),
        stages_(layout.stages),
        tp_rank_(layout.tp_rank),
        tp_size_(layout.tp_size),
        wires_(std::move(wires)) {}

  result<std::string> card();
  // Leaves both groups and joins them anew. `cards[rank]` of the whole cluster.
  result<void> join(std::span<const std::string> cards, std::chrono::milliseconds deadline);
  // Forgets what is in flight; the peers meet. Throws device_error.
  void reset(std::uint32_t epoch);
  void abort() noexcept;  // any thread

  kernels::communicator* tp() noexcept { return tp_.get(); }  // null: alone in the stage
  bool piped() const noexcept { return pipe_ != nullptr; }    // there are several stages
  // Runs `work(pipe)`; a failure inside is the neighbouring stage's.
  template <class Work>
  void through_pipe(Work work) {
    in_pipe_ = true;
    work(*pipe_);
    in_pipe_ = false;
  }

  // A device's or collective's failure with the ranks concerned. Ends through_pipe().
  error located(const kernels::device_error& failure);

 private:
  result<std::unique_ptr<kernels::communicator>> meet(const std::string& group,
                                                      std::span<const std::string> cards,
                                                      std::int32_t index,
                                                      std::chrono::milliseconds deadline);

  std::int32_t rank_, stage_, stages_, tp_rank_, tp_size_;
  std::unique_ptr<transport> wires_;
  std::mutex mutex_;  // guards the pointers against abort()
  std::unique_ptr<kernels::communicator> tp_, pipe_;
  bool in_pipe_ = false;
};

}  // namespace dinfer::runtime
