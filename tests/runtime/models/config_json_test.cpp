// SPDX-License-Identifier: Apache-2.0
// The shape that a config.json states, and each way in which it can be wrong: the message names the
// file and the key.
#include "runtime/models/config_json.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/tiny_config.hpp"

#include <random>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;

result<runtime::model_shape> parsed(const std::string& text) {
  return runtime::parse_config_json(text, "c.json", "tiny");
}

std::string message_of(const std::string& before, const std::string& after,
                       errc code = errc::bad_file) {
  const auto shape = parsed(tiny_config_with(before, after));
  INFO(after);
  REQUIRE_FALSE(shape);
  CHECK(shape.error().code == code);
  CHECK_FALSE(shape.error().subject.empty());
  CHECK(shape.error().message.starts_with("c.json: "));
  return shape.error().message;
}

const std::string eos = "\"eos_token_id\": 7";

}  // namespace

TEST_CASE("a config.json's shape is read", "[models]") {
  const auto shape = parsed(tiny_config());
  REQUIRE(shape);
  CHECK(shape->architecture == "llama");
  CHECK(shape->name == "tiny");
  CHECK(shape->layers == 2);
  CHECK(shape->hidden == 64);
  CHECK(shape->heads == 4);
  CHECK(shape->kv_heads == 2);
  CHECK(shape->head_dim == 16);
  CHECK(shape->mlp == 160);
  CHECK(shape->vocabulary == 320);
  CHECK(shape->max_positions == 256);
  CHECK(shape->norm_epsilon == 1e-5F);
  CHECK(shape->rope == kernels::rope_style::half);
  CHECK(shape->rotary == 16);
  CHECK(shape->inverse_frequencies.size() == 8);
  CHECK_FALSE(shape->tied_embeddings);
  CHECK(shape->eos_tokens == std::vector<token_id>{7});
}

TEST_CASE("a config.json may leave out and spell otherwise", "[models]") {
  const auto eos_of = [](const std::string& after) {
    const auto shape = parsed(tiny_config_with(eos, after));
    REQUIRE(shape);
    return shape->eos_tokens;
  };
  CHECK(eos_of("\"eos_token_id\": [7, 9]") == std::vector<token_id>{7, 9});
  CHECK(eos_of("\"eos_token_id\": null").empty());
  CHECK(eos_of("\"hidden_act\": \"silu\"").empty());
  const auto wide = parsed(tiny_config_with(eos, "\"head_dim\": 32, \"rope_scaling\": null"));
  REQUIRE(wide);
  CHECK(wide->head_dim == 32);
  const auto alone = parsed(tiny_config_with("\"num_key_value_heads\": 2,", ""));
  REQUIRE(alone);
  CHECK(alone->kv_heads == 4);
  const auto newer =
      parsed(tiny_config_with("\"rope_theta\": 500000.0",
                              R"("rope_parameters": {"rope_type": "default", "rope_theta": 1e4})"));
  REQUIRE(newer);
  CHECK(newer->inverse_frequencies[4] == Approx(0.01).epsilon(1e-6));
}

TEST_CASE("Llama 3's scaling of frequencies is that of its publishers", "[models]") {
  const auto shape = parsed(tiny_config_with(
      eos, R"("head_dim": 128, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
              "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192})"));
  REQUIRE(shape);
  // By the formula of transformers' _compute_llama3_parameters, in Python's double.
  const std::vector<std::pair<std::size_t, double>> expected = {{0, 1.0},
                                                                {1, 0.8146172338565447},
                                                                {20, 0.016560440080994446},
                                                                {28, 0.0032114459947525913},
                                                                {29, 0.002166570763503359},
                                                                {30, 0.0013718935677611381},
                                                                {34, 0.00017850781276799638},
                                                                {35, 9.556212353964683e-05},
                                                                {36, 7.78465527393245e-05},
                                                                {63, 3.068925988914511e-07}};
  REQUIRE(shape->inverse_frequencies.size() == 64);
  for (const auto& [i, value] : expected) {
    INFO(i);
    CHECK(shape->inverse_frequencies[i] == Approx(value).epsilon(1e-6));
  }
  const auto linear =
      parsed(tiny_config_with(eos, R"("rope_scaling": {"type": "linear", "factor": 4})"));
  REQUIRE(linear);
  CHECK(linear->inverse_frequencies[0] == 0.25F);
}

TEST_CASE("what a config.json cannot mean is refused by key", "[models]") {
  CHECK(message_of("\"hidden_size\": 64", "\"size\": 64") == "c.json: hidden_size: is missing");
  CHECK(message_of("\"hidden_size\": 64", "\"hidden_size\": \"64\"") ==
        "c.json: hidden_size: is not an integer");
  CHECK(message_of("\"hidden_size\": 64", "\"hidden_size\": 99999999") ==
        "c.json: hidden_size: is 99999999; 1 to 1048576 fits");
  CHECK_THAT(message_of("\"num_hidden_layers\": 2", "\"num_hidden_layers\": -1"),
             Contains("1 to 1024"));
  CHECK_THAT(message_of("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
             Contains("3 KV heads do not divide 4 heads"));
  CHECK_THAT(message_of("\"hidden_size\": 64", "\"hidden_size\": 66"),
             Contains("4 heads do not divide 66"));
  CHECK_THAT(message_of("\"rope_theta\": 500000.0", "\"rope_theta\": 0"), Contains("more than 1"));
  CHECK_THAT(message_of(eos, "\"eos_token_id\": 320"), Contains("is 320; 0 to 319 fits"));
  CHECK_THAT(message_of(eos, "\"head_dim\": 15"), Contains("even"));
  CHECK_THAT(message_of("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 1"),
             Contains("neither true nor false"));
}

TEST_CASE("what is not built is refused by key", "[models]") {
  const auto unsupported = [](const std::string& before, const std::string& after) {
    return message_of(before, after, errc::unsupported);
  };
  CHECK_THAT(unsupported("LlamaForCausalLM", "MixtralForCausalLM"),
             Contains("architectures") && Contains("LlamaForCausalLM"));
  CHECK_THAT(unsupported(eos, "\"hidden_act\": \"gelu\""), Contains("\"silu\" is"));
  CHECK_THAT(unsupported(eos, "\"attention_bias\": true"), Contains("attention_bias"));
  CHECK(unsupported(eos, R"("rope_scaling": {"rope_type": "yarn", "factor": 2})") ==
        "c.json: rope_scaling.rope_type: \"yarn\" is not built; default, linear and llama3 are");
}

TEST_CASE("what is no config.json is refused", "[models]") {
  for (const std::string text : {"", "{", "[1]", "GGUF", "{\"architectures\": 7}"}) {
    INFO(text);
    const auto shape = parsed(text);
    REQUIRE_FALSE(shape);
    CHECK(shape.error().code == errc::bad_file);
    CHECK(shape.error().message.starts_with("c.json: "));
  }
}

TEST_CASE("random damage to a config.json is refused or read, never more", "[models]") {
  constexpr unsigned seed = 11;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 3000; ++i) {
    auto text = tiny_config();
    for (int changes = 0; changes < 3; ++changes)
      text[random() % text.size()] = static_cast<char>(random() % 256);
    const auto shape = parsed(text);
    if (!shape) CHECK_FALSE(shape.error().message.empty());
  }
}

}  // namespace dinfer::tests
