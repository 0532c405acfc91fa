// SPDX-License-Identifier: Apache-2.0
// Models with made-up weights through the engine: answers follow from the seed alone, differ from
// token to token, and are those of the same numbers in a GGUF file.
#include "dinfer/engine.hpp"
#include "runtime/weights/source.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_config.hpp"
#include "tests/support/tiny_llama.hpp"

#include <set>

namespace dinfer::tests {
namespace {

constexpr std::uint32_t wanted = 48;
const std::vector<std::vector<token_id>> prompts{{5, 6, 7}, {300, 1, 19, 44, 2}};

engine_options options_for(const std::string& path, std::uint64_t seed = 0) {
  engine_options o;
  o.model_path = path;
  o.format = load_format::random;
  o.seed = seed;
  o.max_num_seqs = 4;
  o.threads = 1;
  o.cache_bytes = 4 << 20;
  return o;
}

std::vector<std::vector<token_id>> answers(const engine_options& options) {
  auto made = engine::open(options);
  INFO((made ? "" : made.error().message));
  REQUIRE(made);
  sampling_params greedy;
  greedy.temperature = 0;
  greedy.max_tokens = wanted;
  greedy.ignore_eos = true;
  auto outputs = made->generate(prompts, greedy);
  REQUIRE(outputs);
  return *outputs;
}

std::vector<float> values_of(const runtime::stored_tensor& t) {
  std::int64_t count = 1;
  for (const auto extent : t.shape) count *= extent;
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(kernels::made_up_value(t.made_up, static_cast<std::uint64_t>(i)));
  return out;
}

// Rows of query and key heads as GGUF orders them: pairs that turn lie side by side.
std::vector<float> interleaved(const std::vector<float>& rows, std::size_t head_dim,
                               std::size_t columns) {
  std::vector<float> out(rows.size());
  for (std::size_t r = 0; r < rows.size() / columns; ++r) {
    const std::size_t head = r / head_dim, i = r % head_dim, half = head_dim / 2;
    const std::size_t to = head * head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(r * columns), columns,
                out.begin() + static_cast<std::ptrdiff_t>(to * columns));
  }
  return out;
}

// The made-up model of tiny_config() as a file of its own.
void write_gguf(const runtime::weight_source& source, const std::string& path) {
  gguf_writer file;
  file.set("general.architecture", "llama");
  const auto number = [&](const char* key, std::uint32_t value) {
    file.set(std::string("llama.") + key, value);
  };
  number("block_count", 2);
  number("embedding_length", 64);
  number("feed_forward_length", 160);
  number("attention.head_count", 4);
  number("attention.head_count_kv", 2);
  number("context_length", 256);
  file.set("llama.attention.layer_norm_rms_epsilon", 1e-5F).set("llama.rope.freq_base", 500000.0F);
  file.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "smollm");
  std::vector<std::string> words;
  for (int i = 0; i < 320; ++i) words.push_back("w" + std::to_string(i));
  file.set("tokenizer.ggml.tokens", words);
  file.set("tokenizer.ggml.merges", std::vector<std::string>{});
  for (const auto& t : source.tensors()) {
    auto values = values_of(t);
    if (t.name.ends_with("attn_q.weight") || t.name.ends_with("attn_k.weight"))
      values = interleaved(values, 16, 64);
    file.tensor(t.name, t.shape, values);
  }
  file.write(path);
}

}  // namespace

TEST_CASE("a made-up model's answers follow from its seed, and differ", "[engine]") {
  const temporary_folder folder;
  for (const std::string tied : {"false", "true"}) {
    INFO("tied " << tied);
    const auto path = folder.write(
        "config.json",
        tiny_config_with("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": " + tied));
    const auto first = answers(options_for(path));
    CHECK(first == answers(options_for(path)));
    CHECK(first != answers(options_for(path, 1)));
    CHECK(first[0] != first[1]);
    for (const auto& output : first) {
      REQUIRE(output.size() == wanted);
      CHECK(std::set<token_id>(output.begin(), output.end()).size() > wanted / 4);
    }
  }
}

TEST_CASE("made-up weights are those that a file of the same numbers holds", "[engine]") {
  const temporary_folder folder;
  const auto path = folder.write("config.json", tiny_config());
  const auto source = runtime::open_weights(path, load_format::random);
  REQUIRE(source);
  write_gguf(**source, folder.path("same.gguf"));
  auto from_file = options_for(folder.path("same.gguf"));
  from_file.format = load_format::automatic;
  CHECK(answers(options_for(path)) == answers(from_file));
}

TEST_CASE("a made-up model takes texts where a tokeniser is lent", "[engine]") {
  const temporary_folder folder;
  auto options = options_for(folder.write("config.json", tiny_config()));
  sampling_params greedy;
  greedy.temperature = 0;
  greedy.max_tokens = 8;
  const std::vector<std::string> texts{"!\"#"};
  auto without = engine::open(options);
  REQUIRE(without);
  const auto refused = without->generate(texts, greedy);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::unsupported);
  CHECK(refused.error().subject == "tokenizer");

  const tiny_llama lender({});
  options.tokenizer = lender.path();
  auto with = engine::open(options);
  REQUIRE(with);
  CHECK(with->encode("!\"#") == std::vector<token_id>{1, 2, 3});
  REQUIRE(with->generate(texts, greedy));
}

}  // namespace dinfer::tests
