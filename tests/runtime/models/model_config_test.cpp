// SPDX-License-Identifier: Apache-2.0
// The shape that metadata describes, and each way in which metadata can be wrong: the message names
// the key.
#include "runtime/models/model_config.hpp"

#include "runtime/weights/gguf.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/model_path.hpp"

#include <functional>
#include <map>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using runtime::model_shape;
using runtime::read_model_shape;

// The metadata of a small llama, by key, so that a test can change one thing.
class llama_file {
 public:
  llama_file() {
    set("general.architecture", "llama")
        .set("llama.block_count", 2)
        .set("llama.context_length", 64);
    set("llama.embedding_length", 32).set("llama.feed_forward_length", 96);
    set("llama.attention.head_count", 4).set("llama.attention.head_count_kv", 2);
    set("llama.attention.layer_norm_rms_epsilon", 1e-6F).set("llama.rope.freq_base", 500000.0F);
    tensor("token_embd.weight", {50, 32});
  }
  template <class T>
  llama_file& set(const std::string& key, const T& value) {
    pairs_[key] = [key, value](gguf_writer& writer) { writer.set(key, value); };
    return *this;
  }
  llama_file& without(const std::string& key) {
    pairs_.erase(key);
    tensors_.erase(key);
    return *this;
  }
  llama_file& tensor(const std::string& name, const std::vector<std::int64_t>& shape,
                     std::vector<float> values = {}) {
    std::int64_t elements = 1;
    for (const auto extent : shape) elements *= extent;
    values.resize(static_cast<std::size_t>(elements));
    tensors_[name] = [name, shape, values](gguf_writer& writer) {
      writer.tensor(name, shape, values);
    };
    return *this;
  }
  result<model_shape> shape() const {
    gguf_writer writer;
    for (const auto& [key, add] : pairs_) add(writer);
    for (const auto& [name, add] : tensors_) add(writer);
    const std::string file = writer.file();
    const auto source = runtime::parse_gguf(std::as_bytes(std::span(file)), "llama.gguf");
    REQUIRE(source);
    return read_model_shape(**source);
  }

 private:
  std::map<std::string, std::function<void(gguf_writer&)>> pairs_, tensors_;
};

std::string message_of(const llama_file& file, errc code = errc::bad_file) {
  const auto shape = file.shape();
  REQUIRE_FALSE(shape);
  CHECK(shape.error().code == code);
  CHECK_FALSE(shape.error().subject.empty());
  return shape.error().message;
}

void check_frequencies(const llama_file& file, const std::vector<float>& expected) {
  const auto shape = file.shape();
  REQUIRE(shape);
  REQUIRE(shape->inverse_frequencies.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(shape->inverse_frequencies[i] == Approx(expected[i]).epsilon(1e-6));
}

}  // namespace

TEST_CASE("the real model's shape is read", "[models]") {
  const auto source = runtime::open_weights(model_path());
  REQUIRE(source);
  const auto shape = read_model_shape(**source);
  REQUIRE(shape);
  CHECK(shape->architecture == "llama");
  CHECK(shape->name == "Smollm2 135M 8k Lc100K Mix1 Ep2");
  CHECK(shape->layers == 30);
  CHECK(shape->hidden == 576);
  CHECK(shape->heads == 9);
  CHECK(shape->kv_heads == 3);
  CHECK(shape->head_dim == 64);
  CHECK(shape->mlp == 1536);
  CHECK(shape->vocabulary == 49152);
  CHECK(shape->max_positions == 8192);
  CHECK(shape->norm_epsilon == 1e-5F);
  CHECK(shape->rope == kernels::rope_style::interleaved);
  CHECK(shape->rotary == 64);
  CHECK(shape->tied_embeddings);
  CHECK(shape->eos_tokens == std::vector<token_id>{2});
  // 100000 ** (-arange(0, 64, 2) / 64) by numpy, in double and then float32.
  REQUIRE(shape->inverse_frequencies.size() == 32);
  CHECK(shape->inverse_frequencies[0] == 1.0F);
  CHECK(shape->inverse_frequencies[1] == 0.6978305578231812F);
  CHECK(shape->inverse_frequencies[16] == 0.003162277629598975F);
  CHECK(shape->inverse_frequencies[31] == 1.4330125850392506e-05F);
}

