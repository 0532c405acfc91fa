// SPDX-License-Identifier: Apache-2.0
// Sums over GPUs on the host. Blocks run one after another there, so each stretch of a sum is a
// launch of its own, of all ranks in turn: what comes from peers is there when it is looked for, or
// never. The sums themselves, the slots, and what a kernel does that waits in vain are tested so.
#include "kernels/cuda/peer_ranks.cuh"
#include "kernels/cuda/peer_two_shot.cuh"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/cuda_on_cpu.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::kernels::cuda;
using namespace dinfer::tests;

namespace {

constexpr int threads = 64;

template <class T, int Ranks>
__global__ void give(peer_group group, flat<T> x, std::int64_t packs) {
  const one_shot sum(group);
  if (sum.dead) return;
  const std::int64_t first = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (std::int64_t i = first; i < packs; i += std::int64_t{gridDim.x} * blockDim.x)
    sum.give<Ranks>(i, sendable(x.load(i)));
}

template <class T, int Ranks>
__global__ void take(peer_group group, flat<T> x, std::int64_t packs) {
  const one_shot sum(group);
  if (sum.dead) return;
  sum.clear_and_turn(packs);
  const std::int64_t first = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (std::int64_t i = first; i < packs; i += std::int64_t{gridDim.x} * blockDim.x)
    x.store(i, sum.take<T, Ranks>(i, sendable(x.load(i))));
}

template <class T, int Ranks>
__global__ void two_shot_stretch(peer_group group, flat<T> x, int stretch) {
  const two_shot<T> sum(group, x);
  if (sum.dead) return;
  if (stretch == 0) sum.scatter(), sum.tell(0);
  if (stretch == 1 && sum.hear(0)) sum.template reduce<Ranks>(), sum.tell(1);
  if (stretch == 2 && sum.hear(1)) sum.collect(), sum.turn();
}

// The memory of all ranks, as a group's ranks see it.
class ranks_of_host {
 public:
  explicit ranks_of_host(std::int32_t ranks) : notes_(static_cast<std::size_t>(ranks)) {
    for (std::int32_t i = 0; i < ranks; ++i) {
      peer_group g = peer_layout(i, ranks);
      memory_.push_back(std::make_unique<guarded_bytes>(static_cast<std::size_t>(g.bytes)));
      std::memset(memory_.back()->data(), 0, slots_at);
      std::memset(memory_.back()->data() + slots_at, 0xFF,
                  static_cast<std::size_t>(g.bytes - slots_at));
      g.notes = &notes_[static_cast<std::size_t>(i)];
      g.patience_ns = 2;
      groups.push_back(g);
    }
    for (peer_group& g : groups)
      for (std::size_t q = 0; q < groups.size(); ++q) g.memory[q] = memory_[q]->data();
  }
  // How many words of a rank's slots hold something.
  std::size_t words_there(std::size_t rank, std::uint32_t phase) const {
    const peer_group& g = groups[rank];
    const auto bytes = static_cast<std::size_t>(g.ranks * g.slot_packs * 16);
    const auto* from = reinterpret_cast<const std::uint32_t*>(
        memory_[rank]->data() + static_cast<std::size_t>(slots_at) + phase * bytes);
    return bytes / 4 - static_cast<std::size_t>(std::count(from, from + bytes / 4, nothing));
  }

  std::vector<peer_group> groups;

 private:
  using guarded_bytes = cuda_on_cpu::guarded_memory;
  std::vector<peer_notes> notes_;
  std::vector<std::unique_ptr<guarded_bytes>> memory_;
};

// Runs one sum of every rank; each rank's result as bytes.
template <class T>
std::vector<std::vector<std::byte>> run_sum(ranks_of_host& host, sum_way way,
                                            const std::vector<std::vector<std::byte>>& in,
                                            unsigned blocks) {
  const std::int64_t n = static_cast<std::int64_t>(in[0].size() / sizeof(T));
  const std::int64_t packs = divide_up(n, pack<T>::count);
  std::vector<std::unique_ptr<cuda_on_cpu::guarded_memory>> memory;
  std::vector<flat<T>> x;
  for (const auto& one : in) {
    memory.push_back(std::make_unique<cuda_on_cpu::guarded_memory>(one.size()));
    std::memcpy(memory.back()->data(), one.data(), one.size());
    x.push_back({reinterpret_cast<T*>(memory.back()->data()), n, n % pack<T>::count == 0});
  }
  with_ranks(static_cast<std::int32_t>(in.size()), [&](auto most) {
    constexpr int ranks = decltype(most)::value;
    const auto everywhere = [&](auto kernel, auto last) {
      for (std::size_t q = 0; q < x.size(); ++q)
        launch(kernel, dim3(blocks), dim3(threads), 0, nullptr, host.groups[q], x[q], last);
    };
    if (way == sum_way::one_shot) {
      everywhere(give<T, ranks>, packs);
      everywhere(take<T, ranks>, packs);
    } else {
      for (const int stretch : {0, 1, 2}) everywhere(two_shot_stretch<T, ranks>, stretch);
    }
  });
  std::vector<std::vector<std::byte>> out;
  for (std::size_t q = 0; q < in.size(); ++q)
    out.emplace_back(memory[q]->data(), memory[q]->data() + in[q].size());
  return out;
}

}  // namespace

