// SPDX-License-Identifier: Apache-2.0
// Memory of the GPUs of one host that each may write to at the others, for sums of our own beside
// NCCL's. Made while a group joins, by all of its ranks or by none. Thread: what joins, then the
// rank's own; abort() and missing() from any.
#pragma once

#include "kernels/communicator.hpp"
#include "kernels/cuda/peer_sum.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace dinfer::kernels::cuda {

// A process of this host, as long as it runs; not one that has its number later.
struct process_name {
  std::int64_t number = 0, started = 0;
  bool operator==(const process_name&) const = default;
};
process_name this_process();
bool runs(const process_name& process);

class peer_memory {
 public:
  // Tells `bytes` bytes of the host's to all ranks of the group and gets theirs, in rank order.
  // False once the group was aborted or has failed.
  using tell_all = std::function<bool(const void* mine, void* of_all, std::size_t bytes)>;

  // Every rank of the group at once, with GPU `index` the current one; null on every rank unless
  // all are of one host, reach each other's memory, and nothing forbids it (docs/OPERATING.md).
  // Null on this one alone where tell_all failed.
  static std::shared_ptr<peer_memory> meet(int index, const group_place& place,
                                           const tell_all& tell);
  // After leave(), or without a kernel ever launched. Waits for nobody.
  ~peer_memory();
  peer_memory(const peer_memory&) = delete;
  peer_memory& operator=(const peer_memory&) = delete;

  const peer_group& group() const noexcept { return group_; }
  // How a sum of `bytes` goes; the same on every rank.
  sum_way way_of(std::int64_t bytes) const { return way_of_sum(group_.ranks, bytes, forced_); }

  // Kernels that wait for peers end, some milliseconds later.
  void abort() noexcept;
  // The rank that a kernel has waited for too long, or -1; -1 once the group was aborted. What was
  // computed since means nothing.
  std::int32_t missing() const noexcept;
  // After abort(): waits, in bounds, until the kernels in `stream` have ended, and tells the peers.
  void leave(cudaStream_t stream) noexcept;

 private:
  struct peer {
    process_name process;
    void* opened = nullptr;  // memory of another process, as it lies in this one
  };
  struct greeting;
  struct parked;

  peer_memory(int index, const group_place& place);
  void prepare();
  greeting introduce();
  bool reach(const std::vector<greeting>& all);
  static std::vector<parked>& parking();
  static void free_parked(int index);

  int index_;
  peer_group group_;
  std::optional<sum_way> forced_;
  std::vector<peer> peers_;  // by rank
  bool shared_ = false;      // peers may write to this memory
  bool left_ = false;
};

// missing() of the groups of GPU `index`, for whoever waits for that GPU. Any thread.
std::int32_t missing_peer(int index) noexcept;

}  // namespace dinfer::kernels::cuda