TEST_CASE("what a file may leave out has the format's defaults", "[models]") {
  const auto plain = llama_file().shape();
  REQUIRE(plain);
  CHECK(plain->name == "llama");
  CHECK(plain->head_dim == 8);
  CHECK(plain->rotary == 8);
  CHECK(plain->tied_embeddings);
  CHECK(plain->eos_tokens.empty());
  const auto full = llama_file()
                        .without("llama.attention.head_count_kv")
                        .set("llama.attention.key_length", 16)
                        .set("llama.attention.value_length", 16)
                        .set("llama.rope.dimension_count", 4)
                        .set("llama.feed_forward_length", std::vector<int>{96, 96})
                        .tensor("output.weight", {50, 32})
                        .set("tokenizer.ggml.eos_token_id", 3)
                        .set("tokenizer.ggml.eot_token_id", 7)
                        .set("tokenizer.ggml.eom_token_id", 3)
                        .shape();
  REQUIRE(full);
  CHECK(full->kv_heads == 4);
  CHECK(full->head_dim == 16);
  CHECK(full->rotary == 4);
  CHECK(full->mlp == 96);
  CHECK_FALSE(full->tied_embeddings);
  CHECK(full->eos_tokens == std::vector<token_id>{3, 7});
}

// numpy: 500000 ** (-arange(0, 8, 2) / 8), then / 4, or / [1, 2, 4, 8].
TEST_CASE("rope scaling is applied to the frequencies", "[models]") {
  const std::vector<float> plain{1.0F, 0.03760603070259094F, 0.0014142135623842478F,
                                 5.3182957344688475e-05F};
  const std::vector<float> quarter{0.25F, 0.009401507675647736F, 0.00035355339059606194F,
                                   1.3295739336172119e-05F};
  const std::vector<float> factors{1.0F, 0.01880301535129547F, 0.00035355339059606194F,
                                   6.647869668086059e-06F};
  check_frequencies(llama_file(), plain);
  check_frequencies(llama_file().set("llama.rope.scaling.type", "none"), plain);
  check_frequencies(
      llama_file().set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 4.0F),
      quarter);
  check_frequencies(llama_file().set("llama.rope.scale_linear", 4.0F), quarter);
  check_frequencies(llama_file().tensor("rope_freqs.weight", {4}, {1, 2, 4, 8}), factors);
}

TEST_CASE("rope that is not built or not sane is refused", "[models]") {
  CHECK_THAT(message_of(llama_file().set("llama.rope.scaling.type", "yarn"), errc::unsupported),
             Contains("llama.rope.scaling.type: yarn"));
  CHECK_THAT(message_of(llama_file().set("llama.rope.scale_linear", -1.0F)),
             Contains("llama.rope.scale_linear: is -1"));
  CHECK_THAT(message_of(llama_file().set("llama.rope.dimension_count", 7)),
             Contains("llama.rope.dimension_count: is 7; an even number"));
  CHECK_THAT(message_of(llama_file().set("llama.rope.dimension_count", 10)),
             Contains("llama.rope.dimension_count: is 10; 2 to 8 fits"));
  for (const float base : {0.0F, -5.0F, std::numeric_limits<float>::infinity(),
                           std::numeric_limits<float>::quiet_NaN()})
    CHECK_THAT(message_of(llama_file().set("llama.rope.freq_base", base)),
               Contains("llama.rope.freq_base"));
  CHECK_THAT(message_of(llama_file().tensor("rope_freqs.weight", {5}, {})),
             Contains("rope_freqs.weight: is not 4 f32 values"));
  CHECK_THAT(message_of(llama_file().tensor("rope_freqs.weight", {4}, {1, 1, 0, 1})),
             Contains("rope_freqs.weight: value 2 is 0"));
}

