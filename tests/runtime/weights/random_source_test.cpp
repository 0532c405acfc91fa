// SPDX-License-Identifier: Apache-2.0
// Made-up weights: the tensors of a llama with no data, the same for the same seed everywhere, of a
// size that keeps activations sane.
#include "runtime/weights/random_source.hpp"

#include "runtime/models/config_json.hpp"
#include "runtime/models/registry.hpp"
#include "runtime/weights/partition.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_config.hpp"

#include <cmath>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using runtime::stored_tensor;

std::unique_ptr<runtime::weight_source> made(const std::string& text, std::uint64_t seed = 0) {
  auto source = runtime::parse_random(text, "models/tiny/config.json", seed);
  REQUIRE(source);
  return std::move(*source);
}

// Mean and standard deviation of a tensor's values.
std::pair<double, double> moments(const stored_tensor& tensor) {
  std::uint64_t count = 1;
  for (const auto extent : tensor.shape) count *= static_cast<std::uint64_t>(extent);
  double sum = 0, squares = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double v = kernels::made_up_value(tensor.made_up, i);
    sum += v;
    squares += v * v;
  }
  const double mean = sum / static_cast<double>(count);
  return {mean, std::sqrt(squares / static_cast<double>(count) - mean * mean)};
}

}  // namespace

