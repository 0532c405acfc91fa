// SPDX-License-Identifier: Apache-2.0
// Whose tokeniser serves a model: its own, another file's, or none.
#include "runtime/tokenizer/model_words.hpp"

#include "runtime/weights/random_source.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/tiny_config.hpp"
#include "tests/support/tiny_llama.hpp"

namespace dinfer::tests {
namespace {

using runtime::open_words;

}  // namespace

TEST_CASE("a model's own tokeniser serves unless another is named", "[tokenizer]") {
  const tiny_llama file({});
  const auto own = runtime::open_weights(file.path());
  REQUIRE(own);
  const auto words = open_words(**own, file.path(), "", 97);
  REQUIRE(words);
  CHECK(words->words->has_words());
  CHECK(words->words->size() == 97);
  CHECK(words->fingerprint.empty());
  CHECK(words->chat_template.empty());

  const auto made_up = runtime::parse_random(tiny_config(), "tiny/config.json", 0);
  REQUIRE(made_up);
  const auto lent = open_words(**made_up, "tiny/config.json", file.path(), 320);
  REQUIRE(lent);
  CHECK(lent->words->size() == 97);
  CHECK(lent->words->encode("\"!", false, false) == std::vector<token_id>{2, 1});
  CHECK(lent->words->decode(std::vector<token_id>{1, 200, 2}, true) == "!\"");  // 200 has no text
  CHECK(lent->fingerprint == (*own)->fingerprint(false));
}

TEST_CASE("a tokeniser that is larger than the model is refused", "[tokenizer]") {
  const tiny_llama file({});
  const auto made_up = runtime::parse_random(tiny_config(), "tiny/config.json", 0);
  REQUIRE(made_up);
  const auto refused = open_words(**made_up, "tiny/config.json", file.path(), 96);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::invalid_argument);
  CHECK(refused.error().subject == "model.tokenizer");
  CHECK(refused.error().message.find("97 tokens and the model 96 rows") != std::string::npos);
  CHECK(open_words(**made_up, "tiny/config.json", "absent.gguf", 96).error().code ==
        errc::not_found);
}

TEST_CASE("made-up weights alone have token ids and no words", "[tokenizer]") {
  const auto made_up = runtime::parse_random(tiny_config(), "tiny/config.json", 0);
  REQUIRE(made_up);
  const auto words = open_words(**made_up, "tiny/config.json", "", 320);
  REQUIRE(words);
  CHECK_FALSE(words->words->has_words());
  CHECK(words->words->size() == 320);
  CHECK(words->words->encode("text", true, true).empty());
  CHECK(words->words->decode(std::vector<token_id>{1, 2}, false).empty());
  CHECK(words->words->bytes(7).empty());
  CHECK_FALSE(words->words->eos());
}

}  // namespace dinfer::tests
