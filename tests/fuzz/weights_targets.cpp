// SPDX-License-Identifier: Apache-2.0
// Files of weights: GGUF with all that is read from its metadata, safetensors, an index of shards.
#include "runtime/models/model_config.hpp"
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/weights/gguf.hpp"
#include "runtime/weights/int4.hpp"
#include "runtime/weights/partition.hpp"
#include "runtime/weights/quantised_parts.hpp"
#include "runtime/weights/safetensors.hpp"
#include "tests/fuzz/folder.hpp"
#include "tests/fuzz/target.hpp"

namespace dinfer::fuzz {
namespace {

unsigned touched(std::span<const std::byte> data) {
  unsigned sum = 0;
  for (const std::byte b : data) sum += static_cast<unsigned>(b);
  return sum;
}

// Every matrix that the tensors make up, as a model would read it.
void read_quantised(const runtime::safetensors_contents& contents,
                    const runtime::quantization& how) {
  runtime::quantised_parts parts(how);
  for (const auto& entry : contents.entries)
    if (!parts.take(entry, "fuzz")) return;
  const auto matrices = parts.matrices();
  if (!matrices) return;
  for (const auto& m : *matrices) {
    const runtime::range rows{0, m.shape.front()}, columns{0, m.shape.back()};
    if (m.int4 != nullptr) {
      std::vector<std::byte> blocks(runtime::stored_bytes(m));
      (void)runtime::to_q4_1(*m.int4, rows, columns, blocks.data());
      continue;
    }
    const auto slice = runtime::slice_all(m);
    require(slice && slice->scales.at(rows.end - 1, columns.end - 1) > 0, "scales are above 0");
    require(m.data.size() == static_cast<std::uint64_t>(rows.end * columns.end), "a byte each");
  }
}

// One tensor "a" of two floats.
std::string small_shard() {
  std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize(64, ' ');
  return std::string("\x40\0\0\0\0\0\0\0", 8) + header + "01234567";
}

}  // namespace

void fuzz_gguf(bytes input) {
  const auto source = runtime::parse_gguf(std::as_bytes(input), "fuzz.gguf");
  if (!source) return;
  unsigned sum = 0;
  for (const auto& tensor : (*source)->tensors()) {
    sum += touched(tensor.data);
    require((*source)->find(tensor.name) == &tensor, "a tensor is found by its name");
  }
  const auto shape = runtime::read_model_shape(**source);
  if (shape) require(shape->heads % shape->kv_heads == 0, "heads share keys evenly");
  require((*source)->fingerprint(sum % 2 == 0).size() == 64, "a fingerprint has 64 digits");
  const auto words = runtime::make_tokenizer(**source);
  if (!words) return;
  for (const token_id t : (*words)->encode("A don't <s> 12  \xC3\xA9\xFF</s>", true, true))
    require(t >= 0 && t < (*words)->size(), "ids lie in the vocabulary");
}

void fuzz_safetensors(bytes input) {
  const auto contents = runtime::parse_safetensors(std::as_bytes(input), "fuzz");
  if (!contents) return;
  std::size_t covered = contents->header_bytes;
  unsigned sum = 0;
  for (const auto& entry : contents->entries) {
    sum += touched(entry.data);
    covered += entry.data.size();
  }
  require(covered == input.size() && sum != 0xFFFFFFFFU, "every byte belongs to one part");
  using runtime::quant_method;
  for (const runtime::quantization& how : std::initializer_list<runtime::quantization>{
           {quant_method::f8, 0, 0, 0, false},
           {quant_method::f8, 0, 8, 24, false},
           {quant_method::gptq, 32, 0, 0, true},
           {quant_method::awq, 0, 0, 0, false},
           {quant_method::pack_quantized, 32, 0, 0, false}})
    read_quantised(*contents, how);
}

void fuzz_safetensors_index(bytes input) {
  static const folder place([](const folder& f) {
    f.write("a.safetensors", small_shard());
    f.write("config.json", R"({"architectures":["LlamaForCausalLM"]})");
  });
  place.write("model.safetensors.index.json", text_of(input));
  const auto source = runtime::open_safetensors(place.path());
  if (source) require((*source)->tensors().size() == 1, "the shard has one tensor");
}

}  // namespace dinfer::fuzz
