// SPDX-License-Identifier: Apache-2.0
// Every family of models against transformers in float32: the same greedy tokens from one rank,
// from many, and from each kind of file; and other ones from models that are wrong in one way.
#include "runtime/models/model.hpp"
#include "runtime/parallel/memory_plan.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/family_answers.hpp"
#include "tests/support/rank_cluster.hpp"

#include <algorithm>

namespace dinfer::tests {
namespace {

const std::vector<std::string>& families() {
  static const std::vector<std::string> names{"gpt2",  "opt",    "opt-350m",
                                              "qwen2", "llama3", "llama-linear"};
  return names;
}

runtime::runner_options options_of(const std::string& path) {
  runtime::runner_options o;
  o.device = "cpu:0";
  o.model_path = path;
  o.max_model_len = 128;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 400;
  o.cache_blocks = 100;
  return o;
}

struct opened {
  std::unique_ptr<runtime::weight_source> source;
  runtime::model_shape shape;
  const runtime::model_factory* factory = nullptr;
};

opened open_model(const std::string& path, load_format format = load_format::automatic) {
  opened o;
  auto source = runtime::open_weights(path, format);
  if (!source) FAIL(source.error().message);
  o.source = std::move(*source);
  auto shape = runtime::read_model_shape(*o.source);
  if (!shape) FAIL(shape.error().message);
  o.shape = std::move(*shape);
  o.factory = runtime::find_model(o.shape.architecture).value();
  return o;
}

std::vector<std::uint32_t> all_layers(const std::string& path) {
  return {static_cast<std::uint32_t>(open_model(path).shape.layers)};
}

// What the ranks draw after each prompt; prompts come in chunks of `chunk` tokens.
std::vector<std::vector<token_id>> drawn(const std::string& path,
                                         const std::vector<family_answer>& answers,
                                         std::uint32_t tp, const std::vector<std::uint32_t>& layers,
                                         std::uint32_t chunk) {
  rank_cluster cluster(options_of(path), tp, layers);
  std::vector<scripted_sequence> sequences;
  for (const auto& a : answers) {
    auto& s = sequences.emplace_back();
    s.prompt = a.prompt;
    s.tokens = static_cast<std::uint32_t>(a.tokens.size());
    s.sampling.temperature = 0;
  }
  run_script(cluster, sequences, chunk);
  std::vector<std::vector<token_id>> out;
  for (const auto& s : sequences) {
    auto& tokens = out.emplace_back();
    for (const auto& t : s.drawn) tokens.push_back(t.token);
  }
  return out;
}

void check_tokens(const std::string& path, const std::string& family, std::uint32_t tp,
                  const std::vector<std::uint32_t>& layers, std::uint32_t chunk) {
  const auto answers = family_answers(family);
  const auto got = drawn(path, answers, tp, layers, chunk);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    INFO(path << ", tensor parallel " << tp << ", prompt " << i);
    CHECK(got[i] == answers[i].tokens);
  }
}

}  // namespace

TEST_CASE("greedy tokens of every family are those of transformers", "[families]") {
  for (const std::string& family : families()) {
    const auto path = checkpoint_path(family + "/single");
    check_tokens(path, family, 1, all_layers(path), 7);
  }
}

TEST_CASE("bfloat16 files in parts and GGUF files give the tokens of one float32 file",
          "[families]") {
  for (const std::string& family : families()) {
    const auto sharded = checkpoint_path(family + "/sharded");
    check_tokens(sharded, family, 1, all_layers(sharded), 0);
    if (family.starts_with("opt")) continue;  // GGUF has no such architecture
    const auto gguf = checkpoint_path(family + "/" + family + ".gguf");
    check_tokens(gguf, family, 1, all_layers(gguf), 0);
  }
}

