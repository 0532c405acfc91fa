// SPDX-License-Identifier: Apache-2.0
// Sizes and places of KV pages.
#include "runtime/kv/kv_cache.hpp"
#include "tests/support/catch.hpp"

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

std::vector<kv_group> two_groups() {
  std::vector<kv_group> groups(2);
  groups[0].layers = {0, 2, 4};
  groups[0].kv_heads = 3;
  groups[0].head_dim = 64;
  groups[1].layers = {1, 3};
  groups[1].kv_heads = 3;
  groups[1].head_dim = 64;
  groups[1].window = 512;
  return groups;
}

}  // namespace

TEST_CASE("a block holds keys and values of its group's layers") {
  const auto groups = two_groups();
  CHECK(kv_block_bytes(groups[0], 16, kernels::dtype::f32) == 3 * 2 * 3 * 16 * 64 * 4);
  CHECK(kv_block_bytes(groups[1], 32, kernels::dtype::bf16) == 2 * 2 * 3 * 32 * 64 * 2);
  CHECK(kv_block_bytes(groups[1], 32, kernels::dtype::f8_e4m3) == 2 * 2 * 3 * 32 * 64);
}

TEST_CASE("blocks are what memory holds, less the null block") {
  const auto groups = two_groups();
  const std::uint64_t both = kv_block_bytes(groups[0], 16, kernels::dtype::f32) +
                             kv_block_bytes(groups[1], 16, kernels::dtype::f32);
  CHECK(kv_blocks_within(groups, 16, kernels::dtype::f32, 11 * both - 1) == 9);
  CHECK(kv_blocks_within(groups, 16, kernels::dtype::f32, both) == 0);
  CHECK(kv_blocks_within(groups, 16, kernels::dtype::f32, 0) == 0);
}

TEST_CASE("every group has its own pages and a null block") {
  auto device = kernels::open_device("cpu:0", {}).value();
  const auto groups = two_groups();
  const std::vector<std::uint32_t> blocks{5, 9};
  const kv_cache cache(*device, groups, blocks, 16, kernels::dtype::f32);
  REQUIRE(cache.pages().size() == 2);
  CHECK(cache.pages()[0].pages == 6);
  CHECK(cache.pages()[1].pages == 10);
  CHECK(cache.pages()[1].layers == 2);
  CHECK(cache.pages()[0].base != cache.pages()[1].base);
  CHECK(cache.bytes() == 6 * kv_block_bytes(groups[0], 16, kernels::dtype::f32) +
                             10 * kv_block_bytes(groups[1], 16, kernels::dtype::f32));
}
