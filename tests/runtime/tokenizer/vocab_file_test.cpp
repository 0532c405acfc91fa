// SPDX-License-Identifier: Apache-2.0
// Damaged and unusual vocabularies: what is refused, and with which words; what merges do.
#include "runtime/tokenizer/bpe.hpp"
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/tokenizer/vocabulary.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_source.hpp"

#include <algorithm>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

using ids = std::vector<token_id>;

struct file {
  std::vector<std::string> tokens{"a", "b", "c", "ab", "abc", "<end>", "<think>"};
  std::vector<std::string> merges{"a b", "ab c"};
  std::vector<std::int64_t> kinds{1, 1, 1, 1, 1, 3, 4};
  std::string model = "gpt2", rule = "gpt2";
  std::map<std::string, std::int64_t, std::less<>> numbers;
  std::optional<bool> add_bos;

  result<std::unique_ptr<tokenizer>> open() const {
    fake_source source;
    if (!model.empty()) source.text_values["tokenizer.ggml.model"] = model;
    source.text_values["tokenizer.ggml.pre"] = rule;
    source.set_texts("tokenizer.ggml.tokens", tokens);
    source.set_texts("tokenizer.ggml.merges", merges);
    source.integer_lists["tokenizer.ggml.token_type"] = kinds;
    source.integer_values = numbers;
    if (add_bos) source.boolean_values["tokenizer.ggml.add_bos_token"] = *add_bos;
    return make_tokenizer(source);
  }
  std::unique_ptr<tokenizer> good() const {
    auto made = open();
    if (!made) FAIL(made.error().message);
    return std::move(*made);
  }
  void refused(errc code, std::string_view part) const {
    const auto made = open();
    REQUIRE_FALSE(made);
    CHECK(made.error().code == code);
    INFO(made.error().message);
    CHECK(made.error().message.find(part) != std::string::npos);
  }
};

}  // namespace

TEST_CASE("damaged vocabularies are refused with key and index") {
  file f;
  SECTION("no tokenizer") { (f.model = "", f).refused(errc::bad_file, "carries no tokenizer"); }
  SECTION("another kind") { (f.model = "llama", f).refused(errc::unsupported, "SentencePiece"); }
  SECTION("unknown kind") { (f.model = "rwkv", f).refused(errc::unsupported, "rwkv"); }
  SECTION("unknown rule") { (f.rule = "martian", f).refused(errc::unsupported, "martian"); }
  SECTION("no tokens") { (f.tokens = {}, f).refused(errc::bad_file, "tokenizer.ggml.tokens"); }
  SECTION("kinds") { (f.kinds.pop_back(), f).refused(errc::bad_file, "6 kinds for 7 tokens"); }
  SECTION("kind") { (f.kinds[2] = 9, f).refused(errc::bad_file, "token 2 has kind 9"); }
  SECTION("half a merge") { (f.merges[1] = "ab", f).refused(errc::bad_file, "merge 1"); }
  SECTION("empty half") { (f.merges[1] = "ab ", f).refused(errc::bad_file, "merge 1"); }
  SECTION("no such part") { (f.merges[0] = "a x", f).refused(errc::bad_file, "merge 0"); }
  SECTION("no such result") { (f.merges[0] = "b a", f).refused(errc::bad_file, "merge 0"); }
  SECTION("a merge of a control token") {
    (f.merges[0] = "a <end>", f).refused(errc::bad_file, "merge 0");
  }
  SECTION("bos beyond the end") {
    f.numbers["tokenizer.ggml.bos_token_id"] = 7;
    f.refused(errc::bad_file, "tokenizer.ggml.bos_token_id");
  }
  SECTION("eos below zero") {
    f.numbers["tokenizer.ggml.eos_token_id"] = -1;
    f.refused(errc::bad_file, "tokenizer.ggml.eos_token_id");
  }
}

