// SPDX-License-Identifier: Apache-2.0
// The rings. Counters only grow; a position is the counter modulo the capacity, a power of two.
// The order that no wake-up may break: a writer publishes, rings the bell, then looks whether the
// owner sleeps; the owner says that it sleeps, then lets the kernel compare the bell.
#include "net/comm/ring_mesh.hpp"

#include "kernels/device.hpp"
#include "kernels/neighbours.hpp"
#include "kernels/spin.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <new>
#include <thread>

namespace dinfer::net {
namespace {

constexpr std::size_t line = 64;
constexpr std::size_t collective_total = 32u << 20, pairwise_total = 64u << 20;
constexpr std::size_t collective_most = 256u << 10, pairwise_most = 8u << 20;
constexpr std::size_t ring_least = 64u << 10;

struct bell {
  alignas(line) std::atomic<std::uint32_t> count;  // the futex word
  std::atomic<std::uint32_t> sleeping;
  std::atomic<std::uint32_t> left;  // the rank's communicator was destroyed
};

struct ring {
  alignas(line) std::atomic<std::uint64_t> written;
  alignas(line) std::atomic<std::uint64_t> taken;
  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(bell) == line && sizeof(ring) == 2 * line);

// Ranks of one layer come within a part of this of each other; to be woken takes as long.
constexpr auto spin_time = std::chrono::microseconds(200);

template <class Done>
bool yield_until(Done&& done) {
  for (int i = 0; i < 50; ++i) {
    if (done()) return true;
    sched_yield();
  }
  return false;
}

std::size_t ring_capacity(lane on, std::int32_t size) {
  const auto pairs = static_cast<std::size_t>(std::max(1, size * (size - 1)));
  const bool collective = on == lane::collective;
  const auto share = std::bit_floor((collective ? collective_total : pairwise_total) / pairs);
  return std::clamp(share, ring_least, collective ? collective_most : pairwise_most);
}

std::size_t ring_bytes(lane on, std::int32_t size) {
  return sizeof(ring) + ring_capacity(on, size);
}

// Rings lie after the bells: lane, then writer, then reader. The diagonal stays unused.
std::size_t ring_offset(lane on, std::int32_t from, std::int32_t to, std::int32_t size) {
  const auto n = static_cast<std::size_t>(size);
  const auto index = static_cast<std::size_t>(from) * n + static_cast<std::size_t>(to);
  const auto first = on == lane::collective ? 0 : n * n * ring_bytes(lane::collective, size);
  return n * sizeof(bell) + first + index * ring_bytes(on, size);
}

class ring_mesh final : public byte_mesh {
 public:
  ring_mesh(std::shared_ptr<shared_memory> memory, std::shared_ptr<lending> loans,
            std::vector<stream> liveness, std::int32_t rank, std::int32_t size)
      : memory_(std::move(memory)),
        loans_(std::move(loans)),
        liveness_(std::move(liveness)),
        rank_(rank),
        size_(size),
        core_each_(std::thread::hardware_concurrency() >= static_cast<unsigned>(size)) {}

  ~ring_mesh() override {
    bell_of(rank_).left.store(1);
    for (std::int32_t peer = 0; peer < size_; ++peer) ring_bell(peer);
  }

  std::int32_t rank() const noexcept override { return rank_; }
  std::int32_t size() const noexcept override { return size_; }
  std::string_view wires() const noexcept override { return "shared memory"; }

  std::size_t write_some(std::int32_t peer, lane on, std::span<const std::byte> head,
                         std::span<const std::byte> body) override {
    auto& to = ring_of(on, rank_, peer);
    const auto capacity = ring_capacity(on, size_);
    const auto written = to.written.load(std::memory_order_relaxed);
    const auto room = capacity - filled(to, capacity, peer);
    const auto first = std::min(room, head.size());
    const auto second = std::min(room - first, body.size());
    if (first + second == 0) return 0;
    copy_in(to, capacity, written, head.first(first));
    copy_in(to, capacity, written + first, body.first(second));
    to.written.store(written + first + second);
    ring_bell(peer);
    return first + second;
  }

