// SPDX-License-Identifier: Apache-2.0
// Frames over a byte mesh. A frame says which operation it belongs to and how long it is, so ranks
// that disagree get an error that names both instead of a hang or wrong sums. Every wait has the
// group's deadline and names the peer. Allocates nothing after construction. Thread: the rank's;
// abort() from any. Failures throw kernels::device_error.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/tensor.hpp"
#include "net/comm/byte_mesh.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::net {

using clock = std::chrono::steady_clock;

enum class operation : std::uint8_t {
  reset,
  all_reduce,
  all_gather,
  reduce_scatter,
  all_to_all,
  broadcast,
  message
};

// In the place of a root: the frame says what its writer is at, and no bytes follow.
constexpr std::uint16_t head_only = 0xffff;

// What both ends of a frame must agree on.
struct operation_tag {
  operation what = operation::reset;
  kernels::dtype type = kernels::dtype::u8;
  std::uint16_t root = 0;
};

struct frame {
  std::uint32_t mark = 0;
  std::uint32_t epoch = 0;
  std::uint32_t sequence = 0;  // of the lane, from this writer
  operation_tag tag;
  std::uint64_t bytes = 0;  // of the tensor, which follows

  std::uint64_t body() const noexcept { return tag.root == head_only ? 0 : bytes; }
};
static_assert(sizeof(frame) == 24);

class exchange {
 public:
  // peers[i]: how messages name rank i.
  exchange(std::unique_ptr<byte_mesh> mesh, std::string group, std::vector<std::string> peers,
           std::chrono::milliseconds timeout);

  std::int32_t rank() const noexcept { return mesh_->rank(); }
  std::int32_t size() const noexcept { return mesh_->size(); }
  std::string_view wires() const noexcept { return mesh_->wires(); }
  lending* loans() const noexcept { return mesh_->loans(); }
  std::string peer_name(std::int32_t peer) const;

  // A collective: begin, then any number of rounds of put and get, each ended by finish. At most
  // one put and one get per peer and round. The memory must last until finish returns.
  void begin(operation_tag tag);
  void put(std::int32_t peer, const void* from, std::int64_t bytes);
  void get(std::int32_t peer, void* to, std::int64_t bytes);
  void finish();
  // In between: meets every peer, all of which are at a tensor of `bytes` bytes.
  void meet(std::int64_t bytes);
  // Of a collective that cannot go on for the sake of `peer`.
  [[noreturn]] void give_up(errc code, std::int32_t peer, const std::string& why);

  // Point to point, in order per pair. send returns once the bytes lie in the lane.
  void send(std::int32_t peer, const void* from, std::int64_t bytes, kernels::dtype type);
  void recv(std::int32_t peer, void* to, std::int64_t bytes, kernels::dtype type);

  void abort() noexcept;
  void reset(std::uint32_t epoch);

 private:
  // One direction of one lane to one peer. `body` null: zeros are written, or what is read is
  // dropped; only reset() does so.
  struct writer {
    frame head;
    std::size_t head_done = 0;
    const std::byte* body = nullptr;
    std::uint64_t left = 0;
    std::uint32_t sequence = 0;
    bool active = false;
    bool reset_next = false;  // a reset frame follows this one
  };
  struct reader {
    frame expected, head;
    std::size_t head_got = 0;
    std::byte* body = nullptr;
    std::uint64_t left = 0;
    std::uint32_t sequence = 0;
    bool active = false;
    bool discarding = false;
  };

  std::size_t index(lane on, std::int32_t peer) const noexcept;
  void start_write(lane on, std::int32_t peer, operation_tag tag, const void* from,
                   std::uint64_t bytes);
  void start_read(lane on, std::int32_t peer, operation_tag tag, void* to, std::uint64_t bytes);
  void run(const char* doing);
  bool pump();
  bool pump_write(lane on, std::int32_t peer, writer& w);
  bool pump_read(lane on, std::int32_t peer, reader& r);
  void check_head(std::int32_t peer, reader& r);
  void check_reset_head(std::int32_t peer, reader& r);
  void check_usable();
  void start_over(writer& w, reader& r);
  void wait(std::uint32_t ticket, const char* doing);
  void look_for_losses(const char* doing);
  std::int32_t awaited() const noexcept;
  std::string describe(const frame& head) const;

  std::unique_ptr<byte_mesh> mesh_;
  std::string group_;
  std::vector<std::string> peers_;
  std::chrono::milliseconds timeout_;
  std::uint32_t epoch_ = 0;
  operation_tag tag_;
  std::array<std::vector<writer>, lane_count> writers_;
  std::array<std::vector<reader>, lane_count> readers_;
  std::vector<std::uint8_t> wishes_;
  clock::time_point started_, looked_;
  std::atomic<bool> aborted_{false};
  bool broken_ = false;
};

}  // namespace dinfer::net
