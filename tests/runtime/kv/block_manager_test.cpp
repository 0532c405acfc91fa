// SPDX-License-Identifier: Apache-2.0
// Blocks, prefixes and windows, with one group and with two.
#include "runtime/kv/block_manager.hpp"

#include "tests/support/catch.hpp"

#include <numeric>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

std::vector<token_id> count_from(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  std::iota(t.begin(), t.end(), first);
  return t;
}

std::uint64_t one_bucket(std::uint64_t, std::span<const token_id>) { return 42; }

// Opens a table, computes all of `tokens`, and leaves it open.
block_table computed(block_manager& m, const std::vector<token_id>& tokens,
                     std::string_view salt = "", std::uint32_t adapter = 0) {
  block_table t;
  m.open(t, tokens, salt, adapter, true);
  REQUIRE(m.room(t) >= tokens.size());
  m.cover(t, static_cast<std::uint32_t>(tokens.size()));
  m.commit(t, tokens);
  return t;
}

std::uint32_t found(block_manager& m, const std::vector<token_id>& tokens,
                    std::string_view salt = "", std::uint32_t adapter = 0) {
  block_table t;
  const std::uint32_t n = m.open(t, tokens, salt, adapter, true);
  m.close(t);
  return n;
}

}  // namespace

TEST_CASE("only full blocks are found, under equal salt and adapter alone") {
  block_manager m(4, {{10, 0}}, true);
  block_table t = computed(m, count_from(0, 11), "tenant", 2);
  CHECK(found(m, count_from(0, 11), "tenant", 2) == 8);
  CHECK(found(m, count_from(0, 7), "tenant", 2) == 4);
  CHECK(found(m, count_from(1, 11), "tenant", 2) == 0);
  CHECK(found(m, count_from(0, 11), "", 2) == 0);
  CHECK(found(m, count_from(0, 11), "tenant", 0) == 0);
  m.close(t);
  CHECK(found(m, count_from(0, 11), "tenant", 2) == 8);
  CHECK(m.cached(0) == 2);
  CHECK(m.available(0) == 10);
  m.check_integrity({});
}

TEST_CASE("tables share found blocks and the last one frees them") {
  block_manager m(4, {{10, 0}}, true);
  block_table a = computed(m, count_from(0, 8));
  block_table b = computed(m, count_from(0, 10));
  CHECK(b.groups[0][0] == a.groups[0][0]);
  CHECK(b.groups[0][1] == a.groups[0][1]);
  CHECK(m.available(0) == 7);
  const block_table* both[] = {&a, &b};
  m.check_integrity(both);
  m.close(a);
  CHECK(m.available(0) == 7);
  m.close(b);
  CHECK(m.available(0) == 10);
  m.check_integrity({});
}

TEST_CASE("the least recently used prefix is lost first, from its end") {
  block_manager m(2, {{6, 0}}, true);
  block_table t = computed(m, count_from(0, 6));
  m.close(t);
  t = computed(m, count_from(100, 6));
  m.close(t);
  REQUIRE(m.cached(0) == 6);
  CHECK(found(m, count_from(0, 6)) == 6);  // now the other is the older one
  t = computed(m, count_from(200, 4));
  CHECK(found(m, count_from(0, 6)) == 6);
  CHECK(found(m, count_from(100, 6)) == 2);
  m.close(t);
  m.check_integrity({});
}

TEST_CASE("prefixes whose hashes collide are told apart by their tokens") {
  block_manager m(2, {{20, 0}}, true, one_bucket);
  block_table a = computed(m, {1, 2, 3, 4});
  block_table b = computed(m, {3, 4, 1, 2});
  CHECK(found(m, {1, 2, 3, 4}) == 4);
  CHECK(found(m, {3, 4, 1, 2}) == 4);
  CHECK(found(m, {1, 2, 1, 2}) == 2);
  CHECK(found(m, {3, 4, 3, 4}) == 2);
  CHECK(found(m, {4, 3}) == 0);
  const block_table* both[] = {&a, &b};
  m.check_integrity(both);
}

TEST_CASE("a window frees what slid out and needs only what it reaches") {
  block_manager m(4, {{4, 8}}, true);
  CHECK(m.capacity() > 1'000'000);
  std::vector<token_id> tokens = count_from(0, 200);
  block_table t;
  m.open(t, tokens, "", 0, true);
  for (std::uint32_t p = 0; p < 200; ++p) {
    m.slide(t, p);
    REQUIRE(m.room(t) > p);
    m.cover(t, p + 1);
    m.commit(t, std::span(tokens).first(p + 1));
  }
  CHECK(t.groups[0].size() == 50);
  CHECK(t.groups[0][0] == 0);
  CHECK(m.total(0) - m.available(0) <= 3);
  const block_table* one[] = {&t};
  m.check_integrity(one);
}

TEST_CASE("with two groups a prefix is found only where both still have it") {
  block_manager m(2, {{40, 0}, {8, 4}}, true);
  const std::vector<token_id> tokens = count_from(0, 12);
  block_table t = computed(m, tokens);
  m.slide(t, 12);
  CHECK(t.groups[1][3] == 0);
  CHECK(t.groups[1][4] != 0);
  m.close(t);
  CHECK(found(m, tokens) == 12);

  // Somebody takes the window's oldest blocks: those that slid out of it first.
  block_table other = computed(m, count_from(500, 8));
  CHECK(found(m, tokens) == 12);           // the last two blocks of the window are enough
  CHECK(found(m, count_from(0, 6)) == 0);  // the window's blocks before position 6 are gone
  block_table again;
  REQUIRE(m.open(again, tokens, "", 0, true) == 12);
  CHECK(again.groups[0][0] != 0);
  CHECK(again.groups[1][3] == 0);
  const block_table* both[] = {&other, &again};
  m.check_integrity(both);
  m.close(other);
  m.close(again);
  m.check_integrity({});
}

TEST_CASE("the tightest group decides the room and the capacity") {
  block_manager m(4, {{10, 0}, {3, 0}}, false);
  CHECK(m.capacity() == 12);
  block_table t;
  m.open(t, count_from(0, 8), "", 0, true);
  CHECK(m.room(t) == 12);
  m.cover(t, 5);
  CHECK(m.room(t) == 12);
  CHECK(m.available(0) == 8);
  CHECK(m.available(1) == 1);
  m.close(t);
  CHECK(m.cached(0) == 0);
}
