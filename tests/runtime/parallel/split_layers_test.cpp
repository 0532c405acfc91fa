// SPDX-License-Identifier: Apache-2.0
// Layers by bytes: against every possible split, and the plain cases by hand.
#include "runtime/parallel/layout.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <numeric>
#include <random>

namespace dinfer::tests {
namespace {

using runtime::split_layers;
using bytes = std::vector<std::uint64_t>;
using counts = std::vector<std::uint32_t>;

std::uint64_t heaviest(const bytes& layers, std::uint64_t first, std::uint64_t last,
                       const counts& split) {
  std::uint64_t worst = 0;
  std::size_t next = 0;
  for (std::size_t stage = 0; stage < split.size(); ++stage) {
    std::uint64_t sum = stage == 0 ? first : 0;
    if (stage + 1 == split.size()) sum += last;
    for (std::uint32_t i = 0; i < split[stage]; ++i) sum += layers[next++];
    worst = std::max(worst, sum);
  }
  return worst;
}

// The lightest heaviest stage over all splits, by trying each.
std::uint64_t best_of_all(const bytes& layers, std::uint64_t first, std::uint64_t last,
                          std::uint32_t stages, counts& so_far, std::size_t left) {
  if (so_far.size() + 1 == stages) {
    so_far.push_back(static_cast<std::uint32_t>(left));
    const auto weight = heaviest(layers, first, last, so_far);
    so_far.pop_back();
    return weight;
  }
  std::uint64_t best = ~std::uint64_t{0};
  const std::size_t later = stages - so_far.size() - 1;  // stages that need a layer each
  for (std::uint32_t take = 1; take + later <= left; ++take) {
    so_far.push_back(take);
    best = std::min(best, best_of_all(layers, first, last, stages, so_far, left - take));
    so_far.pop_back();
  }
  return best;
}

}  // namespace

TEST_CASE("equal layers are spread evenly", "[parallel]") {
  const bytes layers(30, 100);
  CHECK(split_layers(layers, 0, 0, 1) == counts{30});
  CHECK(split_layers(layers, 0, 0, 2) == counts{15, 15});
  CHECK(split_layers(layers, 0, 0, 4) == counts{8, 8, 7, 7});
  CHECK(split_layers(layers, 0, 0, 30) == counts(30, 1));
}

TEST_CASE("embedding and head count where they lie", "[parallel]") {
  const bytes layers(30, 100);
  CHECK(split_layers(layers, 200, 0, 2) == counts{14, 16});
  CHECK(split_layers(layers, 0, 200, 2) == counts{16, 14});
  CHECK(split_layers(layers, 5000, 0, 3) == counts{1, 15, 14});
  CHECK(split_layers(bytes{1, 1, 1, 50}, 0, 0, 2) == counts{3, 1});
}

TEST_CASE("no split has a lighter heaviest stage", "[parallel]") {
  const unsigned seed = 11;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 400; ++round) {
    bytes layers(1 + random() % 10);
    for (auto& b : layers) b = random() % 50;
    const std::uint64_t first = random() % 100, last = random() % 100;
    for (std::uint32_t stages = 1; stages <= layers.size(); ++stages) {
      const counts split = split_layers(layers, first, last, stages);
      REQUIRE(split.size() == stages);
      CHECK(std::accumulate(split.begin(), split.end(), 0U) == layers.size());
      CHECK(*std::min_element(split.begin(), split.end()) >= 1);
      counts scratch;
      CHECK(heaviest(layers, first, last, split) ==
            best_of_all(layers, first, last, stages, scratch, layers.size()));
    }
  }
}

TEST_CASE("sums near the largest number do not disturb the split", "[parallel]") {
  const bytes layers(4, std::uint64_t{1} << 60);
  CHECK(split_layers(layers, 0, 0, 2) == counts{2, 2});
}

}  // namespace dinfer::tests
