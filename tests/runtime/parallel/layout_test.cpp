// SPDX-License-Identifier: Apache-2.0
// Which part a rank holds: tables worked out by hand, and the rule that everything is held exactly
// once, or as often as KV heads are shared.
#include "runtime/parallel/layout.hpp"

#include "runtime/models/model_config.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>

namespace dinfer::tests {
namespace {

using runtime::head_rule;
using runtime::model_shape;
using runtime::range;
using runtime::rank_layout;
using sizes = std::vector<std::uint32_t>;

// SmolLM2-135M.
model_shape small_llama() {
  model_shape shape;
  shape.layers = 30;
  shape.hidden = 576;
  shape.heads = 9;
  shape.kv_heads = 3;
  shape.head_dim = 64;
  shape.mlp = 1536;
  shape.vocabulary = 49152;
  return shape;
}

std::vector<rank_layout> tensor_split(const model_shape& shape, std::uint32_t tp,
                                      head_rule rule = head_rule::lightest_rank) {
  const sizes layers{static_cast<std::uint32_t>(shape.layers)};
  const auto ranks = runtime::lay_out(shape, tp, layers, rule);
  REQUIRE(ranks);
  return *ranks;
}

// Every unit of [0, size) lies in exactly one range, and none is empty.
void check_partition(const std::vector<rank_layout>& ranks, range rank_layout::*part,
                     std::int64_t size) {
  std::int64_t next = 0;
  for (const rank_layout& rank : ranks) {
    CHECK((rank.*part).begin == next);
    CHECK((rank.*part).size() >= 1);
    next = (rank.*part).end;
  }
  CHECK(next == size);
}

void check_heads(const model_shape& shape, const std::vector<rank_layout>& ranks, head_rule rule) {
  check_partition(ranks, &rank_layout::query_heads, shape.heads);
  const int group = shape.heads / shape.kv_heads;
  std::vector<int> holders(static_cast<std::size_t>(shape.kv_heads), 0);
  for (const rank_layout& rank : ranks) {
    for (auto kv = rank.kv_heads.begin; kv < rank.kv_heads.end; ++kv)
      ++holders[static_cast<std::size_t>(kv)];
    REQUIRE(rank.kv_of_query.size() == static_cast<std::size_t>(rank.query_heads.size()));
    for (std::size_t i = 0; i < rank.kv_of_query.size(); ++i) {
      const auto query = rank.query_heads.begin + static_cast<std::int64_t>(i);
      CHECK(rank.kv_heads.begin + rank.kv_of_query[i] == query / group);
      CHECK(rank.kv_of_query[i] < rank.kv_heads.size());
    }
  }
  // Held is what is read, and a rank holds no more than whole groups would give it.
  for (const rank_layout& rank : ranks) {
    CHECK(rank.kv_of_query.front() == 0);
    CHECK(rank.kv_of_query.back() + 1 == rank.kv_heads.size());
  }
  const auto tp = ranks.front().tp_size;
  const auto groups = (shape.kv_heads + tp - 1) / tp;
  for (const rank_layout& rank : ranks)
    CHECK(rank.query_heads.size() + rank.kv_heads.size() <= std::int64_t{groups} * (group + 1));
  const auto total = std::accumulate(holders.begin(), holders.end(), 0);
  CHECK(total >= std::max<int>(shape.kv_heads, tp));
  CHECK(total <= shape.kv_heads + tp - 1);
  if (rule == head_rule::least_work) CHECK(total == std::max<int>(shape.kv_heads, tp));
  CHECK(*std::min_element(holders.begin(), holders.end()) >= 1);
}

}  // namespace

TEST_CASE("units are split evenly, the larger parts first", "[parallel]") {
  CHECK(runtime::split_evenly(10, 4, 0) == range{0, 3});
  CHECK(runtime::split_evenly(10, 4, 1) == range{3, 6});
  CHECK(runtime::split_evenly(10, 4, 2) == range{6, 8});
  CHECK(runtime::split_evenly(10, 4, 3) == range{8, 10});
  CHECK(runtime::split_evenly(2, 4, 3) == range{2, 2});
}

TEST_CASE("nine heads over three KV heads, by hand", "[parallel]") {
  const auto shape = small_llama();
  struct row {
    range query, kv, mlp, vocabulary;
    std::vector<std::int32_t> map;
  };
  const auto check = [&](std::uint32_t tp, const std::vector<row>& rows) {
    const auto ranks = tensor_split(shape, tp);
    REQUIRE(ranks.size() == rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      INFO("tp " << tp << ", rank " << i);
      CHECK(ranks[i].query_heads == rows[i].query);
      CHECK(ranks[i].kv_heads == rows[i].kv);
      CHECK(ranks[i].mlp == rows[i].mlp);
      CHECK(ranks[i].vocabulary == rows[i].vocabulary);
      CHECK(ranks[i].kv_of_query == rows[i].map);
      CHECK(ranks[i].rank == static_cast<int>(i));
      CHECK(ranks[i].tp_rank == static_cast<int>(i));
    }
  };
  check(1, {{{0, 9}, {0, 3}, {0, 1536}, {0, 49152}, {0, 0, 0, 1, 1, 1, 2, 2, 2}}});
  // Whole groups would be 6 and 3 query heads.
  check(2, {{{0, 5}, {0, 2}, {0, 768}, {0, 24576}, {0, 0, 0, 1, 1}},
            {{5, 9}, {1, 3}, {768, 1536}, {24576, 49152}, {0, 1, 1, 1}}});
  check(3, {{{0, 3}, {0, 1}, {0, 512}, {0, 16384}, {0, 0, 0}},
            {{3, 6}, {1, 2}, {512, 1024}, {16384, 32768}, {0, 0, 0}},
            {{6, 9}, {2, 3}, {1024, 1536}, {32768, 49152}, {0, 0, 0}}});
  check(4, {{{0, 2}, {0, 1}, {0, 384}, {0, 12288}, {0, 0}},
            {{2, 3}, {0, 1}, {384, 768}, {12288, 24576}, {0}},
            {{3, 6}, {1, 2}, {768, 1152}, {24576, 36864}, {0, 0, 0}},
            {{6, 9}, {2, 3}, {1152, 1536}, {36864, 49152}, {0, 0, 0}}});
  // 48 blocks over 5: 10 10 10 9 9. ceil(49152 / 5) = 9831.
  check(5, {{{0, 2}, {0, 1}, {0, 320}, {0, 9831}, {0, 0}},
            {{2, 3}, {0, 1}, {320, 640}, {9831, 19662}, {0}},
            {{3, 5}, {1, 2}, {640, 960}, {19662, 29493}, {0, 0}},
            {{5, 6}, {1, 2}, {960, 1248}, {29493, 39324}, {0}},
            {{6, 9}, {2, 3}, {1248, 1536}, {39324, 49152}, {0, 0, 0}}});
}

TEST_CASE("ranks that help each other hold whole groups", "[parallel]") {
  const auto shape = small_llama();
  const auto two = tensor_split(shape, 2, head_rule::least_work);
  CHECK(two[0].query_heads == range{0, 6});
  CHECK(two[0].kv_heads == range{0, 2});
  CHECK(two[0].kv_of_query == std::vector<std::int32_t>{0, 0, 0, 1, 1, 1});
  CHECK(two[1].query_heads == range{6, 9});
  CHECK(two[1].kv_heads == range{2, 3});
  CHECK(two[1].mlp == range{768, 1536});
  // More ranks than groups: KV heads are held as often as ranks read them, and no more.
  const auto four = tensor_split(shape, 4, head_rule::least_work);
  CHECK(four[0].query_heads == range{0, 2});
  CHECK(four[1].query_heads == range{2, 3});
  CHECK(four[1].kv_heads == range{0, 1});
}

TEST_CASE("a rank finds its stage again, whichever rule made its layout", "[parallel]") {
  const auto shape = small_llama();
  for (const auto rule : {head_rule::lightest_rank, head_rule::least_work}) {
    const auto ranks = runtime::lay_out(shape, 2, sizes{16, 14}, rule);
    REQUIRE(ranks);
    for (const rank_layout& own : *ranks) {
      const auto stage = runtime::stage_of(own, shape);
      REQUIRE(stage);
      REQUIRE(stage->size() == 2);
      for (std::size_t i = 0; i < 2; ++i) {
        CHECK((*stage)[i].query_heads == (*ranks)[i].query_heads);
        CHECK((*stage)[i].vocabulary == (*ranks)[i].vocabulary);
      }
    }
  }
  auto other = shape;
  other.mlp = 1600;
  auto own = tensor_split(shape, 2)[1];
  CHECK(runtime::stage_of(own, other).error().code == errc::mismatch);
  for (const std::int32_t no_rank : {-1, 2}) {
    own.tp_rank = no_rank;
    CHECK(runtime::stage_of(own, shape).error().code == errc::mismatch);
  }
  own.tp_rank = 1;
  own.layers = {16, 31};
  CHECK(runtime::stage_of(own, shape).error().code == errc::mismatch);
}

TEST_CASE("one head a rank is the most", "[parallel]") {
  const auto shape = small_llama();
  const auto nine = tensor_split(shape, 9);
  for (const auto& rank : nine) {
    CHECK(rank.query_heads.size() == 1);
    CHECK(rank.kv_heads == range{rank.tp_rank / 3, rank.tp_rank / 3 + 1});
  }
  const auto ten = runtime::lay_out(shape, 10, sizes{30});
  REQUIRE_FALSE(ten);
  CHECK(ten.error().code == errc::invalid_argument);
  CHECK(ten.error().subject == "tensor_parallel_size");
  CHECK(ten.error().message ==
        "tensor_parallel_size = 10: the model has 9 attention heads; at most 9");
  CHECK_FALSE(runtime::lay_out(shape, 0, sizes{30}));
  CHECK_FALSE(runtime::lay_out(shape, 4294967295U, sizes{30}));
}

TEST_CASE("small MLPs and vocabularies bound the size too", "[parallel]") {
  auto shape = small_llama();
  shape.mlp = 96;
  CHECK(runtime::lay_out(shape, 4, sizes{30}).error().message ==
        "tensor_parallel_size = 4: the model's MLP has 96 columns, 3 blocks of 32; at most 3");
  shape.mlp = 1536;
  shape.vocabulary = 10;  // over 7: shards of 2 leave two ranks without; over 5 all have 2
  CHECK(runtime::lay_out(shape, 7, sizes{30}).error().message ==
        "tensor_parallel_size = 7: the model's vocabulary has 10 rows; at most 5");
}

TEST_CASE("MLPs are cut where stored blocks end, unless there are too few of them", "[parallel]") {
  auto shape = small_llama();
  shape.mlp_block = 256;
  const auto four = tensor_split(shape, 4);  // 6 blocks over 4
  CHECK(four[0].mlp == range{0, 512});
  CHECK(four[1].mlp == range{512, 1024});
  CHECK(four[2].mlp == range{1024, 1280});
  CHECK(four[3].mlp == range{1280, 1536});
  const auto seven = tensor_split(shape, 7);  // 48 blocks of 32
  check_partition(seven, &rank_layout::mlp, 1536);
  CHECK(seven[0].mlp == range{0, 224});
}

TEST_CASE("stages hold the layers that are asked for", "[parallel]") {
  const auto shape = small_llama();
  const auto ranks = runtime::lay_out(shape, 3, sizes{16, 14});
  REQUIRE(ranks);
  REQUIRE(ranks->size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    const auto& rank = (*ranks)[i];
    CHECK(rank.rank == static_cast<int>(i));
    CHECK(rank.stage == static_cast<int>(i / 3));
    CHECK(rank.tp_rank == static_cast<int>(i % 3));
    CHECK(rank.layers == (i < 3 ? range{0, 16} : range{16, 30}));
    CHECK(rank.first() == (i < 3));
    CHECK(rank.last() == (i >= 3));
  }
  const auto message = [&](const sizes& layers) {
    const auto wrong = runtime::lay_out(shape, 1, layers);
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().subject == "pp_layers");
    return wrong.error().message;
  };
  CHECK(message({16, 15}) == "pp_layers = [16, 15]: sums to 31; the model has 30 layers");
  CHECK(message({30, 0}) == "pp_layers = [30, 0]: every stage holds at least one layer");
  CHECK(message({}) == "pp_layers = []: at least one stage");
  CHECK(message({4294967295U, 31}) ==
        "pp_layers = [4294967295, 31]: sums to 4294967326; the model has 30 layers");
}

