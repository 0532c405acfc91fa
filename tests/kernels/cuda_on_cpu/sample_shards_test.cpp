// SPDX-License-Identifier: Apache-2.0
// Rows whose vocabulary lies on several ranks are drawn, and reported of, as whole rows are: bit
// for bit, however the vocabulary is cut.
#include "kernels/cuda/sampler.hpp"
#include "tests/kernels/cuda/sample_cases.hpp"
#include "tests/support/cuda_on_cpu.hpp"
#include "tests/support/thread_group.hpp"

#include <numeric>
#include <thread>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using cuts = std::vector<std::int64_t>;

constexpr std::uint32_t slots = 6;  // and one for padding

// The columns [first, first + width) of rows of `vocabulary`.
std::vector<float> part_of(const std::vector<float>& logits, std::int64_t vocabulary,
                           std::int64_t first, std::int64_t width) {
  std::vector<float> part;
  for (auto row = logits.begin(); row != logits.end(); row += vocabulary)
    part.insert(part.end(), row + first, row + first + width);
  return part;
}

// One sampler alone, and one for each part of the vocabulary.
class split_samplers {
 public:
  explicit split_samplers(const cuts& shards)
      : shards_(shards), group_(std::make_shared<thread_group>(static_cast<int>(shards.size()))) {
    const auto vocabulary = std::accumulate(shards.begin(), shards.end(), std::int64_t{0});
    for (std::size_t i = 0; i <= shards.size(); ++i) {
      devices_.push_back(open_cpu(1));
      samplers_.push_back(cuda::make_cuda_sampler(*devices_[i], nullptr, slots, vocabulary));
      if (i < shards.size()) samplers_[i]->reserve_exchange(shards);
    }
  }
  sampler& whole() { return *samplers_.back(); }

  void start(const drawn_sequence& sequence, std::uint32_t slot) {
    for (const auto& s : samplers_) sequence.start(*s, slot);
  }

  // Draws on every rank, and alone; checks that all say the same. Returns what was drawn.
  std::vector<sampled_token> draw(const std::vector<float>& logits,
                                  const std::vector<sample_row>& rows) {
    const auto vocabulary = static_cast<std::int64_t>(logits.size() / rows.size());
    const auto right = draw_rows(*devices_.back(), whole(), logits, rows, {&vocabulary, 1});
    std::vector<std::vector<sampled_token>> got(shards_.size());
    std::vector<std::string> failures(shards_.size());
    std::vector<std::thread> threads;
    std::int64_t first = 0;
    for (std::size_t rank = 0; rank < shards_.size(); ++rank) {
      threads.emplace_back([&, rank, first] {
        try {
          thread_communicator tp(group_, static_cast<std::int32_t>(rank));
          got[rank] = draw_part(rank, part_of(logits, vocabulary, first, shards_[rank]), rows, tp);
        } catch (const std::exception& e) {
          failures[rank] = e.what();
        }
      });
      first += shards_[rank];
    }
    for (auto& t : threads) t.join();
    for (std::size_t rank = 0; rank < shards_.size(); ++rank) {
      INFO("rank " << rank);
      REQUIRE(failures[rank].empty());
      check_same(got[rank], right, rows);
    }
    return right;
  }

 private:
  std::vector<sampled_token> draw_part(std::size_t rank, const std::vector<float>& logits,
                                       const std::vector<sample_row>& rows, communicator& tp) {
    return draw_rows(*devices_[rank], *samplers_[rank], logits, rows, shards_, &tp);
  }
  void check_same(const std::vector<sampled_token>& got, const std::vector<sampled_token>& right,
                  const std::vector<sample_row>& rows) const {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      INFO("row " << r);
      if (rows[r].slot == slots) continue;
      CHECK(got[r].token == right[r].token);
      CHECK(same_bits({got[r].logprob}, {right[r].logprob}));
      REQUIRE(got[r].top.size() == right[r].top.size());
      for (std::size_t i = 0; i < got[r].top.size(); ++i) {
        CHECK(got[r].top[i].token == right[r].top[i].token);
        CHECK(same_bits({got[r].top[i].logprob}, {right[r].top[i].logprob}));
      }
    }
  }

  cuts shards_;
  std::shared_ptr<thread_group> group_;
  std::vector<std::unique_ptr<device>> devices_;
  std::vector<std::unique_ptr<sampler>> samplers_;
};

}  // namespace

TEST_CASE("emulated draws over parts of the vocabulary are those of whole rows") {
  const auto shards = GENERATE(cuts{1, 1}, cuts{20, 20}, cuts{17, 0, 23}, cuts{0, 40}, cuts{21, 20},
                               cuts{400, 303, 300}, cuts{1500, 1500}, cuts{5001, 4000});
  CAPTURE(shards);
  const auto vocabulary =
      static_cast<std::int32_t>(std::accumulate(shards.begin(), shards.end(), std::int64_t{0}));
  const auto seed = static_cast<std::uint64_t>(900 + vocabulary);
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  random_numbers random(seed);
  cuda_on_cpu::set_order(seed % 5);
  split_samplers samplers(shards);
  for (const bool simple : {true, false}) {
    std::vector<drawn_sequence> sequences;
    for (std::uint32_t i = 0; i < slots; ++i) {
      auto& s = sequences.emplace_back(random_sequence(random, vocabulary));
      while (simple && (s.params.filtered() || s.params.penalised() || s.params.logprobs >= 0 ||
                        !s.params.logit_biases.empty() || !s.stops.empty())) {
        s = random_sequence(random, vocabulary);
      }
      samplers.start(s, i);
    }
    for (int step = 0; step < 3; ++step) {
      std::vector<sample_row> rows;
      std::vector<float> logits;
      const auto add = [&](const sample_row& row) {
        rows.push_back(row);
        const auto x = random_logits(random, vocabulary);
        logits.insert(logits.end(), x.begin(), x.end());
      };
      for (std::uint32_t i = 0; i < slots; ++i) add({i, sequences[i].position + step, -1});
      // More rows than are put together at a time.
      for (int i = 0; !simple && vocabulary < 100 && i < 70; ++i)
        add({static_cast<std::uint32_t>(i) % slots, 3, random.below(vocabulary)});
      add({slots, 0, -1});
      CHECK(samplers.whole().simple(rows) == simple);
      samplers.draw(logits, rows);
    }
  }
}

TEST_CASE("emulated draws of equal logits take the lowest token, whose ever it is") {
  cuda_on_cpu::set_order(3);
  split_samplers samplers({3, 4, 3});
  drawn_sequence greedy;
  greedy.params.temperature = 0;
  samplers.start(greedy, 0);
  std::vector<float> logits(10, 1.0F);
  CHECK(samplers.draw(logits, {{0, 5, -1}})[0].token == 0);
  for (std::size_t i = 0; i < 4; ++i) logits[i] = -HUGE_VALF;
  CHECK(samplers.draw(logits, {{0, 6, -1}})[0].token == 4);
  logits.assign(10, -HUGE_VALF);
  CHECK(samplers.draw(logits, {{0, 7, -1}})[0].token == 0);
}
