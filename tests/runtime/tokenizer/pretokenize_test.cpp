// SPDX-License-Identifier: Apache-2.0
// Splitting rules against PyPI's tokenizers (tests/reference/tokenizer_reference.py).
#include "runtime/tokenizer/pretokenize.hpp"

#include "runtime/tokenizer/utf8.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/catch.hpp"

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

// No rule here changes the text, so words are views into it.
std::vector<std::string_view> split(const text_rules& rule, std::string_view text) {
  split_words out;
  rule.words.split(text, true, out);
  return out.words;
}

std::vector<std::size_t> sizes(const text_rules& rule, std::string_view text) {
  std::vector<std::size_t> all;
  for (const std::string_view word : split(rule, text)) all.push_back(word.size());
  return all;
}

text_rules make(std::string_view name) {
  auto rule = named_rules(name);
  if (!rule) FAIL(rule.error().message);
  return std::move(*rule);
}

}  // namespace

TEST_CASE("ten thousand strings are split as by the reference") {
  const std::string name =
      GENERATE("gpt2", "llama-bpe", "qwen2", "deepseek-coder", "deepseek-v3", "gpt-4o", "tekken");
  const text_rules rule = make(name);
  const auto hashes = golden_hashes("split_" + name + ".txt");
  REQUIRE(hashes.size() == 100);
  random_text texts(1);
  for (std::size_t group = 0; group < hashes.size(); ++group) {
    answer_hash hash;
    for (int i = 0; i < 100; ++i) hash.add(sizes(rule, texts.next()));
    INFO(name << ", group " << group);
    CHECK(hash.value() == hashes[group]);
  }
}

TEST_CASE("every code point is split as by the reference") {
  const std::string name = GENERATE("gpt2", "llama-bpe");
  const text_rules rule = make(name);
  const auto hashes = golden_hashes("split_" + name + "_code_points.txt");
  REQUIRE(hashes.size() == 17);
  answer_hash hash;
  std::size_t group = 0, count = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string it;
    append_code_point(it, c);
    hash.add(sizes(rule, "a" + it + "b 1" + it + "'" + it + " " + it));
    if (++count < 65536 && c != 0x10FFFF) continue;
    INFO(name << ", up to code point " << static_cast<std::uint32_t>(c));
    CHECK(hash.value() == hashes.at(group++));
    hash = {};
    count = 0;
  }
}

TEST_CASE("digits stand alone and leave white space behind") {
  using words = std::vector<std::string_view>;
  const text_rules rule = make("smollm");
  CHECK(split(rule, "a  12 b") == words{"a", "  ", "1", "2", " b"});
  CHECK(split(rule, "") == words{});
}

TEST_CASE("patterns cope with a megabyte of one character") {
  const std::string name = GENERATE("deepseek-coder", "deepseek-v3", "gpt-4o", "tekken");
  const text_rules rule = make(name);
  for (const char c : {'a', ' ', '\n', '1', '-'}) {
    const std::string text(1'000'000, c);
    std::size_t size = 0;
    for (const std::string_view word : split(rule, text)) size += word.size();
    CHECK(size == text.size());
  }
}

TEST_CASE("an unknown rule is refused by name") {
  const auto rule = named_rules("martian");
  REQUIRE_FALSE(rule);
  CHECK(rule.error().code == errc::unsupported);
  CHECK(rule.error().message.find("'martian'") != std::string::npos);
  CHECK(rule.error().message.find("smollm") != std::string::npos);
}
