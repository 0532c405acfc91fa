// SPDX-License-Identifier: Apache-2.0
// Every operation over every wire gives exactly what a plain loop in rank order gives. Data is made
// from a seed, rank and position, so each rank knows what the others hold.
#include "kernels/device.hpp"
#include "net/comm/sum.hpp"
#include "tests/net/comm/group.hpp"
#include "tests/support/catch.hpp"

#include <atomic>
#include <cstring>

namespace dinfer::tests {
namespace {

using kernels::dtype;
using kernels::view;

struct wire {
  const char* name;
  transport_choice choice;
  bool own_addresses;
};
constexpr wire wires[] = {{"local", transport_choice::automatic, false},
                          {"shared memory", transport_choice::shared_memory, false},
                          {"tcp", transport_choice::automatic, true}};

// Numbers of mixed size, so that the order of a sum shows in its last bits.
float number(std::int32_t rank, std::int64_t i) {
  auto x =
      static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15 + static_cast<std::uint64_t>(rank + 1);
  x ^= x >> 31;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 29;
  const auto mantissa = static_cast<float>(static_cast<std::int32_t>(x & 0xffffff) - 0x800000);
  return std::ldexp(mantissa, static_cast<int>(x >> 60) - 28);
}

std::vector<float> numbers(std::int32_t rank, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) out[static_cast<std::size_t>(i)] = number(rank, i);
  return out;
}

std::vector<float> summed(std::int32_t ranks, std::int64_t count) {
  auto out = numbers(0, count);
  for (std::int32_t rank = 1; rank < ranks; ++rank)
    for (std::int64_t i = 0; i < count; ++i) out[static_cast<std::size_t>(i)] += number(rank, i);
  return out;
}

bool same_bits(const float* a, const float* b, std::int64_t count) {
  return count == 0 || std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(float)) == 0;
}

bool all_reduce_fits(kernels::communicator& c, std::int64_t count) {
  auto data = numbers(c.rank(), count);
  c.all_reduce(view(data.data(), dtype::f32, count));
  return same_bits(data.data(), summed(c.size(), count).data(), count);
}

bool all_gather_fits(kernels::communicator& c, std::int64_t count) {
  auto in = numbers(c.rank(), count);
  std::vector<float> out(static_cast<std::size_t>(count * c.size()));
  c.all_gather(view(in.data(), dtype::f32, count), view(out.data(), dtype::f32, count * c.size()));
  for (std::int32_t rank = 0; rank < c.size(); ++rank)
    if (!same_bits(out.data() + rank * count, numbers(rank, count).data(), count)) return false;
  return true;
}

bool reduce_scatter_fits(kernels::communicator& c, std::int64_t count) {
  auto in = numbers(c.rank(), count * c.size());
  std::vector<float> out(static_cast<std::size_t>(count));
  c.reduce_scatter(view(in.data(), dtype::f32, count * c.size()),
                   view(out.data(), dtype::f32, count));
  const auto all = summed(c.size(), count * c.size());
  return same_bits(out.data(), all.data() + c.rank() * count, count);
}

bool all_to_all_fits(kernels::communicator& c, std::int64_t count) {
  auto in = numbers(c.rank(), count * c.size());
  std::vector<float> out(in.size());
  c.all_to_all(view(in.data(), dtype::f32, c.size(), count),
               view(out.data(), dtype::f32, c.size(), count));
  for (std::int32_t rank = 0; rank < c.size(); ++rank) {
    const auto theirs = numbers(rank, count * c.size());
    if (!same_bits(out.data() + rank * count, theirs.data() + c.rank() * count, count))
      return false;
  }
  return true;
}

bool broadcast_fits(kernels::communicator& c, std::int64_t count) {
  for (std::int32_t root = 0; root < c.size(); ++root) {
    auto data = numbers(c.rank(), count);
    c.broadcast(view(data.data(), dtype::f32, count), root);
    if (!same_bits(data.data(), numbers(root, count).data(), count)) return false;
  }
  return true;
}

// Round a ring: everyone sends before anyone receives, which small tensors must allow.
bool messages_fit(kernels::communicator& c, std::int64_t count) {
  if (c.size() == 1) return true;
  const auto next = (c.rank() + 1) % c.size(), last = (c.rank() + c.size() - 1) % c.size();
  auto in = numbers(c.rank(), count);
  std::vector<float> out(in.size());
  const bool even_first = count > 2048 && c.rank() % 2 == 1;
  if (even_first) c.recv(view(out.data(), dtype::f32, count), last);
  c.send(view(in.data(), dtype::f32, count), next);
  if (!even_first) c.recv(view(out.data(), dtype::f32, count), last);
  return same_bits(out.data(), numbers(last, count).data(), count);
}

}  // namespace

TEST_CASE("every operation sums and moves exactly, whatever the wire, ranks and size", "[comm]") {
  constexpr std::int64_t counts[] = {0, 1, 3, 577, 2048, 16'411, 300'007};
  const auto& on = GENERATE(wires[0], wires[1], wires[2]);
  const auto size = GENERATE(1, 2, 3, 4);
  INFO(on.name << ", " << size << " ranks");
  std::atomic<std::int64_t> wrong{-1};
  run_group({size, on.choice, on.own_addresses, 10'000ms}, [&](auto& c) {
    for (const auto count : counts) {
      const bool fits = all_reduce_fits(c, count) && all_gather_fits(c, count) &&
                        reduce_scatter_fits(c, count) && all_to_all_fits(c, count) &&
                        broadcast_fits(c, count) && messages_fit(c, count);
      if (!fits) wrong = count;
    }
  });
  REQUIRE(wrong == -1);
}

}  // namespace dinfer::tests
