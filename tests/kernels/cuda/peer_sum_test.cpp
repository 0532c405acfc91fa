// SPDX-License-Identifier: Apache-2.0
// Sums of our own over the GPUs of a host: against sums made on the host and NCCL's, the same bits
// on every rank, of any size and type, recorded and not; with norms in one kernel and in two.
#include "tests/kernels/cuda/gpu_ranks.hpp"

#include "kernels/ops.hpp"

#include <cmath>
#include <limits>
#include <random>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

const char* const peer_wires = "peer memory and NCCL";

std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

// A test that fails does not print them.
bool same(const std::vector<std::byte>& a, const std::vector<std::byte>& b) { return a == b; }

// What every rank has after a sum over `in[rank]`.
std::vector<std::vector<std::byte>> sums_of(gpu_ranks& group, dtype type,
                                            const std::vector<std::vector<float>>& in) {
  std::vector<device_tensor> x;
  for (std::int32_t i = 0; i < group.size(); ++i) {
    x.push_back(filled(group.device(i), type, in[at(i)], in[at(i)].size()));
    group.device(i).synchronize();
  }
  group.run_and_wait([&](device&, std::int32_t i) { group.rank(i).all_reduce(x[at(i)]); });
  std::vector<std::vector<std::byte>> out;
  for (const auto& one : x) out.push_back(one.bytes());
  return out;
}

std::vector<std::vector<float>> random_parts(random_numbers& random, std::int32_t ranks,
                                             std::int64_t n, dtype type) {
  std::vector<std::vector<float>> parts;
  for (std::int32_t i = 0; i < ranks; ++i) parts.push_back(rounded(random.floats(n, -2, 2), type));
  return parts;
}

}  // namespace

TEST_CASE("GPUs of a host sum through their own memory, in rank order and rounded once",
          "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  const auto type = GENERATE(dtype::f32, dtype::bf16, dtype::f16);
  const char* way = GENERATE("", "one-shot", "two-shot");
  auto random = seeded(977);
  for (const std::int32_t ranks : group_sizes()) {
    const variable wish("DINFER_PEER_REDUCE", way);
    gpu_ranks group(ranks, type);
    REQUIRE(group.rank(0).wires() == peer_wires);
    for (const std::int64_t n : few<std::int64_t>(
             {1, 2, 7, 8, 9, 130, 1024, 12'299, 65'536, 131'073, 262'144, 1'048'577, 2'000'003})) {
      CAPTURE(ranks, way, info(type).name, n);
      const auto in = random_parts(random, ranks, n, type);
      const auto out = sums_of(group, type, in);
      // Sizes beyond the way that is forced are NCCL's, in an order of its own.
      check_close("sum", decode(type, out[0]), right_sum(in, type), n, bound_of(type));
      for (const auto& other : out) CHECK(same(other, out[0]));
      if (n <= 65'536) CHECK(same(out[0], encode(type, right_sum(in, type))));
    }
    group.run([&](device&, std::int32_t i) { group.rank(i).reset(2); });
  }
}

TEST_CASE("what is switched off, or told to be of several hosts, is summed by NCCL",
          "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  auto random = seeded(978);
  const auto in = random_parts(random, 2, 5000, dtype::bf16);
  gpu_ranks own(2, dtype::bf16);
  const auto right = sums_of(own, dtype::bf16, in);
  own.leave();
  for (const char* name : {"DINFER_PEER_REDUCE", "NCCL_P2P_DISABLE"}) {
    const variable off(name, name[0] == 'D' ? "0" : "1");
    gpu_ranks group(2, dtype::bf16);
    CHECK(group.rank(0).wires() == "NCCL");
    CHECK(group.rank(1).wires() == "NCCL");
    const auto got = sums_of(group, dtype::bf16, in);
    check_close(name, decode(dtype::bf16, got[0]), decode(dtype::bf16, right[0]), 5000,
                bound_of(dtype::bf16));
  }
}

TEST_CASE("zeros keep what a sum makes of their sign, NaN and infinity arrive",
          "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  const auto type = GENERATE(dtype::f32, dtype::bf16, dtype::f16);
  const char* way = GENERATE("one-shot", "two-shot");
  const variable wish("DINFER_PEER_REDUCE", way);
  constexpr float inf = std::numeric_limits<float>::infinity();
  gpu_ranks group(2, type);
  const std::vector<float> first = {-0.0F, -0.0F, 0.0F, inf, -inf, inf, 1.0F, -0.0F};
  const std::vector<float> second = {-0.0F, 0.0F, -0.0F, 1.0F, -inf, -inf, inf, 2.0F};
  CAPTURE(info(type).name, way);
  auto got = decode(type, sums_of(group, type, {first, second})[0]);
  REQUIRE(std::isnan(got[5]));
  got[5] = 0;
  check_same("special", got, {-0.0F, 0.0F, 0.0F, inf, -inf, 0.0F, inf, 2.0F}, 8);

  // Every NaN there is, all ones among them, beside numbers.
  std::vector<device_tensor> x;
  constexpr std::int64_t n = 4099;
  for (std::int32_t i = 0; i < 2; ++i) {
    x.push_back(filled(group.device(i), type, std::vector<float>(n, 1.0F), n));
    if (i == 1) x.back().poison();
    group.device(i).synchronize();
  }
  for (int round = 0; round < 4; ++round)
    group.run_and_wait([&](device&, std::int32_t i) { group.rank(i).all_reduce(x[at(i)]); });
  for (const auto& one : x)
    for (const float v : one.values()) REQUIRE(std::isnan(v));
  CHECK(same(x[0].bytes(), x[1].bytes()));
}

namespace {

// A sum of small whole numbers is exact in every type and order.
float whole_number(std::int64_t i, std::int32_t rank, std::int64_t trial) {
  return static_cast<float>((i * 7 + rank * 13 + trial) % 31 - 15);
}

struct trial {
  std::int64_t number = 0, elements = 0, skipped = 0;  // elements before the first: not aligned
  dtype type = dtype::f32;
};

// Sizes mostly small, some of NCCL's.
class trials {
 public:
  explicit trials(std::uint64_t seed) : random_(seed) {}
  trial next() {
    trial t;
    t.number = ++number_;
    const int most_bits = below(100) < 97 ? 13 : 22;
    t.elements = 1 + below(std::int64_t{1} << (1 + below(most_bits)));
    if (below(3) == 0) t.elements = (t.elements + 7) / 8 * 8;
    t.skipped = below(4) == 0 ? below(8) : 0;
    t.type = activation_types()[static_cast<std::size_t>(below(3))];
    return t;
  }
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(n));
  }

 private:
  std::mt19937_64 random_;
  std::int64_t number_ = 0;
};

