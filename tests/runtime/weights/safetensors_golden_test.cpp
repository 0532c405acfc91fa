// SPDX-License-Identifier: Apache-2.0
// A file written by PyPI's safetensors package (tests/reference/safetensors_golden.py): the reader
// reads it, and the tests' own writer makes the same bytes.
#include "runtime/weights/safetensors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/golden_bytes.hpp"
#include "tests/support/safetensors_writer.hpp"

namespace dinfer::tests {
namespace {

constexpr const char* small = "tests/golden/safetensors/small.hex";

using shape_of = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("a safetensors file of the reference writer is read", "[weights][safetensors]") {
  const std::string file = golden_bytes(small);
  const auto contents = runtime::parse_safetensors(std::as_bytes(std::span(file)), "small");
  REQUIRE(contents);
  const auto& entries = contents->entries;
  REQUIRE(entries.size() == 3);
  const auto same = [](std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  const std::vector<float> norm{0.5F, -1.25F, 3.0F};
  CHECK(entries[0].name == "model.norm.weight");
  CHECK(entries[0].type == kernels::dtype::f32);
  CHECK(entries[0].shape == shape_of{3});
  CHECK(same(entries[0].data, std::as_bytes(std::span(norm))));
  CHECK(entries[1].name == "model.embed_tokens.weight");
  CHECK(entries[1].type == kernels::dtype::bf16);
  CHECK(entries[1].shape == shape_of{4, 3});
  CHECK(same(entries[1].data, counting(24)));
  CHECK(entries[2].name == "half \u00e9");
  CHECK(entries[2].type == kernels::dtype::f16);
  CHECK(entries[2].shape == shape_of{1, 1, 5});
  CHECK(same(entries[2].data, counting(10)));
}

TEST_CASE("the tests' safetensors writer writes what the reference writer does",
          "[weights][safetensors]") {
  const std::vector<float> norm{0.5F, -1.25F, 3.0F};
  safetensors_writer writer;
  writer.metadata("format", "pt").tensor("model.norm.weight", {3}, norm);
  writer.tensor("model.embed_tokens.weight", "BF16", {4, 3}, counting(24));
  writer.tensor("half \u00e9", "F16", {1, 1, 5}, counting(10));
  CHECK(writer.file() == golden_bytes(small));
}

}  // namespace dinfer::tests
