// SPDX-License-Identifier: Apache-2.0
// Byte streams from one rank to every other of its group: what the frames of exchange.hpp travel
// on. Per peer two lanes in each direction, so that collectives never queue behind point-to-point
// messages. Nothing here blocks but pause(). Thread: the rank's; wake() from any. Loss of a peer
// throws kernels::device_error{peer_lost}.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace dinfer::net {

class lending;

constexpr std::int32_t lane_count = 2;
enum class lane : std::uint8_t { collective, pairwise };

// What a rank waits for, per lane and peer: wishes[lane * size + peer].
constexpr std::uint8_t wish_read = 1, wish_write = 2;

class byte_mesh {
 public:
  virtual ~byte_mesh() = default;
  virtual std::int32_t rank() const noexcept = 0;
  virtual std::int32_t size() const noexcept = 0;
  virtual std::string_view wires() const noexcept = 0;  // kernels::communicator::wires()

  // Moves what fits now, perhaps nothing. `head` goes before `body`.
  virtual std::size_t write_some(std::int32_t peer, lane on, std::span<const std::byte> head,
                                 std::span<const std::byte> body) = 0;
  virtual std::size_t read_some(std::int32_t peer, lane on, std::span<std::byte> to) = 0;

  // pause() returns when anything may have moved since ticket() was taken, or at `until`.
  virtual std::uint32_t ticket() noexcept = 0;
  virtual void pause(std::uint32_t ticket, std::span<const std::uint8_t> wishes,
                     std::chrono::steady_clock::time_point until) = 0;
  // True when a peer's end is known to be gone; what it wrote before may still be read.
  virtual bool gone(std::int32_t peer) = 0;
  virtual void wake() noexcept = 0;

  // Where ranks that share an address space show each other tensors; null: they do not.
  virtual lending* loans() const noexcept { return nullptr; }
};

}  // namespace dinfer::net