// One rank's part in random sums; all ranks do the same.
class random_sums {
 public:
  random_sums(device& d, communicator& link)
      : device_(d), link_(link), memory_(d.allocate(room * places, true)) {}

  tensor place(const trial& t, std::size_t which) const {
    const auto size = static_cast<std::int64_t>(info(t.type).block_bytes);
    auto* at = static_cast<std::byte*>(memory_.data()) + which * room + t.skipped * size;
    return view(at, t.type, t.elements);
  }
  void fill(const trial& t, std::size_t which) {
    values_.resize(static_cast<std::size_t>(t.elements));
    for (std::int64_t i = 0; i < t.elements; ++i)
      values_[static_cast<std::size_t>(i)] = whole_number(i, link_.rank(), t.number);
    const auto bytes = encode(t.type, values_);
    device_.upload(place(t, which).data, bytes.data(), bytes.size());
  }
  void sum(const trial& t, std::size_t which) { link_.all_reduce(place(t, which)); }
  void check(const trial& t, std::size_t which) {
    values_.resize(static_cast<std::size_t>(t.elements));
    for (std::int64_t i = 0; i < t.elements; ++i) {
      float sum = 0;
      for (std::int32_t q = 0; q < link_.size(); ++q) sum += whole_number(i, q, t.number);
      values_[static_cast<std::size_t>(i)] = sum;
    }
    const tensor x = place(t, which);
    std::vector<std::byte> got(static_cast<std::size_t>(x.bytes()));
    device_.download(got.data(), x.data, got.size());
    if (got == encode(t.type, values_)) return;
    throw std::runtime_error("trial " + std::to_string(t.number) + ": " +
                             std::to_string(t.elements) + " " + std::string(info(t.type).name) +
                             " at " + std::to_string(t.skipped) + " are wrong");
  }
  // Sums that are recorded at once, and what they add up three times.
  void recorded(std::vector<trial> all) {
    device_.begin_capture();
    for (std::size_t i = 0; i < all.size(); ++i) sum(all[i], i);
    const auto recording = device_.end_capture();
    for (int round = 0; round < 3; ++round) {
      for (std::size_t i = 0; i < all.size(); ++i) {
        all[i].number += 1000;
        fill(all[i], i);
      }
      recording->replay();
      for (std::size_t i = 0; i < all.size(); ++i) check(all[i], i);
    }
    device_.synchronize();
  }