TEST_CASE("a made-up model has a llama's tensors and no data", "[weights]") {
  const auto source = made(tiny_config());
  CHECK(source->format() == "config.json");
  CHECK(source->tensors().size() == 2 * 9 + 3);
  const auto shape_of = [&](const char* name) {
    const stored_tensor* t = source->find(name);
    INFO(name);
    REQUIRE(t != nullptr);
    CHECK(t->name == name);
    CHECK(t->data.empty());
    return t->shape;
  };
  using dims = std::vector<std::int64_t>;
  CHECK(shape_of("token_embd.weight") == dims{320, 64});
  CHECK(shape_of("blk.1.attn_q.weight") == dims{64, 64});
  CHECK(shape_of("blk.1.attn_k.weight") == dims{32, 64});
  CHECK(shape_of("blk.0.ffn_down.weight") == dims{64, 160});
  CHECK(shape_of("blk.0.attn_norm.weight") == dims{64});
  CHECK(shape_of("output.weight") == dims{320, 64});
  CHECK(source->find("blk.2.attn_q.weight") == nullptr);
  CHECK(source->find("rope_freqs.weight") == nullptr);
  const auto tied =
      made(tiny_config_with("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
  CHECK(tied->find("output.weight") == nullptr);
  CHECK(tied->tensors().size() == 2 * 9 + 2);
}

TEST_CASE("a made-up model is read and weighed as a file's is", "[weights]") {
  const auto source = made(tiny_config());
  const auto shape = runtime::read_model_shape(*source);
  REQUIRE(shape);
  CHECK(shape->name == "tiny");
  CHECK(shape->vocabulary == 320);
  const auto factory = runtime::find_model(shape->architecture);
  REQUIRE(factory);
  const auto sizes = (*factory)->estimate(*shape, *source);
  REQUIRE(sizes);
  // bf16 matrices, f32 gains: 64 x (64 + 2 x 32 + 64 + 3 x 160) elements and 2 x 64.
  REQUIRE(sizes->layer_bytes.size() == 2);
  CHECK(sizes->layer_bytes[1] == 64 * (64 + 2 * 32 + 64 + 3 * 160) * 2 + 2 * 64 * 4);
  CHECK(sizes->embedding_bytes == 320 * 64 * 2);
  CHECK(sizes->head_bytes == 320 * 64 * 2 + 64 * 4);
  const std::uint32_t layers = 2;
  const auto layouts = runtime::lay_out(*shape, 1, std::span(&layers, 1));
  REQUIRE(layouts);
  const auto bytes = (*factory)->rank_bytes(*shape, layouts->front(), *source);
  REQUIRE(bytes);
  CHECK(*bytes == 2 * sizes->layer_bytes[0] + sizes->embedding_bytes + sizes->head_bytes);
}

TEST_CASE("slices of made-up tensors carry what makes them", "[weights]") {
  const auto source = made(tiny_config());
  const stored_tensor* t = source->find("blk.0.ffn_up.weight");
  REQUIRE(t != nullptr);
  const auto rows = runtime::slice_rows(*t, {32, 96});
  REQUIRE(rows);
  CHECK(rows->data == nullptr);
  CHECK(rows->type == kernels::dtype::bf16);
  CHECK(rows->stored_columns == 64);
  CHECK(rows->row_begin == 32);
  CHECK(rows->made_up.seed == t->made_up.seed);
  CHECK(rows->made_up.step == t->made_up.step);
  const auto columns = runtime::slice_columns(*source->find("blk.0.ffn_down.weight"), {32, 64});
  REQUIRE(columns);
  CHECK(columns->column_begin == 32);
  const auto gain = runtime::slice_all(*source->find("output_norm.weight"));
  REQUIRE(gain);
  CHECK(gain->made_up.offset == 1.0F);
}

TEST_CASE("seeds of made-up tensors are FNV-1a of the model's seed and the name", "[weights]") {
  // By a Python program over the eight bytes of the seed, then the name.
  CHECK(made(tiny_config(), 0)->find("token_embd.weight")->made_up.seed == 8353958938582227207U);
  CHECK(made(tiny_config(), 1)->find("token_embd.weight")->made_up.seed == 5455226526957547832U);
  CHECK(made(tiny_config())->find("blk.0.attn_q.weight")->made_up.seed == 1406385477588874907U);
}

TEST_CASE("made-up values keep activations at their size", "[weights]") {
  const auto source = made(tiny_config());
  for (const stored_tensor& t : source->tensors()) {
    INFO(t.name);
    const float step = t.made_up.step;
    int exponent = 0;
    CHECK(std::frexp(step, &exponent) == 0.5F);  // a power of two
    const auto [mean, deviation] = moments(t);
    if (t.shape.size() == 1) {
      CHECK(mean == Approx(1).margin(0.04));
      CHECK(deviation < 0.1);
      continue;
    }
    const double wanted =
        t.name == "token_embd.weight" ? 1.0 : 1 / std::sqrt(static_cast<double>(t.shape.back()));
    CHECK(mean == Approx(0).margin(0.1 * wanted));
    CHECK(deviation > wanted / 1.5);
    CHECK(deviation < wanted * 1.5);
  }
}

TEST_CASE("a made-up model's fingerprint is of its shapes and its seed", "[weights]") {
  const auto base = made(tiny_config())->fingerprint(false);
  CHECK(base.size() == 64);
  CHECK(base == made(tiny_config())->fingerprint(true));
  CHECK(base != made(tiny_config(), 1)->fingerprint(false));
  CHECK(base != made(tiny_config() + "\n")->fingerprint(false));
}

TEST_CASE("a config.json is opened by its path or its directory, when weights are to be made up",
          "[weights]") {
  const temporary_folder folder;
  const auto open = [&](const std::string& path, load_format format = load_format::random) {
    return runtime::open_weights(path, format, 3);
  };
  CHECK(open("").error().code == errc::invalid_argument);
  CHECK(open(folder.path("absent.json")).error().code == errc::not_found);
  CHECK(open(folder.path("")).error().message.find("holds no config.json") != std::string::npos);
  const auto file = folder.write("config.json", tiny_config());
  REQUIRE(open(file));
  REQUIRE(open(folder.path("")));
  CHECK((*open(file))->fingerprint(false) == (*open(folder.path("")))->fingerprint(false));
  const auto plain = open(file, load_format::automatic);
  REQUIRE_FALSE(plain);
  CHECK(plain.error().code == errc::unsupported);
  CHECK_THAT(plain.error().message, Contains("--load-format random"));
  folder.write("config.json", std::string(2 << 20, ' '));
  CHECK_THAT(open(file).error().message, Contains("at most 1 MB"));
}

TEST_CASE("the benchmarks' models have the sizes that they are named after", "[weights]") {
  const auto elements = [](const std::string& name) {
    const auto source =
        runtime::open_weights(repository_file("bench/models/" + name), load_format::random);
    REQUIRE(source);
    REQUIRE(runtime::read_model_shape(**source));
    std::int64_t sum = 0;
    for (const stored_tensor& t : (*source)->tensors()) {
      std::int64_t count = 1;
      for (const auto extent : t.shape) count *= extent;
      sum += count;
    }
    return sum;
  };
  CHECK(elements("llama-3.1-8b") == 8'030'261'248);  // as published
  CHECK(elements("llama-3.1-70b") == 70'553'706'496);
  CHECK(elements("llama-3.1-8b-smollm2-vocab") ==
        8'030'261'248 - 2 * std::int64_t{128'256 - 49'152} * 4096);
}

}  // namespace dinfer::tests
