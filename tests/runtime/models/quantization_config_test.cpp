// SPDX-License-Identifier: Apache-2.0
// quantization_config as the libraries that quantise write it, and what is refused, by name.
#include "runtime/models/quantization_config.hpp"

#include "runtime/weights/random_source.hpp"
#include "tests/support/catch.hpp"

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using runtime::quant_method;

result<runtime::quantization> read(const std::string& section) {
  return runtime::read_quantization(R"({"quantization_config":)" + section + "}", "config.json");
}

runtime::quantization good(const std::string& section) {
  const auto out = read(section);
  if (!out) FAIL(out.error().message);
  return *out;
}

std::string refusal(const std::string& section, errc code = errc::unsupported) {
  const auto out = read(section);
  REQUIRE_FALSE(out);
  CHECK(out.error().code == code);
  CHECK_THAT(out.error().message, Contains("config.json: quantization_config."));
  return out.error().message;
}

// compressed-tensors with one group of modules.
std::string compressed(const std::string& format, const std::string& weights,
                       const std::string& more = "") {
  return R"({"quant_method":"compressed-tensors","format":")" + format +
         R"(","config_groups":{"group_0":{"targets":["Linear"],"weights":{)" + weights + "}}" +
         more + "}}";
}
const std::string four_bits = R"("num_bits":4,"type":"int","strategy":"group","group_size":128)";
const std::string eight_bits = R"("num_bits":8,"type":"float","strategy":"channel")";

}  // namespace

TEST_CASE("a checkpoint without quantization_config is not quantised") {
  CHECK(runtime::read_quantization("{}", "f")->method == quant_method::none);
  CHECK(good("null").method == quant_method::none);
}

TEST_CASE("8-bit floats are read with one scale, with a scale a row and with a scale a block") {
  const auto plain = good(R"({"quant_method":"fp8","activation_scheme":"dynamic"})");
  CHECK(plain.method == quant_method::f8);
  CHECK(plain.block_rows == 0);
  const auto block = good(R"({"quant_method":"fp8","weight_block_size":[128,64],"fmt":"e4m3"})");
  CHECK(block.block_rows == 128);
  CHECK(block.block_columns == 64);
  CHECK(good(compressed("float-quantized", eight_bits)).method == quant_method::f8);
  const auto other = good(
      compressed("float-quantized",
                 R"("num_bits":8,"type":"float","strategy":"block","block_structure":[128,128])"));
  CHECK(other.block_rows == 128);
}

TEST_CASE("4-bit numbers are read with groups, zeros by either convention") {
  const auto old = good(R"({"quant_method":"gptq","bits":4,"group_size":128,"desc_act":false})");
  CHECK(old.method == quant_method::gptq);
  CHECK(old.group == 128);
  CHECK(old.zeros_less_one);
  const auto newer =
      good(R"({"quant_method":"gptq","bits":4,"group_size":-1,"checkpoint_format":"gptq_v2"})");
  CHECK(newer.group == 0);
  CHECK_FALSE(newer.zeros_less_one);
  const auto awq =
      good(R"({"quant_method":"awq","bits":4,"group_size":64,"version":"GEMM","zero_point":true})");
  CHECK(awq.method == quant_method::awq);
  CHECK(awq.group == 64);
  CHECK_FALSE(awq.zeros_less_one);
  const auto packed = good(compressed("pack-quantized", four_bits));
  CHECK(packed.method == quant_method::pack_quantized);
  CHECK(packed.group == 128);
  CHECK(good(compressed("pack-quantized", R"("num_bits":4,"type":"int","strategy":"channel")"))
            .group == 0);
}

