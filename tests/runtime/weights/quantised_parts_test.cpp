// SPDX-License-Identifier: Apache-2.0
// Matrices in several tensors: which belong together, and one line that names tensor and file for
// each way in which they do not.
#include "runtime/weights/quantised_parts.hpp"

#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temporary_folder.hpp"

#include <cmath>
#include <functional>
#include <map>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;

struct tensor {
  std::string type;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;
};
using tensors = std::map<std::string, tensor>;

template <class T>
tensor of(const std::string& type, const std::vector<std::int64_t>& shape, T value) {
  std::int64_t n = 1;
  for (const auto extent : shape) n *= extent;
  const std::vector<T> values(static_cast<std::size_t>(n), value);
  const auto bytes = std::as_bytes(std::span(values));
  return {type, shape, {bytes.begin(), bytes.end()}};
}
tensor floats(const std::vector<std::int64_t>& shape, float value = 1) {
  return of("F32", shape, value);
}
tensor halves(const std::vector<std::int64_t>& shape) {
  return of("F16", shape, std::uint16_t{0x3C00});
}
tensor words(const std::vector<std::int64_t>& shape, std::int32_t value = 0) {
  return of("I32", shape, value);
}
tensor bytes(const std::vector<std::int64_t>& shape) {
  return of("F8_E4M3", shape, std::uint8_t{0x38});
}

const std::string q = "model.layers.0.self_attn.q_proj.";

tensors gptq() {
  tensor order = words({64});
  for (std::int32_t k = 0; k < 64; ++k) {
    const std::int32_t group = k / 32;
    std::memcpy(order.data.data() + 4 * k, &group, 4);
  }
  return {{q + "qweight", words({8, 16})},
          {q + "qzeros", words({2, 2}, 0x77777777)},
          {q + "scales", halves({2, 16})},
          {q + "g_idx", order}};
}
tensors awq() {
  return {{q + "qweight", words({64, 2})},
          {q + "qzeros", words({2, 2})},
          {q + "scales", halves({2, 16})}};
}
tensors packed() {
  tensor shape = of("I64", {2}, std::int64_t{16});
  const std::int64_t columns = 64;
  std::memcpy(shape.data.data() + 8, &columns, 8);
  return {{q + "weight_packed", words({16, 8})},
          {q + "weight_scale", halves({16, 2})},
          {q + "weight_zero_point", words({2, 2})},
          {q + "weight_shape", shape}};
}
tensors f8() { return {{q + "weight", bytes({16, 64})}, {q + "weight_scale", floats({16, 1})}}; }
tensors f8_block() {
  return {{q + "weight", bytes({16, 64})}, {q + "weight_scale_inv", floats({2, 2})}};
}

const std::string gptq_config = R"({"quant_method":"gptq","bits":4,"group_size":32})";
const std::string awq_config = R"({"quant_method":"awq","bits":4,"group_size":32})";
const std::string packed_config =
    R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"g":)"
    R"({"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":32}}}})";
const std::string f8_config = R"({"quant_method":"fp8"})";
const std::string block_config = R"({"quant_method":"fp8","weight_block_size":[8,32]})";

void write(const temporary_folder& folder, const std::string& config, const tensors& all) {
  folder.write("config.json",
               R"({"architectures":["LlamaForCausalLM"],"quantization_config":)" + config + "}");
  safetensors_writer writer;
  for (const auto& [name, t] : all) writer.tensor(name, t.type, t.shape, t.data);
  folder.write("model.safetensors", writer.file());
}

result<std::unique_ptr<runtime::weight_source>> open(const std::string& config,
                                                     const tensors& all) {
  const temporary_folder folder;
  write(folder, config, all);
  return runtime::open_weights(folder.path(""));
}

using change = std::function<void(tensors&)>;

std::string refusal(const std::string& config, tensors all, const change& damage) {
  damage(all);
  const auto source = open(config, all);
  REQUIRE_FALSE(source);
  const std::string& message = source.error().message;
  CHECK_THAT(message, Contains("model.safetensors: tensor model.layers.0."));
  CHECK(message.find('\n') == std::string::npos);
  return message;
}

change without(const std::string& part) {
  return [part](tensors& all) { REQUIRE(all.erase(q + part) == 1); };
}
change with(const std::string& part, const tensor& other) {
  return [=](tensors& all) { all[q + part] = other; };
}

}  // namespace