TEST_CASE("ranks that share a model of any family draw its tokens", "[families]") {
  check_tokens(checkpoint_path("gpt2/single"), "gpt2", 4, {3, 2}, 16);
  check_tokens(checkpoint_path("opt/single"), "opt", 4, {4}, 16);
  check_tokens(checkpoint_path("opt-350m/single"), "opt-350m", 3, {1, 3}, 16);
  check_tokens(checkpoint_path("qwen2/single"), "qwen2", 2, {4, 1}, 16);
  check_tokens(checkpoint_path("qwen2/sharded"), "qwen2", 5, {5}, 16);
  check_tokens(checkpoint_path("llama3/single"), "llama3", 2, {1, 2}, 16);
}

TEST_CASE("a model that is wrong in one way draws other tokens", "[families]") {
  const std::vector<std::pair<std::string, std::string>> broken{
      {"gpt2", "attention scale"},
      {"gpt2", "gpt2 activation"},
      {"gpt2", "output bias"},
      {"opt", "position offset"},
      {"opt", "opt activation"},
      {"opt-350m", "norm order"},
      {"qwen2", "query, key and value biases"},
      {"llama3", "llama3 scaling"},
      {"llama-linear", "linear scaling"}};
  for (const auto& [family, what] : broken) {
    const auto answers = family_answers(family);
    const auto path = checkpoint_path("broken/" + what);
    const auto got = drawn(path, answers, 1, all_layers(path), 0);
    std::size_t changed = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) changed += got[i] != answers[i].tokens;
    INFO(what);
    CHECK(2 * changed >= answers.size());
  }
}

TEST_CASE("ranks of every family hold the file once, and the plan says how much", "[families]") {
  for (const std::string& family : families()) {
    INFO(family);
    const opened o = open_model(checkpoint_path(family + "/single"));
    const auto estimate = o.factory->estimate(o.shape, *o.source);
    REQUIRE(estimate);
    std::uint64_t file = 0;
    for (const auto& t : o.source->tensors()) file += runtime::stored_bytes(t);
    for (const std::uint32_t tp : {1U, 2U, 3U}) {
      const auto layouts =
          runtime::lay_out(o.shape, tp, all_layers(checkpoint_path(family + "/single")));
      REQUIRE(layouts);
      std::uint64_t held = 0;
      for (const auto& layout : *layouts) {
        const auto bytes = o.factory->rank_bytes(o.shape, layout, *o.source);
        REQUIRE(bytes);
        held += *bytes;
        const auto planned = runtime::planned_weight_bytes(o.shape, layout, *estimate, {});
        INFO("tensor parallel " << tp << ", rank " << layout.tp_rank);
        CHECK(static_cast<double>(planned) ==
              Approx(static_cast<double>(*bytes)).epsilon(tp == 1 ? 0.001 : 0.15));
      }
      // Without rows of positions that no sequence reaches.
      const auto unused = static_cast<std::uint64_t>(o.shape.first_position) * 4 *
                          static_cast<std::uint64_t>(o.shape.hidden);
      if (tp == 1) CHECK(held == file - unused);
      CHECK(held >= file - unused);
      CHECK(static_cast<double>(held) < 1.1 * static_cast<double>(file));
    }
  }
}

TEST_CASE("weights of every family can be made up", "[families]") {
  for (const std::string& family : families()) {
    INFO(family);
    auto options = options_of(checkpoint_path(family + "/single"));
    options.format = load_format::random;
    options.seed = 5;
    const auto shape = open_model(options.model_path, load_format::random).shape;
    rank_cluster cluster(options, 1, {static_cast<std::uint32_t>(shape.layers)});
    std::vector<scripted_sequence> sequences(1);
    sequences[0].prompt = {3, 1, 4, 1, 5};
    sequences[0].sampling.temperature = 0;
    sequences[0].tokens = 16;
    run_script(cluster, sequences, 0);
    std::vector<token_id> tokens;
    for (const auto& t : sequences[0].drawn) tokens.push_back(t.token);
    REQUIRE(tokens.size() == 16);
    std::sort(tokens.begin(), tokens.end());
    CHECK(std::unique(tokens.begin(), tokens.end()) - tokens.begin() > 2);
  }
}

}  // namespace dinfer::tests