TEST_CASE("peers' sums on the host are in rank order, of any size, one behind the other") {
  auto random = seeded(61);
  for (const std::int32_t ranks : {2, 3, 4, 8}) {
    ranks_of_host host(ranks);
    std::uint32_t phase = 0;
    for (int round = 0; round < 24; ++round) {
      const auto type = activation_types()[static_cast<std::size_t>(random.below(3))];
      const auto way = random.below(3) == 0 ? sum_way::two_shot : sum_way::one_shot;
      const std::int64_t n = 1 + random.below(round % 5 == 0 ? 6000 : 300);
      std::vector<std::vector<float>> in;
      std::vector<std::vector<std::byte>> bytes;
      for (std::int32_t q = 0; q < ranks; ++q) {
        in.push_back(rounded(random.floats(n, -2, 2), type));
        in.back()[static_cast<std::size_t>(random.below(static_cast<std::int32_t>(n)))] = -0.0F;
        bytes.push_back(encode(type, in.back()));
      }
      CAPTURE(ranks, round, info(type).name, n, way == sum_way::two_shot);
      std::vector<std::vector<std::byte>> out;
      with_type(type, [&](auto zero) {
        out = run_sum<decltype(zero)>(host, way, bytes, 1 + static_cast<unsigned>(random.below(4)));
      });
      for (const auto& one : out) REQUIRE(one == encode(type, right_sum(in, type)));
      if (way == sum_way::two_shot) continue;
      // Every word came, and of the sums before nothing is left.
      for (std::size_t q = 0; q < host.groups.size(); ++q) {
        const auto packs =
            static_cast<std::size_t>(divide_up(n * info(type).block_bytes, std::int64_t{16}));
        REQUIRE(host.words_there(q, phase) == packs * 4 * static_cast<std::size_t>(ranks - 1));
        REQUIRE(host.words_there(q, (phase + 1) % 3) == 0);
        REQUIRE(host.words_there(q, (phase + 2) % 3) == 0);
      }
      phase = (phase + 1) % 3;
    }
  }
}

TEST_CASE("NaN of every kind, infinity and signed zeros come through peers' sums") {
  for (const auto way : {sum_way::one_shot, sum_way::two_shot}) {
    ranks_of_host host(2);
    const std::vector<std::vector<std::byte>> in(2, std::vector<std::byte>(16, std::byte{0xFF}));
    const auto out = run_sum<bf16>(host, way, in, 1);
    for (const float v : decode(dtype::bf16, out[0])) CHECK(std::isnan(v));
    CHECK(out[0] == out[1]);
    constexpr float inf = std::numeric_limits<float>::infinity();
    const std::vector<float> a = {-0.0F, -0.0F, inf, 0.0F}, b = {-0.0F, 0.0F, 1.0F, -0.0F};
    const auto sums = run_sum<float>(host, way, {encode(dtype::f32, a), encode(dtype::f32, b)}, 1);
    check_same("special", decode(dtype::f32, sums[1]), {-0.0F, 0.0F, inf, 0.0F}, 4);
  }
}

