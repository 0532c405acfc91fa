// SPDX-License-Identifier: Apache-2.0
// Which of a checkpoint folder's files says what: tokenizer, configuration, template.
#include "runtime/tokenizer/checkpoint_words.hpp"
#include "runtime/weights/random_source.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_config.hpp"

#include <fstream>
#include <iterator>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

using ids = std::vector<token_id>;

std::string golden(const std::string& name) {
  std::ifstream stream(repository_file("tests/golden/tokenizers/" + name + ".json"));
  return {std::istreambuf_iterator<char>(stream), {}};
}

model_words open(const temporary_folder& folder) {
  auto words = open_checkpoint_words(folder.path(""));
  if (!words) FAIL(words.error().message);
  return std::move(*words);
}

}  // namespace

TEST_CASE("a checkpoint folder's tokenizer, template and special tokens are found", "[tokenizer]") {
  const temporary_folder folder;
  folder.write("tokenizer.json", golden("llama2"));
  CHECK(open(folder).chat_template.empty());
  CHECK(open(folder).words->bos() == 1);
  const std::string before = open(folder).fingerprint;
  folder.write(
      "tokenizer_config.json",
      R"({"tokenizer_class":"LlamaTokenizer","add_bos_token":false,"add_eos_token":true,)"
      R"("bos_token":{"content":"<s>"},"eos_token":"</s>",)"
      R"("chat_template":[{"name":"tools","template":"T"},{"name":"default","template":"D"}]})");
  const model_words words = open(folder);
  CHECK(words.chat_template == "D");
  CHECK(words.fingerprint != before);
  CHECK(words.words->eos() == 2);
  CHECK(words.words->encode("", true, true) == ids{2});
  folder.write("chat_template.jinja", "J");
  CHECK(open(folder).chat_template == "J");
}

TEST_CASE("what puts bos before a text depends on the tokenizer's class", "[tokenizer]") {
  const temporary_folder folder;
  folder.write("tokenizer.json", golden("llama2"));
  folder.write("tokenizer_config.json",
               R"({"tokenizer_class":"PreTrainedTokenizerFast","add_bos_token":false})");
  CHECK(open(folder).words->encode("", true, true) == ids{1});
}

TEST_CASE("vocab.json with merges.txt is split as GPT-2 does", "[tokenizer]") {
  const temporary_folder folder;
  folder.write("vocab.json",
               R"({"<s>":0,"</s>":1,"a":2,"b":3,"Ġ":4,"ab":5,"Ġab":6,"<":7,"/":8,"s":9,">":10})");
  folder.write("merges.txt", "#version: 0.2\na b\nĠ ab\n");
  folder.write("tokenizer_config.json",
               R"({"bos_token":"</s>","eos_token":"</s>","add_bos_token":true})");
  const model_words words = open(folder);
  CHECK(words.words->encode("ab ab", true, true) == ids{1, 5, 6});
  CHECK(words.words->encode("b</s>", false, false) == ids{3, 7, 8, 9, 10});
  CHECK(words.words->encode("b</s>", true, false) == ids{3, 1});
  CHECK(words.words->decode(ids{1, 5, 6}, true) == "ab ab");
  folder.write("merges.txt", "a b\nab\n");
  const auto half = open_checkpoint_words(folder.path(""));
  REQUIRE_FALSE(half);
  CHECK(half.error().message.find("merges.txt: line 2: is not two words") != std::string::npos);
}

TEST_CASE("a text that is decoded loses the space that encoding put before it", "[tokenizer]") {
  const temporary_folder folder;
  folder.write("tokenizer.json", golden("llama2"));
  const model_words words = open(folder);
  const auto tokens = words.words->encode("the quick", false, false);
  CHECK(words.words->decode(tokens, true) == "the quick");
  detokenizer stream(*words.words);  // goes on after a prompt, so the space is kept
  std::string text;
  for (const token_id t : tokens) text += stream.push(t);
  CHECK(text + stream.finish() == " the quick");
}

TEST_CASE("folders without a tokenizer are told apart", "[tokenizer]") {
  const temporary_folder folder;
  CHECK_FALSE(holds_tokenizer(folder.path("")));
  const auto none = open_checkpoint_words(folder.path(""));
  REQUIRE_FALSE(none);
  CHECK(none.error().code == errc::not_found);
  CHECK(none.error().message.find("neither tokenizer.json nor vocab.json") != std::string::npos);
  folder.write("tokenizer.json", golden("gpt2"));
  CHECK(holds_tokenizer(folder.path("")));
  folder.write("config.json", tiny_config());
  const auto made_up = parse_random(tiny_config(), folder.path("config.json"), 0);
  REQUIRE(made_up);
  const auto beside = open_words(**made_up, folder.path("config.json"), "", 2000);
  REQUIRE(beside);
  CHECK(beside->words->size() == 1200);
  CHECK(open_words(**made_up, folder.path(""), "", 100).error().subject == "model.tokenizer");
  CHECK(open_words(**made_up, "elsewhere", folder.path(""), 2000)->words->has_words());
}