TEST_CASE("everything is held exactly once, whatever the sizes", "[parallel]") {
  const unsigned seed = 7;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto draw = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  for (int round = 0; round < 300; ++round) {
    model_shape shape;
    shape.kv_heads = draw(1, 12);
    shape.heads = shape.kv_heads * draw(1, 9);
    shape.head_dim = 32;
    shape.mlp = draw(1, 4000);
    shape.vocabulary = draw(1, 5000);
    shape.layers = 1;
    for (std::uint32_t tp = 1; tp <= 20; ++tp) {
      const auto rule = round % 2 == 0 ? head_rule::lightest_rank : head_rule::least_work;
      const auto ranks = runtime::lay_out(shape, tp, sizes{1}, rule);
      const std::int64_t shard = (shape.vocabulary + tp - 1) / tp;
      const bool fits = static_cast<int>(tp) <= shape.heads &&
                        static_cast<int>(tp) <= (shape.mlp + 31) / 32 &&
                        shard * (tp - 1) < shape.vocabulary;
      REQUIRE(ranks.has_value() == fits);
      if (!ranks) continue;
      INFO("heads " << shape.heads << ", kv " << shape.kv_heads << ", tp " << tp);
      check_heads(shape, *ranks, rule);
      check_partition(*ranks, &rank_layout::mlp, shape.mlp);
      check_partition(*ranks, &rank_layout::vocabulary, shape.vocabulary);
      for (const auto& rank : *ranks) {
        CHECK(rank.mlp.begin % 32 == 0);
        if (rank.tp_rank + 1 < rank.tp_size) CHECK(rank.vocabulary.size() == shard);
      }
    }
  }
}

}  // namespace dinfer::tests
