// SPDX-License-Identifier: Apache-2.0
// Tokenizers of checkpoint folders against PyPI's tokenizers
// (tests/reference/checkpoint_tokenizers.py): ids and decoded texts of two thousand strings each,
// for small tokenizers with the steps of published ones and, where DINFER_TEST_TOKENIZERS names a
// folder that scripts/fetch_tokenizers made, for published ones.
#include "runtime/tokenizer/checkpoint_words.hpp"
#include "runtime/tokenizer/tokenizer_json.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

#include <simdjson.h>

#include <cstdlib>
#include <filesystem>
#include <map>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

std::string golden_json(const std::string& name) {
  return repository_file("tests/golden/tokenizers/" + name + ".json");
}

std::unique_ptr<tokenizer> open_json(const std::string& path) {
  auto file = json_file::open(path, std::size_t{1} << 27);
  if (!file) FAIL(file.error().message);
  auto parts = read_tokenizer_json(*file, {});
  if (!parts) FAIL(parts.error().message);
  return make_tokenizer(std::move(*parts));
}

// Contents of the added tokens, by id.
std::vector<std::string> added_of(const std::string& path) {
  simdjson::dom::parser parser;
  std::map<std::int64_t, std::string> by_id;
  for (const simdjson::dom::element token : parser.load(path)["added_tokens"].get_array())
    by_id[token["id"].get_int64()] = std::string(std::string_view(token["content"]));
  std::vector<std::string> out;
  for (auto& [id, text] : by_id) out.push_back(text);
  return out;
}

void compare(const tokenizer& words, const std::vector<std::string>& added,
             const std::string& golden) {
  const auto hashes = golden_hashes("tokenizers/" + golden + ".txt");
  REQUIRE(hashes.size() == 100);
  random_text texts(3);
  for (std::size_t group = 0; group < hashes.size(); ++group) {
    answer_hash hash;
    std::string asked;
    for (int i = 0; i < 20; ++i) {
      std::string text = texts.next();
      if (texts.below(2) == 0) {
        text += added[texts.below(added.size())];
        text += texts.next();
      }
      const auto plain = words.encode(text, true, false);
      hash.add(words.encode(text, true, true));
      hash.add(plain);
      std::vector<unsigned char> shown;
      for (const char c : words.decode(plain, false))
        shown.push_back(static_cast<unsigned char>(c));
      hash.add(shown);
      asked += text + "\n----\n";
    }
    INFO(golden << ", group " << group << ":\n" << asked);
    REQUIRE(hash.value() == hashes[group]);
  }
}

}  // namespace

TEST_CASE("tokenizer.json files give the ids and texts of the reference", "[tokenizer]") {
  const std::string name = GENERATE("gpt2", "opt", "roberta_spaces", "llama3", "qwen2", "smollm2",
                                    "neox", "llama2", "llama2_first", "phi3", "gemma", "metaspace",
                                    "unknown", "expressions", "whitespace");
  compare(*open_json(golden_json(name)), added_of(golden_json(name)), name);
}

TEST_CASE("published tokenizer.json files give the ids and texts of the reference", "[tokenizer]") {
  const char* folder = std::getenv("DINFER_TEST_TOKENIZERS");
  if (folder == nullptr) {
    WARN("skipped: DINFER_TEST_TOKENIZERS names no folder");
    return;
  }
  for (const std::string name : {"llama3", "deepseek"}) {
    const std::string path = std::string(folder) + "/" + name + "/tokenizer.json";
    compare(*open_json(path), added_of(path), "real_" + name);
  }
  const temporary_folder gpt2;
  for (const std::string name : {"vocab.json", "merges.txt"})
    std::filesystem::copy_file(std::string(folder) + "/gpt2/" + name, gpt2.path(name));
  gpt2.write("tokenizer_config.json", R"({"eos_token":"<|endoftext|>"})");
  const auto opened = open_checkpoint_words(gpt2.path(""));
  INFO((opened ? "" : opened.error().message));
  REQUIRE(opened);
  compare(*opened->words, {"<|endoftext|>"}, "real_gpt2");
}