TEST_CASE("merges apply by rank, not by length") {
  file f;
  f.tokens = {"a", "b", "c", "ab", "bc"};
  f.kinds = {1, 1, 1, 1, 1};
  f.merges = {"b c", "a b"};
  CHECK(f.good()->encode("abc", false, false) == ids{0, 4});
  CHECK(f.good()->encode("ab", false, false) == ids{3});
}

TEST_CASE("the last of equal tokens counts") {
  file f;
  f.tokens = {"a", "b", "a"};
  f.kinds = {1, 1, 1};
  f.merges = {};
  CHECK(f.good()->encode("aba", false, false) == ids{2, 1, 2});
  CHECK(f.good()->bytes(0) == "a");
}

TEST_CASE("added words are found in every text, control tokens are not") {
  const auto words = file{}.good();
  CHECK(words->encode("a<think>b<end>", true, false) == ids{0, 6, 1, 5});
  CHECK(words->encode("a<think>b<end>", false, false) == ids{0, 6, 1});  // no bytes for the rest
  CHECK_FALSE(words->special(6));
  CHECK(words->decode(ids{0, 6, 5}, true) == "a<think>");
}

TEST_CASE("the longest of the control tokens at one place is taken") {
  file f;
  f.tokens = {"a", "<x", "<x>", "<x>a", "<x>ab"};
  f.kinds = {1, 3, 3, 3, 3};
  f.merges = {};
  CHECK(f.good()->encode("<x>a<x><xa<x>aa", true, false) == ids{3, 2, 1, 0, 3, 0});
  const std::vector<prompt_span> spans{{"<x>", true}, {"ab", false}};
  CHECK(f.good()->encode(spans, false) == ids{2, 0});  // a longer one would end in user text
}

TEST_CASE("bos follows the file, else the rule") {
  file f;
  f.numbers["tokenizer.ggml.bos_token_id"] = 5;
  CHECK(f.good()->encode("a", false, true) == ids{0});
  f.add_bos = true;
  CHECK(f.good()->encode("a", false, true) == ids{5, 0});
  CHECK(f.good()->encode("a", false, false) == ids{0});
  f.add_bos.reset();
  f.rule = "llama-bpe";
  CHECK(f.good()->encode("a", false, true) == ids{5, 0});
}

TEST_CASE("short and long words merge alike") {
  // Merged by definition: again and again the leftmost pair of the lowest rank.
  vocabulary words;
  const std::vector<std::string> texts{"a",  "b",   "c",    "aa",   "ab",  "bc",  "aab",
                                       "ca", "bca", "aaab", "abca", "ccc", "cab", "cc"};
  words.offsets.push_back(0);
  for (const std::string& t : texts) {
    words.arena += t;
    words.offsets.push_back(static_cast<std::uint32_t>(words.arena.size()));
    words.kinds.push_back(token_kind::normal);
  }
  for (token_id i = 0; i < words.size(); ++i) words.by_bytes[words.bytes(i)] = i;
  words.merges = {{1, 2, 5}, {0, 0, 3},  {2, 0, 7},   {0, 1, 4},  {3, 4, 9},
                  {5, 0, 8}, {2, 2, 13}, {13, 2, 11}, {7, 1, 12}, {4, 7, 10}};
  const bpe merges(words, false);
  split_mix rng(6);
  for (int i = 0; i < 3000; ++i) {
    std::string word;
    ids expected, got;
    for (std::size_t n = 1 + rng.below(60); n > 0; --n) {
      expected.push_back(static_cast<token_id>(rng.below(3)));
      word.push_back(static_cast<char>('a' + expected.back()));
    }
    for (bool merged = true; merged;) {
      merged = false;
      for (const merge_rule& rule : words.merges) {
        const std::array pair{rule.left, rule.right};
        const auto at = std::search(expected.begin(), expected.end(), pair.begin(), pair.end());
        if (at == expected.end()) continue;
        *at = rule.result;
        expected.erase(at + 1);
        merged = true;
        break;
      }
    }
    merges.encode(word, got);
    INFO(word);
    REQUIRE(got == expected);
  }
}
