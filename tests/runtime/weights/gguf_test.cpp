// SPDX-License-Identifier: Apache-2.0
// The GGUF reader on whole files: the real model, and small ones whose every byte is known.
#include "runtime/weights/gguf.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/model_path.hpp"

#include <cmath>
#include <filesystem>
#include <map>

namespace dinfer::tests {
namespace {

using kernels::dtype;
using runtime::open_weights;
using runtime::parse_gguf;
using shape_of = std::vector<std::int64_t>;

auto parse(const std::string& file) { return parse_gguf(std::as_bytes(std::span(file)), "t.gguf"); }

}  // namespace

// The numbers were read by PyPI's gguf package (0.19) from the same file.
TEST_CASE("the real model's directory and metadata are read", "[weights][gguf]") {
  const auto source = open_weights(model_path());
  REQUIRE(source);
  const auto& weights = **source;
  CHECK(weights.format() == "gguf");
  CHECK(weights.file_bytes() == 98'362'432);
  REQUIRE(weights.tensors().size() == 272);

  std::map<dtype, int> types;
  std::int64_t elements = 0;
  for (const auto& tensor : weights.tensors()) {
    ++types[tensor.type];
    std::int64_t n = 1;
    for (const auto extent : tensor.shape) n *= extent;
    elements += n;
  }
  CHECK(types == std::map<dtype, int>{{dtype::q8_0, 1}, {dtype::q4_1, 210}, {dtype::f32, 61}});
  CHECK(elements == 134'515'008);

  const auto* first = weights.find("token_embd.weight");
  REQUIRE(first != nullptr);
  CHECK(first->shape == shape_of{49152, 576});
  CHECK(first->data.size() == 30'081'024);
  const auto* down = weights.find("blk.0.ffn_down.weight");
  REQUIRE(down != nullptr);
  CHECK(down->shape == shape_of{576, 1536});
  CHECK(down->data.data() - first->data.data() == 31'868'992 - 1'785'664);
  CHECK(weights.find("output.weight") == nullptr);

  CHECK(weights.text("general.architecture") == "llama");
  CHECK(weights.integer("llama.block_count") == 30);
  CHECK(weights.number("llama.rope.freq_base") == 100000.0);
  CHECK(weights.boolean("tokenizer.ggml.add_bos_token") == false);
  CHECK(weights.texts("general.languages")->front() == "en");
  CHECK(weights.texts("tokenizer.ggml.tokens")->size() == 49152);
  CHECK(weights.texts("tokenizer.ggml.tokens")->operator[](2) == "<|im_end|>");
  CHECK(weights.texts("tokenizer.ggml.merges")->size() == 48900);
  CHECK(weights.integers("tokenizer.ggml.token_type")->size() == 49152);
}

TEST_CASE("a key answers only to its own type", "[weights][gguf]") {
  gguf_writer writer;
  writer.set("whole", std::uint32_t{7}).set("negative", std::int8_t{-3}).set("real", 1.5F);
  writer.set("huge", std::uint64_t{1} << 63).set("yes", true).set("word", "text");
  writer.set("words", std::vector<std::string>{"a", ""}).set("wide", 2.25);
  writer.set("wholes", std::vector<std::int16_t>{-1, 300}).set("none", std::vector<float>{});
  const std::string file = writer.file();
  const auto source = parse(file);
  REQUIRE(source);
  const auto& weights = **source;

  CHECK(weights.integer("whole") == 7);
  CHECK(weights.integer("negative") == -3);
  CHECK(weights.number("whole") == 7.0);
  CHECK(weights.number("real") == 1.5);
  CHECK(weights.number("wide") == 2.25);
  CHECK(weights.boolean("yes") == true);
  CHECK(weights.text("word") == "text");
  CHECK(weights.texts("words")->size() == 2);
  CHECK(weights.integers("wholes") == std::vector<std::int64_t>{-1, 300});
  CHECK(weights.numbers("wholes") == std::vector<double>{-1, 300});
  CHECK(weights.numbers("none")->empty());

  CHECK_FALSE(weights.integer("real"));
  CHECK_FALSE(weights.integer("huge"));  // does not fit
  CHECK_FALSE(weights.integer("yes"));
  CHECK_FALSE(weights.integer("wholes"));
  CHECK_FALSE(weights.boolean("whole"));
  CHECK_FALSE(weights.text("words"));
  CHECK_FALSE(weights.texts("word"));
  CHECK_FALSE(weights.integers("whole"));
  CHECK_FALSE(weights.integers("words"));
  CHECK_FALSE(weights.text("absent"));
}

TEST_CASE("tensors keep their bytes and get row-major shapes", "[weights][gguf]") {
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const std::vector<std::byte> blocks(std::size_t{2} * 2 * 20, std::byte{0x5A});
  for (const std::uint32_t alignment : {8U, 32U, 4096U}) {
    gguf_writer writer(alignment);
    writer.tensor("b", {2, 3}, values).tensor("a", dtype::q4_1, {2, 64}, blocks);
    const std::string file = writer.file();
    const auto source = parse(file);
    REQUIRE(source);
    const auto* floats = (*source)->find("b");
    REQUIRE(floats != nullptr);
    CHECK(floats->shape == shape_of{2, 3});
    REQUIRE(floats->data.size() == values.size() * sizeof(float));
    CHECK(std::memcmp(floats->data.data(), values.data(), floats->data.size()) == 0);
    const auto* quantised = (*source)->find("a");
    REQUIRE(quantised != nullptr);
    CHECK(quantised->shape == shape_of{2, 64});
    CHECK(std::equal(quantised->data.begin(), quantised->data.end(), blocks.begin(), blocks.end()));
    CHECK((quantised->data.data() - reinterpret_cast<const std::byte*>(file.data())) % alignment ==
          0);
    CHECK((*source)->tensors().front().name == "b");  // file order
  }
}

}  // namespace dinfer::tests