  static constexpr std::size_t room = (std::size_t{1} << 24) + 256, places = 6;

 private:
  device& device_;
  communicator& link_;
  buffer memory_;
  std::vector<float> values_;
};

}  // namespace

TEST_CASE("ten thousand random sums are right, recorded and not, between sums of NCCL's",
          "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  constexpr std::uint64_t seed = 20'261'126;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  const int rounds = brief() ? 40 : 1100;  // 6 or 18 sums each
  for (const std::int32_t ranks : group_sizes()) {
    const int of_group = ranks == group_sizes().back() ? rounds : rounds / 10;
    CAPTURE(seed, ranks);
    gpu_ranks group(ranks, dtype::bf16);
    group.run([&](device& d, std::int32_t i) {
      random_sums work(d, group.rank(i));
      trials draw(seed + static_cast<std::uint64_t>(ranks));
      for (int round = 0; round < of_group; ++round) {
        std::vector<trial> all;
        for (std::size_t k = 0; k < random_sums::places; ++k) all.push_back(draw.next());
        if (draw.below(4) == 0) {
          work.recorded(std::move(all));
          continue;
        }
        for (std::size_t k = 0; k < all.size(); ++k) work.fill(all[k], k);
        for (std::size_t k = 0; k < all.size(); ++k) work.sum(all[k], k);
        for (std::size_t k = 0; k < all.size(); ++k) work.check(all[k], k);
      }
    });
  }
}

namespace {

// residual and normed of every rank after add_norm over `group`, or over all_reduce first.
std::vector<std::vector<std::byte>> normed_by(gpu_ranks& group, dtype type, std::int64_t rows,
                                              std::int64_t columns, norm_kind kind, bool fused) {
  auto random = random_numbers(static_cast<std::uint64_t>(rows * 100'003 + columns));
  const auto gain = random.floats(columns), bias = random.floats(columns);
  const auto residual = rounded(random.floats(rows * columns, -3, 5), type);
  const auto parts = random_parts(random, group.size(), rows * columns, type);
  std::vector<device_tensor> partial, own, normed;
  std::vector<std::unique_ptr<weight>> gains, biases;
  for (std::int32_t i = 0; i < group.size(); ++i) {
    device& d = group.device(i);
    partial.push_back(filled(d, type, parts[at(i)], rows, columns));
    own.push_back(filled(d, type, residual, rows, columns));
    normed.push_back(poisoned(d, type, rows, columns));
    gains.push_back(ready_vector(d, gain));
    biases.push_back(ready_vector(d, bias));
  }
  group.run_and_wait([&](device& d, std::int32_t i) {
    norm_args norm;
    norm.kind = kind;
    norm.gain = gains[at(i)].get();
    norm.bias = kind == norm_kind::layer ? biases[at(i)].get() : nullptr;
    add_norm_args args;
    args.tp = fused ? &group.rank(i) : nullptr;
    args.partial = partial[at(i)];
    args.residual = own[at(i)];
    args.norm = &norm;
    args.normed = normed[at(i)];
    if (!fused) group.rank(i).all_reduce(args.partial);
    d.ops().add_norm(args);
  });
  std::vector<std::vector<std::byte>> out;
  for (std::int32_t i = 0; i < group.size(); ++i) {
    out.push_back(own[at(i)].bytes());
    const auto second = normed[at(i)].bytes();
    out.back().insert(out.back().end(), second.begin(), second.end());
  }
  return out;
}

}  // namespace

TEST_CASE("a sum with its norm in one kernel has the bits of both one after another",
          "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  const auto type = GENERATE(dtype::f32, dtype::bf16, dtype::f16);
  for (const std::int32_t ranks : group_sizes()) {
    gpu_ranks group(ranks, type);
    for (const auto kind : {norm_kind::rms, norm_kind::layer}) {
      for (const std::int64_t columns : few<std::int64_t>({64, 100, 576, 4096, 8192})) {
        for (const std::int64_t rows : few<std::int64_t>({1, 8, 33, 128, 129})) {
          CAPTURE(ranks, info(type).name, columns, rows, kind == norm_kind::layer);
          const auto one = normed_by(group, type, rows, columns, kind, true);
          const auto two = normed_by(group, type, rows, columns, kind, false);
          for (std::int32_t i = 0; i < ranks; ++i) {
            REQUIRE(same(one[at(i)], two[at(i)]));
            REQUIRE(same(one[at(i)], one[0]));
          }
        }
      }
    }
  }
}
