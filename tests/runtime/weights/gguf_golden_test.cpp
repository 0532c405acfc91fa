// SPDX-License-Identifier: Apache-2.0
// A file written by PyPI's gguf package (tests/reference/gguf_golden.py): the reader reads it, and
// the tests' own writer makes the same bytes.
#include "runtime/weights/gguf.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/golden_bytes.hpp"

#include <numeric>

namespace dinfer::tests {
namespace {

constexpr const char* small = "tests/golden/gguf/small.hex";

}  // namespace

TEST_CASE("a file of the reference writer is read", "[weights][gguf]") {
  const std::string file = golden_bytes(small);
  const auto source = runtime::parse_gguf(std::as_bytes(std::span(file)), "small.gguf");
  REQUIRE(source);
  const auto& weights = **source;
  CHECK(weights.text("general.architecture") == "llama");
  CHECK(weights.integer("t.u8") == 200);
  CHECK(weights.integer("t.i8") == -100);
  CHECK(weights.integer("t.u16") == 60000);
  CHECK(weights.integer("t.i16") == -30000);
  CHECK(weights.integer("t.u32") == 4000000000);
  CHECK(weights.integer("t.i32") == -2000000000);
  CHECK(weights.integer("t.u64") == std::int64_t{1} << 40);
  CHECK(weights.integer("t.i64") == -(std::int64_t{1} << 40));
  CHECK(weights.number("t.f32") == static_cast<double>(0.1F));
  CHECK(weights.number("t.f64") == 0.1);
  CHECK(weights.boolean("t.yes") == true);
  CHECK(weights.boolean("t.no") == false);
  CHECK(weights.text("t.text") == "gr\u00fc\u00dfe \U0001f999");
  const auto words = weights.texts("t.words");
  REQUIRE(words);
  CHECK(std::vector<std::string_view>(words->begin(), words->end()) ==
        std::vector<std::string_view>{"a", "", "\u00e9"});
  CHECK(weights.integers("t.numbers") == std::vector<std::int64_t>{1, -2, 3});
  CHECK(weights.numbers("t.reals") == std::vector<double>{0.5, -1.25});
  CHECK_FALSE(weights.integers("t.flags"));

  REQUIRE(weights.tensors().size() == 4);
  const auto* floats = weights.find("f32");
  REQUIRE(floats != nullptr);
  CHECK(floats->shape == std::vector<std::int64_t>{2, 3});
  std::vector<float> values(6);
  REQUIRE(floats->data.size() == 24);
  std::memcpy(values.data(), floats->data.data(), 24);
  CHECK(values == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK(weights.find("f16")->shape == std::vector<std::int64_t>{4});
  CHECK(weights.find("q8_0")->shape == std::vector<std::int64_t>{2, 32});
  CHECK(weights.find("q4_1")->shape == std::vector<std::int64_t>{3, 64});
  const auto expected = counting(120);
  CHECK(std::equal(expected.begin(), expected.end(), weights.find("q4_1")->data.begin(),
                   weights.find("q4_1")->data.end()));
}

TEST_CASE("the tests' writer writes what the reference writer writes", "[weights][gguf]") {
  gguf_writer writer;
  writer.set("general.architecture", "llama");
  writer.set("t.u8", std::uint8_t{200}).set("t.i8", std::int8_t{-100});
  writer.set("t.u16", std::uint16_t{60000}).set("t.i16", std::int16_t{-30000});
  writer.set("t.u32", std::uint32_t{4000000000}).set("t.i32", std::int32_t{-2000000000});
  writer.set("t.u64", std::uint64_t{1} << 40).set("t.i64", -(std::int64_t{1} << 40));
  writer.set("t.f32", 0.1F).set("t.f64", 0.1).set("t.yes", true).set("t.no", false);
  writer.set("t.text", "gr\u00fc\u00dfe \U0001f999");
  writer.set("t.words", std::vector<std::string>{"a", "", "\u00e9"});
  writer.set("t.numbers", std::vector<std::int32_t>{1, -2, 3});
  writer.set("t.reals", std::vector<float>{0.5F, -1.25F});
  writer.set("t.flags", std::vector<bool>{true, false, true});
  std::vector<float> values(6);
  std::iota(values.begin(), values.end(), 0.0F);
  const std::vector<std::uint16_t> halves{0x0000, 0x3C00, 0x4000, 0x4200};  // 0, 1, 2, 3
  writer.tensor("f32", {2, 3}, values);
  writer.tensor("f16", kernels::dtype::f16, {4}, std::as_bytes(std::span(halves)));
  writer.tensor("q8_0", kernels::dtype::q8_0, {2, 32}, counting(68));
  writer.tensor("q4_1", kernels::dtype::q4_1, {3, 64}, counting(120));
  CHECK(writer.file() == golden_bytes(small));
}

}  // namespace dinfer::tests
