// SPDX-License-Identifier: Apache-2.0
// What nodes send each other: blobs of plans and results, cards, frames of tensors. Only members of
// a cluster get so far, but a broken one must not break the others.
#include "kernels/device.hpp"
#include "net/comm/card.hpp"
#include "net/comm/exchange.hpp"
#include "runtime/schedule/step_codec.hpp"
#include "runtime/shard/rank_card.hpp"
#include "tests/fuzz/target.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>

namespace dinfer::fuzz {
namespace {

// What was read, written and read again, is the same.
template <class T>
void require_same(const result<T>& read, result<T> (*decode)(std::string_view)) {
  if (!read) return;
  const auto written = runtime::encode(*read);
  const auto again = decode(written);
  require(again && runtime::encode(*again) == written, "what is written can be read");
}

// Rank 1 of two, of whom rank 0 says what the input holds, a few bytes at a time, and then is gone.
class hostile_peer final : public net::byte_mesh {
 public:
  explicit hostile_peer(bytes said) : left_(said) {}
  std::int32_t rank() const noexcept override { return 1; }
  std::int32_t size() const noexcept override { return 2; }
  std::string_view wires() const noexcept override { return "fuzz"; }
  std::size_t write_some(std::int32_t, net::lane, std::span<const std::byte> head,
                         std::span<const std::byte> body) override {
    return std::min<std::size_t>(head.size() + body.size(), 100);
  }
  std::size_t read_some(std::int32_t peer, net::lane, std::span<std::byte> to) override {
    require(peer == 0, "nobody reads from itself");
    const auto count = std::min({to.size(), left_.size(), std::size_t{7}});
    std::memcpy(to.data(), left_.data(), count);
    left_ = left_.subspan(count);
    return count;
  }
  std::uint32_t ticket() noexcept override { return 0; }
  void pause(std::uint32_t, std::span<const std::uint8_t>,
             std::chrono::steady_clock::time_point) override {
    throw kernels::device_error(errc::peer_lost, "it is gone");
  }
  bool gone(std::int32_t) override { return true; }
  void wake() noexcept override {}

 private:
  bytes left_;
};

}  // namespace

// The first byte says which blob it is.
void fuzz_peer_blobs(bytes input) {
  if (input.empty()) return;
  const auto blob = text_of(input.subspan(1));
  switch (input[0] % 4) {
    case 0:
      return require_same(runtime::decode_plan(blob), runtime::decode_plan);
    case 1:
      return require_same(runtime::decode_result(blob), runtime::decode_result);
    case 2:
      return require_same(runtime::decode_request(blob), runtime::decode_request);
    default:
      return require_same(runtime::decode_batch(blob), runtime::decode_batch);
  }
}

void fuzz_peer_cards(bytes input) {
  const auto text = text_of(input);
  if (const auto card = net::read_card(text)) {
    const auto again = net::read_card(net::write_card(*card));
    require(again && again->secret == card->secret && again->port == card->port,
            "a card has one meaning");
    (void)net::choose_wire(std::span(&*card, 1));
  }
  if (const auto card = runtime::read_rank_card(text)) {
    const auto again = runtime::read_rank_card(runtime::write_rank_card(*card));
    require(again && again->host == card->host && again->stage_group == card->stage_group,
            "a rank's card has one meaning");
  }
}

// The first byte says what is expected of the peer.
void fuzz_peer_frames(bytes input) {
  if (input.empty()) return;
  net::exchange own(std::make_unique<hostile_peer>(input.subspan(1)), "fuzz", {"a", "b"},
                    std::chrono::milliseconds(1000));
  std::array<std::byte, 64> to{};
  const auto wanted = static_cast<std::int64_t>(input[0] % to.size());
  try {
    if ((input[0] & 64) != 0) own.reset(1);
    if ((input[0] & 128) != 0) {
      own.begin({net::operation::broadcast, kernels::dtype::u8, 0});
      own.get(0, to.data(), wanted);
      own.finish();
    }
    own.recv(0, to.data(), wanted, kernels::dtype::f32);
  } catch (const kernels::device_error&) {
    try {
      own.reset(2);
    } catch (const kernels::device_error&) {
    }
  }
}

}  // namespace dinfer::fuzz