  std::size_t read_some(std::int32_t peer, lane on, std::span<std::byte> to) override {
    auto& from = ring_of(on, peer, rank_);
    const auto capacity = ring_capacity(on, size_);
    const auto taken = from.taken.load(std::memory_order_relaxed);
    const auto count = std::min<std::size_t>(filled(from, capacity, peer), to.size());
    if (count == 0) return 0;
    const auto at = taken & (capacity - 1);
    const auto straight = std::min<std::size_t>(count, capacity - at);
    std::memcpy(to.data(), from.data() + at, straight);
    std::memcpy(to.data() + straight, from.data(), count - straight);
    // A writer waits only at a full ring. Both counters are in the one total order, so either it
    // sees this room or we see its ring full.
    from.taken.store(taken + count);
    if (from.written.load() - taken > capacity / 2) ring_bell(peer);
    return count;
  }

  std::uint32_t ticket() noexcept override { return bell_of(rank_).count.load(); }

  void pause(std::uint32_t ticket, std::span<const std::uint8_t>,
             clock::time_point until) override {
    auto& own = bell_of(rank_);
    const auto moved = [&] { return own.count.load(std::memory_order_acquire) != ticket; };
    const auto help = [&] { return clock::now() < until && kernels::help_a_neighbour(); };
    const bool came = core_each_ ? kernels::spin_until(spin_time, moved, help) : yield_until(moved);
    if (came) return;
    own.sleeping.store(1);
    futex_wait(&own.count, ticket, until);
    own.sleeping.store(0);
  }

  bool gone(std::int32_t peer) override {
    if (bell_of(peer).left.load() != 0) return true;
    return !liveness_.empty() && hung_up(liveness_[static_cast<std::size_t>(peer)].fd());
  }

  void wake() noexcept override { ring_bell(rank_); }
  lending* loans() const noexcept override { return loans_.get(); }

 private:
  bell& bell_of(std::int32_t rank) const noexcept {
    return *std::launder(reinterpret_cast<bell*>(memory_->data()) + rank);
  }

  ring& ring_of(lane on, std::int32_t from, std::int32_t to) const noexcept {
    return *std::launder(
        reinterpret_cast<ring*>(memory_->data() + ring_offset(on, from, to, size_)));
  }

  void ring_bell(std::int32_t rank) noexcept {
    auto& to = bell_of(rank);
    to.count.fetch_add(1);
    if (to.sleeping.load() != 0 && to.sleeping.exchange(0) != 0) futex_wake(&to.count);
  }

  // Bytes in a ring, checked: its memory belongs to another process too.
  static std::size_t filled(const ring& of, std::size_t capacity, std::int32_t peer) {
    const auto count = of.written.load() - of.taken.load();
    if (count > capacity)
      throw kernels::device_error(errc::device_lost, "shared memory was overwritten", peer);
    return count;
  }

  static void copy_in(ring& to, std::size_t capacity, std::uint64_t position,
                      std::span<const std::byte> bytes) {
    const auto at = position & (capacity - 1);
    const auto straight = std::min<std::size_t>(bytes.size(), capacity - at);
    std::copy_n(bytes.data(), straight, to.data() + at);
    std::copy_n(bytes.data() + straight, bytes.size() - straight, to.data());
  }

  std::shared_ptr<shared_memory> memory_;
  std::shared_ptr<lending> loans_;
  std::vector<stream> liveness_;
  std::int32_t rank_, size_;
  bool core_each_;  // the ranks do not wait for each other's processors
};

}  // namespace

std::size_t ring_mesh_bytes(std::int32_t size) {
  return ring_offset(lane::pairwise, size, 0, size);
}

std::unique_ptr<byte_mesh> make_ring_mesh(std::shared_ptr<shared_memory> memory,
                                          std::shared_ptr<lending> loans, std::int32_t rank,
                                          std::int32_t size) {
  return std::make_unique<ring_mesh>(std::move(memory), std::move(loans), std::vector<stream>{},
                                     rank, size);
}

std::unique_ptr<byte_mesh> make_ring_mesh(std::shared_ptr<shared_memory> memory,
                                          std::vector<stream> liveness, std::int32_t rank,
                                          std::int32_t size) {
  return std::make_unique<ring_mesh>(std::move(memory), nullptr, std::move(liveness), rank, size);
}

}  // namespace dinfer::net
