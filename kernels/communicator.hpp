// SPDX-License-Identifier: Apache-2.0
// A fixed group of ranks that move tensors between their devices. It stands in this room, although
// the rooms to the right implement it, because fused operations (all-reduce + residual + norm) take
// one. Implementations: shared memory, TCP and threads of one process (net/comm), NCCL (the CUDA
// plugin).
//
// Every rank of a group must call the same operations in the same order; send pairs with recv in
// order per pair. All calls block until the local tensor may be reused (CPU) or are enqueued on the
// device's stream (CUDA). Every rank holds bit-identical sums: taken in rank order, by NCCL in an
// order of its own. Thread: the rank's own, one at a time. Errors: device_error (device.hpp) with
// code timeout or peer_lost, naming the peer rank that was waited for; after one, only reset() may
// be called. On a GPU a peer that does not come shows where the device is waited for.
#pragma once

#include "kernels/tensor.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace dinfer::kernels {

// A rank's place in a group that its device joins by itself.
struct group_place {
  std::string id;  // of make_group_id(), of one member
  std::int32_t rank = 0, size = 1;
  bool neighbours = false;  // members will send to the next one and receive from the one before
  std::chrono::milliseconds deadline{10'000};  // of joining, and of every later wait for a peer
  const std::atomic<bool>* aborted = nullptr;  // set by any thread, it ends joining: cancelled
};

class communicator {
 public:
  virtual ~communicator() = default;

  virtual std::int32_t rank() const noexcept = 0;
  virtual std::int32_t size() const noexcept = 0;
  // What tensors travel on, for people: "shared memory", "TCP", "NCCL".
  virtual std::string_view wires() const noexcept { return {}; }

  virtual void all_reduce(tensor inout) = 0;  // f32, bf16, f16: sum
  virtual void all_gather(tensor in,
                          tensor out) = 0;  // out: size() blocks of in.bytes(), in rank order
  virtual void reduce_scatter(tensor in, tensor out) = 0;  // in: size() blocks of out.elements()
  virtual void all_to_all(tensor in, tensor out) = 0;      // both: size() equal blocks
  virtual void broadcast(tensor inout, std::int32_t root) = 0;
  virtual void send(tensor in, std::int32_t peer) = 0;  // buffered: returns once `in` may be reused
  virtual void recv(tensor out, std::int32_t peer) = 0;

  // Where all ranks have one address space: shows them `mine`, runs `body` once everyone is there,
  // with what each rank shows, in rank order, and returns when all bodies have ended; until then
  // what is shown may be read and written by all. False, and nothing was done: they have not. About
  // `what`, whose type and bytes ranks must agree on.
  virtual bool together(tensor /*what*/, void* /*mine*/,
                        const std::function<void(std::span<void* const>)>& /*body*/) {
    return false;
  }

  // Wakes every blocked call of this rank with device_error{cancelled}. What the device computes
  // from then on means nothing. Any thread.
  virtual void abort() noexcept = 0;
  // Forgets what is in flight and starts over as `epoch`; the ranks meet before it returns. Of an
  // aborted group by net/comm alone.
  virtual void reset(std::uint32_t epoch) = 0;
};

}  // namespace dinfer::kernels