TEST_CASE("a sum with its norm in one kernel has the bits of add_norm behind the sum") {
  auto random = seeded(62);
  for (const std::int32_t ranks : {2, 4, 7}) {
    for (const auto type : activation_types()) {
      for (const auto kind : {norm_kind::rms, norm_kind::layer}) {
        const std::int64_t rows = 3, columns = 8 * (1 + random.below(500));
        CAPTURE(ranks, info(type).name, kind == norm_kind::layer, columns);
        ranks_of_host host(ranks);
        const auto cpu = open_cpu(1);
        const auto residual = rounded(random.floats(rows * columns), type);
        const auto gain = random.floats(columns), bias = random.floats(columns);
        std::vector<std::vector<float>> in;
        std::vector<device_tensor> x;
        for (std::int32_t q = 0; q < ranks; ++q) {
          in.push_back(rounded(random.floats(rows * columns, -2, 2), type));
          x.push_back(filled(*cpu, type, in.back(), rows, columns));
        }
        // Everybody else has given, so that the first rank does not wait.
        with_type(type, [&](auto zero) {
          using T = decltype(zero);
          const std::int64_t packs = rows * columns / pack<T>::count;
          for (std::size_t q = 1; q < x.size(); ++q) {
            const flat<T> all{static_cast<T*>(x[q].data()), rows * columns, true};
            launch(give<T, most_peers>, dim3(2), dim3(threads), 0, nullptr, host.groups[q], all,
                   packs);
          }
        });
        const auto g = filled(*cpu, dtype::f32, gain, columns);
        const auto b = filled(*cpu, dtype::f32, bias, columns);
        const auto sum = filled(*cpu, type, right_sum(in, type), rows, columns);
        const auto normed = [&](bool fused) {
          const auto own = filled(*cpu, type, residual, rows, columns);
          const auto out = poisoned(*cpu, type, rows, columns);
          add_norm_job job;
          job.partial = fused ? x[0].data() : sum.data();
          job.residual = own.data();
          job.gain = static_cast<const float*>(g.data());
          job.bias = kind == norm_kind::layer ? static_cast<const float*>(b.data()) : nullptr;
          job.normed = out.data();
          job.kind = kind;
          job.epsilon = 1e-5F;
          job.rows = rows, job.columns = columns;
          if (fused) {
            REQUIRE(peer_sum_add_norm(host.groups[0], sum_way::one_shot, job, type, nullptr));
          } else {
            add_norm(job, type, nullptr);
          }
          return std::pair(own.bytes(), out.bytes());
        };
        REQUIRE(normed(true) == normed(false));
      }
    }
  }
}

TEST_CASE("a kernel that waits for a peer in vain names it, and ends when the host aborts") {
  for (const bool aborted : {true, false}) {
    ranks_of_host host(3);
    peer_group& own = host.groups[1];
    own.notes->aborted = aborted ? 1 : 0;
    own.patience_ns = aborted ? 1'000'000 : 2;
    std::vector<float> x(40, 1.0F);
    const flat<float> all{x.data(), 40, true};
    launch(give<float, 4>, dim3(1), dim3(threads), 0, nullptr, host.groups[0], all, 10);
    launch(take<float, 4>, dim3(1), dim3(threads), 0, nullptr, own, all, 10);
    CHECK(own.notes->missing == (aborted ? 0U : 3U));  // 1 + rank 2
    CHECK(reinterpret_cast<peer_control*>(own.memory[1])->dead == 1);
    const std::size_t before = host.words_there(0, 1);
    launch(give<float, 4>, dim3(1), dim3(threads), 0, nullptr, own, all, 10);
    CHECK(host.words_there(0, 1) == before);  // nothing is stored any more
  }
}

TEST_CASE("small sums go in one shot, larger ones in two, the largest are NCCL's") {
  for (const std::int32_t ranks : {2, 3, 4, 5, 8}) {
    CHECK(way_of_sum(ranks, 4, {}) == sum_way::one_shot);
    CHECK(way_of_sum(ranks, 4 << 20, {}) == sum_way::two_shot);
    CHECK(way_of_sum(ranks, 64 << 20, {}) == sum_way::nccl);
    const peer_group g = peer_layout(0, ranks);
    for (const auto way : {sum_way::one_shot, sum_way::two_shot}) {
      for (std::int64_t bytes = 16; bytes <= 64 << 20; bytes *= 2) {
        for (const std::optional<sum_way> forced : {std::optional<sum_way>(), {way}}) {
          const sum_way chosen = way_of_sum(ranks, bytes, forced);
          if (chosen == sum_way::one_shot) CHECK(bytes <= g.slot_packs * 16);
          if (chosen == sum_way::two_shot) CHECK(divide_up(bytes / 16, ranks) <= g.part_packs);
        }
      }
    }
  }
}