TEST_CASE("what is not read is refused by its key, with what is") {
  CHECK_THAT(refusal(R"({"quant_method":"bitsandbytes"})"),
             Contains("quant_method") && Contains("bitsandbytes") && Contains("\"awq\""));
  CHECK_THAT(refusal("{}"), Contains("quant_method"));
  CHECK_THAT(refusal(R"({"quant_method":"gptq","bits":8,"group_size":128})"),
             Contains("bits: is 8; this build reads 4"));
  CHECK_THAT(refusal(R"({"quant_method":"gptq","bits":4,"group_size":48})"),
             Contains("group_size: is 48; multiples of 32"));
  CHECK_THAT(refusal(R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})"),
             Contains("\"marlin\"") && Contains("\"gptq_v2\""));
  CHECK_THAT(refusal(R"({"quant_method":"gptq","bits":4,"is_marlin_format":true})"),
             Contains("is_marlin_format"));
  CHECK_THAT(refusal(R"({"quant_method":"awq","bits":4,"version":"gemv"})"),
             Contains("version") && Contains("\"gemm\""));
  CHECK_THAT(refusal(R"({"quant_method":"fp8","fmt":"e5m2"})"), Contains("fmt"));
  CHECK_THAT(refusal(R"({"quant_method":"compressed-tensors","format":"int-quantized"})"),
             Contains("\"int-quantized\"") && Contains("\"pack-quantized\""));
  CHECK_THAT(refusal(compressed("pack-quantized", R"("num_bits":8,"type":"int")")),
             Contains("config_groups.group_0.weights.num_bits: is 8"));
  CHECK_THAT(refusal(compressed("float-quantized", R"("num_bits":8,"type":"int")")),
             Contains("type: is \"int\""));
  CHECK_THAT(
      refusal(compressed("float-quantized", R"("num_bits":8,"type":"float","strategy":"group")")),
      Contains("strategy: is \"group\""));
  CHECK_THAT(refusal(compressed("pack-quantized", four_bits,
                                R"(,"group_1":{"weights":{"num_bits":4,"group_size":64}})")),
             Contains("config_groups: its groups differ"));
  CHECK_THAT(refusal(R"({"quant_method":"compressed-tensors","format":"pack-quantized",)"
                     R"("sparsity_config":{"format":"sparse-24-bitmask"}})"),
             Contains("sparsity_config.format"));
}

TEST_CASE("a damaged quantization_config is refused by its key") {
  CHECK_THAT(read("3").error().message, Contains("quantization_config: is not an object"));
  CHECK_THAT(refusal(R"({"quant_method":"gptq"})", errc::bad_file), Contains("bits: is missing"));
  CHECK_THAT(refusal(R"({"quant_method":"gptq","bits":4,"group_size":-2})", errc::bad_file),
             Contains("group_size: is -2"));
  for (const char* sizes : {"[128]", "[0,128]", "[128,99999999999]", "[1,2,3]"})
    CHECK_THAT(refusal(std::string(R"({"quant_method":"fp8","weight_block_size":)") + sizes + "}",
                       errc::bad_file),
               Contains("weight_block_size"));
  CHECK_THAT(
      refusal(R"({"quant_method":"compressed-tensors","format":"pack-quantized"})", errc::bad_file),
      Contains("config_groups: is missing"));
  CHECK_THAT(
      refusal(compressed("pack-quantized", R"("num_bits":4,"strategy":"group")"), errc::bad_file),
      Contains("group_size: is missing"));
  std::string many;
  for (int i = 0; i < 70; ++i) many += ",\"group_" + std::to_string(i + 1) + "\":{}";
  CHECK_THAT(refusal(compressed("pack-quantized", four_bits, many), errc::bad_file),
             Contains("more than 64"));
}

TEST_CASE("made-up weights are not quantised") {
  const auto source = runtime::parse_random(
      R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":64,)"
      R"("num_hidden_layers":1,"num_attention_heads":2,"vocab_size":32,)"
      R"("max_position_embeddings":64,"quantization_config":{"quant_method":"fp8"}})",
      "a/config.json", 1);
  REQUIRE_FALSE(source);
  CHECK_THAT(source.error().message, Contains("quantization_config"));
}

}  // namespace dinfer::tests