TEST_CASE("missing, mistyped and unfitting sizes are refused by key", "[models]") {
  for (const std::string key :
       {"block_count", "embedding_length", "feed_forward_length", "context_length",
        "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    const std::string full = "llama." + key;
    INFO(full);
    CHECK_THAT(message_of(llama_file().without(full)), Contains(full + ": is missing"));
    CHECK_THAT(message_of(llama_file().set(full, "text")), Contains(full + ": is "));
    CHECK_THAT(message_of(llama_file().set(full, std::vector<int>{})), Contains(full + ": is "));
    CHECK_THAT(message_of(llama_file().set(full, std::int64_t{-1})), Contains(full + ": is -1"));
    CHECK_THAT(message_of(llama_file().set(full, std::int64_t{1} << 40)), Contains(full));
    if (full.find("epsilon") != full.npos) continue;
    CHECK_THAT(message_of(llama_file().set(full, 0)), Contains(full + ": is 0"));
    CHECK_THAT(message_of(llama_file().set(full, std::vector<int>{4, 8}), errc::unsupported),
               Contains(full + ": differs from layer to layer"));
  }
  CHECK_THAT(message_of(llama_file().set("llama.attention.head_count_kv", "two")),
             Contains("llama.attention.head_count_kv: is not an integer"));
  CHECK_THAT(message_of(llama_file().set("llama.rope.freq_base", true)),
             Contains("llama.rope.freq_base: is not a number"));
  CHECK_THAT(message_of(llama_file().set("tokenizer.ggml.eos_token_id", 1.5F)),
             Contains("tokenizer.ggml.eos_token_id: is not an integer"));
  CHECK_THAT(message_of(llama_file().set("llama.attention.head_count_kv", 3)),
             Contains("llama.attention.head_count_kv: 3 KV heads do not divide 4 heads"));
  CHECK_THAT(message_of(llama_file().set("llama.attention.head_count", 5)),
             Contains("llama.attention.head_count"));
  CHECK_THAT(message_of(llama_file().set("llama.attention.value_length", 4), errc::unsupported),
             Contains("llama.attention.value_length: 4 differs"));
}

TEST_CASE("the vocabulary fits its embedding", "[models]") {
  CHECK_THAT(message_of(llama_file().without("token_embd.weight")),
             Contains("token_embd.weight: the tensor is missing"));
  CHECK_THAT(message_of(llama_file().tensor("token_embd.weight", {50, 16})),
             Contains("token_embd.weight: has shape [50, 16]; [vocabulary, 32] fits"));
  CHECK_THAT(message_of(llama_file().set("tokenizer.ggml.eos_token_id", 50)),
             Contains("tokenizer.ggml.eos_token_id: is 50; 0 to 49 fits"));
  CHECK_THAT(message_of(llama_file().set("tokenizer.ggml.eot_token_id", -1)),
             Contains("tokenizer.ggml.eot_token_id: is -1"));
  CHECK_THAT(
      message_of(llama_file().set("tokenizer.ggml.tokens", std::vector<std::string>(51, "a"))),
      Contains("tokenizer.ggml.tokens: has 51 tokens; the embedding has 50 rows"));
}

TEST_CASE("models that are not built are refused by name", "[models]") {
  CHECK_THAT(message_of(llama_file().without("general.architecture")),
             Contains("general.architecture: is missing"));
  CHECK_THAT(message_of(llama_file().set("general.architecture", "gemma3"), errc::unsupported),
             Contains("general.architecture: gemma3 is not built; this build has llama"));
  CHECK_THAT(message_of(llama_file().set("llama.expert_count", 8), errc::unsupported),
             Contains("llama.expert_count"));
  CHECK_THAT(message_of(llama_file().set("llama.attention.causal", false), errc::unsupported),
             Contains("llama.attention.causal"));
  CHECK_THAT(message_of(llama_file().set("llama.logit_scale", 0.5F), errc::unsupported),
             Contains("llama.logit_scale"));
  CHECK_THAT(message_of(llama_file().tensor("blk.0.attn_q.bias", {32}), errc::unsupported),
             Contains("blk.0.attn_q.bias"));
  CHECK(llama_file().tensor("blk.1.attn_q.weight", {32, 32}).shape());
  const auto window = llama_file().set("llama.attention.sliding_window", 48).shape();
  REQUIRE(window);
  CHECK(window->max_positions == 48);
}

}  // namespace dinfer::tests
