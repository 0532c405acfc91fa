// SPDX-License-Identifier: Apache-2.0
// Configurations: of a checkpoint's model and of a cluster.
#include "runtime/base/limits.hpp"
#include "runtime/base/toml_config.hpp"
#include "runtime/models/config_json.hpp"
#include "runtime/models/generation_config.hpp"
#include "runtime/models/quantization_config.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/fake_source.hpp"

#include <algorithm>
#include <string>

namespace dinfer::fuzz {

using runtime::limit;

void fuzz_config_json(bytes input) {
  if (const auto how = runtime::read_quantization(text_of(input), "config.json")) {
    require(how->group >= 0 && how->group % 32 == 0, "groups are of whole blocks");
    require((how->block_rows > 0) == (how->block_columns > 0), "a block has two sides");
  }
  const auto shape = runtime::parse_config_json(text_of(input), "config.json", "fuzz");
  if (!shape) return;
  using bounds = runtime::shape_limits;
  require(shape->layers > 0 && shape->layers <= bounds::layers, "layers have a bound");
  require(shape->hidden > 0 && shape->hidden <= bounds::width, "the width has a bound");
  require(shape->mlp > 0 && shape->mlp <= 4 * bounds::width, "the MLP has a bound");
  require(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0, "heads share keys evenly");
  require(shape->head_dim > 0 && shape->head_dim <= bounds::head_dim, "heads have a bound");
  require(shape->vocabulary > 0 && shape->vocabulary <= bounds::vocabulary, "so have the words");
  for (const auto id : shape->eos_tokens)
    require(id >= 0 && id < shape->vocabulary, "ends of sequences lie in the vocabulary");
}

void fuzz_generation_config(bytes input) {
  tests::fake_source source;
  source.text_values.emplace(runtime::generation_config_key, text_of(input));
  if (const auto read = runtime::read_sampling_defaults(source)) {
    require(check_limit(limit::temperature, read->temperature).has_value(), "temperature");
    require(check_limit(limit::top_p, read->top_p).has_value(), "top_p");
    require(check_limit(limit::min_p, read->min_p).has_value(), "min_p");
    require(check_limit(limit::repetition_penalty, read->repetition_penalty).has_value(),
            "repetition_penalty");
  }
  runtime::model_shape shape;
  shape.vocabulary = 1000;
  if (runtime::add_generation_eos(text_of(input), "generation_config.json", shape))
    for (const auto id : shape.eos_tokens)
      require(id >= 0 && id < 1000, "ids lie in the vocabulary");
}

void fuzz_cluster_conf(bytes input) {
  auto config = runtime::parse_config(text_of(input), "cluster.conf");
  const auto checked = config ? runtime::check_config(*config) : result<void>();
  if (!config || !checked) {
    const auto& why = config ? checked.error() : config.error();
    require(why.message.starts_with("cluster.conf:"), "an error names the file");
    return;
  }
  require(!config->nodes.empty(), "a cluster has a node");
  (void)runtime::canonical_text(*config);
}

}  // namespace dinfer::fuzz
