// SPDX-License-Identifier: Apache-2.0
// Every operation over every wire gives exactly what a plain loop in rank order gives. Data is made
// from a seed, rank and position, so each rank knows what the others hold.
#include "kernels/device.hpp"
#include "net/comm/lending.hpp"
#include "net/comm/sum.hpp"
#include "tests/net/comm/group.hpp"
#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

namespace dinfer::tests {
namespace {

using kernels::dtype;
using kernels::view;
using std::chrono_literals::operator""ms;

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

// The first size at which an operation went wrong, or -1.
std::int64_t first_wrong(kernels::communicator& c) {
  for (const std::int64_t count : {0, 1, 3, 577, 2048, 16'411, 300'007}) {
    const bool fits = all_reduce_fits(c, count) && all_gather_fits(c, count) &&
                      reduce_scatter_fits(c, count) && all_to_all_fits(c, count) &&
                      broadcast_fits(c, count) && messages_fit(c, count);
    if (!fits) return count;
  }
  return -1;
}

}  // namespace

TEST_CASE("every operation sums and moves exactly between threads, whatever the wire", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  const auto size = GENERATE(1, 2, 3, 4);
  INFO(on.name << ", " << size << " ranks");
  std::atomic<std::int64_t> wrong{-1};
  run_threads(on.of(size, 10'000ms), [&](auto& c) {
    if (const auto count = first_wrong(c); count >= 0) wrong = count;
  });
  REQUIRE(wrong == -1);
}

TEST_CASE("every operation sums and moves exactly between processes", "[comm]") {
  // One address: shared memory. Several: TCP.
  const bool own_addresses = GENERATE(false, true);
  rank_processes ranks({3, transport_choice::automatic, own_addresses}, [](auto& c) {
    if (const auto count = first_wrong(c); count >= 0)
      throw std::runtime_error("wrong at " + std::to_string(count));
  });
  REQUIRE(ranks.all_fine());
}

TEST_CASE("what a rank shows is taken back when nobody is in it any more", "[comm]") {
  net::lending loans(2);
  std::array<std::byte, 2> shown{};
  std::optional<net::lending::loan> first(std::in_place, loans, 0, &shown[0]);
  std::optional<net::lending::loan> second(std::in_place, loans, 1, &shown[1]);
  std::optional<net::lending::view> view(std::in_place, loans);
  CHECK(view->missing() == -1);
  CHECK(view->of(1) == &shown[1]);
  std::atomic<bool> back{false};
  std::thread taker([&] {
    second.reset();
    back = true;
  });
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(back);
  view.reset();
  taker.join();
  CHECK(net::lending::view(loans).missing() == 1);
  first.reset();
  CHECK(net::lending::view(loans).missing() == 0);
}

TEST_CASE("half-precision sums are torch's, bit for bit", "[comm]") {
  std::ifstream golden(repository_file("tests/golden/half_sums.txt"));
  std::string line;
  std::size_t count = 0;
  while (std::getline(golden, line)) {
    std::istringstream words(line);
    std::string type, word;
    words >> type;
    std::vector<std::string> rest;
    while (words >> word) rest.push_back(word);
    std::vector<std::uint16_t> bits;
    for (const auto& one : rest)
      bits.push_back(one == "nan" ? 0 : static_cast<std::uint16_t>(std::stoul(one, nullptr, 16)));
    std::vector<const void*> parts;
    for (std::size_t i = 0; i + 1 < bits.size(); ++i) parts.push_back(&bits[i]);
    std::uint16_t sum = 0;
    net::sum_in_order(type == "bf16" ? dtype::bf16 : dtype::f16, parts, &sum, 1);
    INFO(line << " -> " << std::hex << sum);
    const auto exponent = type == "bf16" ? 0x7f80 : 0x7c00;
    if (rest.back() == "nan") REQUIRE((sum & 0x7fff) > exponent);
    else REQUIRE(sum == bits.back());
    ++count;
  }
  REQUIRE(count > 4000);
}

TEST_CASE("operations allocate nothing once they are warm", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  std::atomic<std::uint64_t> bytes{0};
  run_threads(on.of(2, 10'000ms), [&](auto& c) {
    std::vector<float> data(100'000, 1.0f), all(200'000);
    const auto small = view(data.data(), dtype::f32, 2048),
               big = view(data.data(), dtype::f32, 100'000);
    const auto once = [&] {
      c.all_reduce(small);
      c.all_reduce(big);
      c.all_gather(big, view(all.data(), dtype::f32, 200'000));
      c.broadcast(small, 1);
      if (c.rank() == 0) c.send(small, 1);
      else c.recv(small, 0);
    };
    once();
    const auto before = bytes_allocated();
    for (int i = 0; i < 20; ++i) once();
    bytes += bytes_allocated() - before;
  });
  REQUIRE(bytes == 0);
}

TEST_CASE("tensors that no operation can take are refused with the reason", "[comm]") {
  run_threads(wires[0].of(1, 1000ms), [](auto& c) {
    std::vector<float> data(8);
    const auto refused = [&](auto act) {
      try {
        act();
      } catch (const kernels::device_error& e) {
        return e.code() == errc::invalid_argument;
      }
      return false;
    };
    const auto t = view(data.data(), dtype::f32, 4);
    CHECK(refused([&] { c.all_reduce(view(data.data(), dtype::i32, 4)); }));
    CHECK(refused([&] { c.all_gather(t, view(data.data(), dtype::f32, 8)); }));
    CHECK(refused([&] { c.reduce_scatter(view(data.data(), dtype::f32, 8), t); }));
    CHECK(refused([&] { c.send(t, 0); }));
    CHECK(refused([&] { c.recv(t, 7); }));
    CHECK(refused([&] { c.broadcast(t, -1); }));
  });
}

}  // namespace dinfer::tests
