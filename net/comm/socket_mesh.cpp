// SPDX-License-Identifier: Apache-2.0
// Streams, ppoll() and an event descriptor that wake() writes to.
#include "net/comm/socket_mesh.hpp"

#include "kernels/device.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace dinfer::net {
namespace {

class socket_mesh final : public byte_mesh {
 public:
  socket_mesh(peer_sockets sockets, descriptor bell, std::int32_t rank, std::int32_t size)
      : sockets_(std::move(sockets)), bell_(std::move(bell)), rank_(rank), size_(size) {
    watched_.reserve(static_cast<std::size_t>(lane_count * size) + 1);
  }

  std::int32_t rank() const noexcept override { return rank_; }
  std::int32_t size() const noexcept override { return size_; }
  std::string_view wires() const noexcept override {
    const auto& lanes = sockets_.front();
    const bool secured =
        std::any_of(lanes.begin(), lanes.end(), [](const stream& one) { return one.secured(); });
    return secured ? "TCP with TLS" : "TCP";
  }

  std::size_t write_some(std::int32_t peer, lane on, std::span<const std::byte> head,
                         std::span<const std::byte> body) override {
    return moved(stream_to(on, peer).write_some(head, body), peer);
  }

  std::size_t read_some(std::int32_t peer, lane on, std::span<std::byte> to) override {
    return moved(stream_to(on, peer).read_some(to), peer);
  }

  std::uint32_t ticket() noexcept override { return 0; }

  void pause(std::uint32_t, std::span<const std::uint8_t> wishes,
             std::chrono::steady_clock::time_point until) override {
    watched_.assign({{bell_.get(), POLLIN, 0}});
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      if (wishes[i] == 0) continue;
      const auto n = static_cast<std::size_t>(size_);
      const short events = static_cast<short>(((wishes[i] & wish_read) != 0 ? POLLIN : 0) |
                                              ((wishes[i] & wish_write) != 0 ? POLLOUT : 0));
      watched_.push_back({sockets_[i / n][i % n].fd(), events, 0});
    }
    const auto left = std::max<std::int64_t>(
        0, std::chrono::nanoseconds(until - std::chrono::steady_clock::now()).count());
    const timespec most{left / 1'000'000'000, left % 1'000'000'000};
    ppoll(watched_.data(), watched_.size(), &most, nullptr);
    std::uint64_t rung = 0;
    if (watched_[0].revents != 0 && read(bell_.get(), &rung, sizeof rung) < 0) return;
  }

  // Reading or writing says so.
  bool gone(std::int32_t) override { return false; }

  void wake() noexcept override {
    const std::uint64_t one = 1;
    if (write(bell_.get(), &one, sizeof one) < 0) return;  // full: it rings already
  }

 private:
  stream& stream_to(lane on, std::int32_t peer) noexcept {
    return sockets_[static_cast<std::size_t>(on)][static_cast<std::size_t>(peer)];
  }

  static std::size_t moved(const result<std::size_t>& bytes, std::int32_t peer) {
    if (bytes) return *bytes;
    throw kernels::device_error(
        errc::peer_lost, "rank " + std::to_string(peer) + " is gone: " + bytes.error().message,
        peer);
  }

  peer_sockets sockets_;
  descriptor bell_;
  std::int32_t rank_, size_;
  std::vector<pollfd> watched_;
};

}  // namespace

result<std::unique_ptr<byte_mesh>> make_socket_mesh(peer_sockets sockets, std::int32_t rank,
                                                    std::int32_t size) {
  descriptor bell(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell) return tl::unexpected(system_error_of("making an event descriptor"));
  return std::make_unique<socket_mesh>(std::move(sockets), std::move(bell), rank, size);
}

}  // namespace dinfer::net
