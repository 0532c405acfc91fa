// SPDX-License-Identifier: Apache-2.0
// Which reader a file's shape has, and what is asked of every file: no tensor that the model would
// not read. Thread: the caller's.
#include "runtime/models/model_config.hpp"

#include "runtime/models/config_json.hpp"
#include "runtime/models/generation_config.hpp"
#include "runtime/models/gguf_keys.hpp"
#include "runtime/models/model.hpp"
#include "runtime/weights/random_source.hpp"
#include "runtime/weights/source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace dinfer::runtime {
namespace {

constexpr std::string_view architecture_key = "general.architecture";

result<model_shape> read_gguf_shape(const weight_source& source) {
  const std::string key(architecture_key);
  const auto name = source.text(key);
  if (!name) return fail(errc::bad_file, key + ": is missing or not a string", key);
  std::string known;
  for (const model_factory* f : all_models()) {
    if (f->read_gguf == nullptr) continue;
    if (f->architecture == *name) {
      model_shape shape;
      shape.architecture = f->architecture;
      shape.name = source.text("general.name").value_or(f->architecture);
      DINFER_CHECK(f->read_gguf(gguf_keys(source, f->architecture), shape));
      return shape;
    }
    known += (known.empty() ? "" : ", ") + std::string(f->architecture);
  }
  return fail(
      errc::unsupported,
      fmt::format("{}: {} is not built; this build has {}", key, name->substr(0, 64), known), key);
}

result<model_shape> read_config_shape(const weight_source& source, std::string_view config) {
  DINFER_TRY(model_shape shape,
             parse_config_json(config, std::string(config_json_key),
                               std::string(source.text(model_name_key).value_or(""))));
  if (const auto text = source.text(generation_config_key))
    DINFER_CHECK(add_generation_eos(*text, std::string(generation_config_key), shape));
  return shape;
}

// A tensor that no part of the model reads would be a silent difference from the model that was
// meant.
result<void> refuse_unknown_tensors(const weight_source& source, const model_shape& shape) {
  DINFER_TRY(const model_factory* factory, find_model(shape.architecture));
  DINFER_TRY(const auto wanted, factory->tensors(shape));
  // A tied head may be stored once more; factors of frequencies are read with the shape.
  std::set<std::string_view> known{"output.weight", "rope_freqs.weight"};
  for (const model_tensor& t : wanted) known.insert(t.name);
  for (const stored_tensor& tensor : source.tensors())
    if (!known.contains(tensor.name))
      return fail(
          errc::unsupported,
          fmt::format("tensor {}: is not part of this {} model", tensor.name, shape.architecture),
          tensor.name);
  return {};
}

}  // namespace

result<model_shape> read_model_shape(const weight_source& source) {
  const auto config = source.text(config_json_key);
  DINFER_TRY(model_shape shape,
             config ? read_config_shape(source, *config) : read_gguf_shape(source));
  DINFER_CHECK(refuse_unknown_tensors(source, shape));
  for (const stored_tensor& tensor : source.tensors())
    if (std::string_view(tensor.name).ends_with(".ffn_down.weight"))
      shape.mlp_block = std::max(shape.mlp_block, kernels::info(tensor.type).block_elements);
  return shape;
}

}  // namespace dinfer::runtime