TEST_CASE("the parts of a matrix become one tensor under the name of its weight") {
  const std::vector<std::pair<std::string, tensors>> good{{gptq_config, gptq()},
                                                          {awq_config, awq()},
                                                          {packed_config, packed()},
                                                          {f8_config, f8()},
                                                          {block_config, f8_block()}};
  for (const auto& [config, all] : good) {
    const auto source = open(config, all);
    if (!source) FAIL(source.error().message);
    REQUIRE((*source)->tensors().size() == 1);
    const auto* t = (*source)->find("blk.0.attn_q.weight");
    REQUIRE(t != nullptr);
    CHECK(t->shape == std::vector<std::int64_t>{16, 64});
    const bool f8 = t->type == kernels::dtype::f8_e4m3;
    CHECK((t->scaling != nullptr) == f8);
    CHECK((t->int4 != nullptr) == !f8);
    CHECK(runtime::stored_bytes(*t) == (f8 ? 16 * 64 : 16 * 2 * 20));
  }
}

TEST_CASE("modules that are left as they are stay plain, scales of activations are left out") {
  auto all = f8();
  all["model.layers.0.self_attn.k_proj.weight"] = floats({4, 64});
  all[q + "input_scale"] = floats({});
  all["model.layers.0.self_attn.k_scale"] = floats({1});
  const auto source = open(f8_config, all);
  REQUIRE(source);
  CHECK((*source)->tensors().size() == 2);
  CHECK((*source)->find("blk.0.attn_k.weight")->type == kernels::dtype::f32);
}

TEST_CASE("one scale stands for every row, and scales may be of any float type") {
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{}, {1}, {1, 1}}) {
    auto all = f8();
    all[q + "weight_scale"] = floats(shape, 0.25F);
    const auto source = open(f8_config, all);
    REQUIRE(source);
    const auto& scaling = *(*source)->find("blk.0.attn_q.weight")->scaling;
    CHECK(scaling.values == std::vector<float>(16, 0.25F));
  }
  auto all = f8();
  all[q + "weight_scale"] = of("BF16", {16}, std::uint16_t{0x3F00});
  CHECK((*open(f8_config, all))->find("blk.0.attn_q.weight")->scaling->values[15] == 0.5F);
  all[q + "weight_scale"] = halves({16, 1});
  CHECK((*open(f8_config, all))->find("blk.0.attn_q.weight")->scaling->values[15] == 1.0F);
}

TEST_CASE("8-bit floats whose parts do not go together are refused") {
  const auto f8_refusal = [](const change& damage) { return refusal(f8_config, f8(), damage); };
  CHECK_THAT(f8_refusal(without("weight_scale")),
             Contains("q_proj.weight_scale: is missing") && Contains("q_proj.weight is there"));
  CHECK_THAT(f8_refusal(without("weight")), Contains("q_proj.weight: is missing"));
  CHECK_THAT(f8_refusal(with("weight", bytes({1024}))), Contains("has 1 dimensions; 2 fit"));
  CHECK_THAT(f8_refusal(with("weight", bytes({64, 16}))), Contains("16 columns; 32 or more fit"));
  CHECK_THAT(f8_refusal(with("weight_scale", floats({15, 1}))),
             Contains("q_proj.weight_scale: has shape [15, 1]; [16, 1] or [16] or [1]"));
  CHECK_THAT(f8_refusal(with("weight_scale", floats({1, 16}))), Contains("has shape [1, 16]"));
  CHECK_THAT(f8_refusal(with("weight_scale", words({16, 1}))), Contains("has type I32; F32 or"));
  for (const float bad : {0.0F, -1.0F, NAN, INFINITY})
    CHECK_THAT(f8_refusal(with("weight_scale", floats({16, 1}, bad))),
               Contains("q_proj.weight_scale: scale 0 is") && Contains("above 0 fits"));
  CHECK_THAT(refusal(block_config, f8_block(), with("weight_scale_inv", floats({2, 3}))),
             Contains("has shape [2, 3]; [2, 2] fits"));
  CHECK_THAT(refusal(block_config, f8_block(), without("weight_scale_inv")),
             Contains("weight_scale: is missing"));
}

TEST_CASE("4-bit numbers whose parts do not go together are refused") {
  const auto gptq_refusal = [](const change& d) { return refusal(gptq_config, gptq(), d); };
  CHECK_THAT(gptq_refusal(without("scales")), Contains("q_proj.scales: is missing"));
  CHECK_THAT(gptq_refusal(without("qzeros")), Contains("q_proj.qzeros: is missing"));
  CHECK_THAT(gptq_refusal(without("qweight")), Contains("q_proj.qweight: is missing"));
  CHECK_THAT(gptq_refusal(with("qweight", floats({8, 16}))), Contains("has type F32; I32 fits"));
  CHECK_THAT(gptq_refusal(with("qweight", words({8, 15}))), Contains("15 rows; multiples of 8"));
  CHECK_THAT(gptq_refusal(with("qweight", words({9, 16}))),
             Contains("72 columns; whole groups of 32"));
  CHECK_THAT(gptq_refusal(with("qweight", words({2, 8, 16}))), Contains("has 3 dimensions"));
  CHECK_THAT(gptq_refusal(with("scales", halves({3, 16}))), Contains("has shape [3, 16]; [2, 16]"));
  CHECK_THAT(gptq_refusal(with("qzeros", words({2, 16}))), Contains("has shape [2, 16]; [2, 2]"));
  CHECK_THAT(gptq_refusal(with("scales", words({2, 16}))), Contains("has type I32; F16 or"));
  CHECK_THAT(gptq_refusal(with("g_idx", words({64}))),
             Contains("q_proj.g_idx: column 32 is of group 0, not of 1") && Contains("desc_act"));
  CHECK_THAT(gptq_refusal(with("g_idx", words({63}))), Contains("has shape [63]; [64] fits"));
  const auto awq_refusal = [](const change& d) { return refusal(awq_config, awq(), d); };
  CHECK_THAT(awq_refusal(with("qweight", words({63, 2}))), Contains("63 columns"));
  CHECK_THAT(awq_refusal(with("qzeros", words({1, 2}))), Contains("has shape [1, 2]; [2, 2]"));
  const auto packed_refusal = [](const change& d) { return refusal(packed_config, packed(), d); };
  CHECK_THAT(packed_refusal(without("weight_scale")), Contains("weight_scale: is missing"));
  CHECK_THAT(packed_refusal(with("weight_scale", halves({16, 1}))), Contains("[16, 2] fits"));
  CHECK_THAT(packed_refusal(with("weight_zero_point", words({1, 2}))), Contains("[2, 2] fits"));
  CHECK_THAT(packed_refusal(with("weight_shape", of("I64", {2}, std::int64_t{64}))),
             Contains("weight_shape: says [64, 64]") && Contains("holds [16, 64]"));
  CHECK_THAT(packed_refusal(with("weight_g_idx", words({64}))), Contains("weight_g_idx: column"));
}

TEST_CASE("quantised tensors without a word about them are refused by their type") {
  const temporary_folder folder;
  folder.write("config.json", R"({"architectures":["LlamaForCausalLM"]})");
  const tensor one = bytes({16, 64});
  folder.write("model.safetensors",
               safetensors_writer().tensor(q + "weight", one.type, one.shape, one.data).file());
  const auto source = runtime::open_weights(folder.path(""));
  REQUIRE_FALSE(source);
  CHECK_THAT(source.error().message,
             Contains("has type F8_E4M3") && Contains("quantization_config"));
}

TEST_CASE("8-bit floats of a family that stores matrices transposed are refused") {
  const temporary_folder folder;
  folder.write("config.json",
               R"({"architectures":["GPT2LMHeadModel"],"quantization_config":)" + f8_config + "}");
  const tensor one = bytes({64, 96}), scale = floats({1});
  const std::string name = "transformer.h.0.attn.c_attn.weight";
  folder.write("model.safetensors", safetensors_writer()
                                        .tensor(name, one.type, one.shape, one.data)
                                        .tensor(name + "_scale", "F32", {1}, scale.data)
                                        .file());
  const auto source = runtime::open_weights(folder.path(""));
  REQUIRE_FALSE(source);
  CHECK_THAT(source.error().message, Contains("c_attn.weight is stored transposed"));
}

TEST_CASE("opening a quantised checkpoint allocates less than its files have and 1 MB") {
  const temporary_folder folder;
  write(folder, f8_config, {{q + "weight", bytes({65536, 32})}, {q + "weight_scale", floats({1})}});
  const std::uint64_t before = bytes_allocated();
  REQUIRE(runtime::open_weights(folder.path("")));
  CHECK(bytes_allocated() - before <= 65536 * 32 + (1 << 20));
}

}  // namespace dinfer::tests
