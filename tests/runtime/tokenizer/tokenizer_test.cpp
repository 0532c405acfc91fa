// SPDX-License-Identifier: Apache-2.0
// The tokenizer of the real model against PyPI's tokenizers
// (tests/reference/tokenizer_reference.py) and what it promises about spans, invalid bytes and long
// words.
#include "runtime/tokenizer/tokenizer.hpp"

#include "runtime/tokenizer/utf8.hpp"
#include "runtime/weights/source.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/patience.hpp"

#include <chrono>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

const tokenizer& smollm2() {
  static const std::unique_ptr<tokenizer> made = [] {
    auto source = open_weights(model_path());
    if (!source) FAIL(source.error().message);
    auto words = make_tokenizer(**source);
    if (!words) FAIL(words.error().message);
    return std::move(*words);
  }();
  return *made;
}

using ids = std::vector<token_id>;

ids user(std::string_view text) { return smollm2().encode(text, false, false); }
ids literal(std::string_view text) { return smollm2().encode(text, true, false); }

// Every byte of the text has a token; the model was trained without 21 of them.
bool covered(std::string_view text) {
  for (const char c : text)
    if (!smollm2().find(std::string_view(&c, 1))) return false;
  return true;
}

void compare_strings(const std::string& golden, bool special) {
  const auto hashes = golden_hashes(golden);
  REQUIRE(hashes.size() == 1000);
  random_text texts(1);
  for (std::size_t group = 0; group < hashes.size(); ++group) {
    answer_hash hash;
    std::string asked;
    for (int i = 0; i < 10; ++i) {
      const std::string text = texts.next();
      hash.add(smollm2().encode(text, special, false));
      asked += text + "\n----\n";
    }
    INFO("group " << group << ":\n" << asked);
    REQUIRE(hash.value() == hashes[group]);
  }
}

}  // namespace

TEST_CASE("ten thousand strings are tokenised as by the reference") {
  compare_strings("tokenizer_strings.txt", false);
}

TEST_CASE("ten thousand strings with control tokens are tokenised as by the reference") {
  compare_strings("tokenizer_strings_added.txt", true);
}

TEST_CASE("every code point is tokenised as by the reference") {
  const auto hashes = golden_hashes("tokenizer_code_points.txt");
  REQUIRE(hashes.size() == 272);
  answer_hash hash;
  std::size_t group = 0, count = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string alone;
    append_code_point(alone, c);
    hash.add(user(alone));
    hash.add(user("a" + alone + "b 1" + alone));
    if (++count < 4096 && c != 0x10FFFF) continue;
    INFO("up to code point " << static_cast<std::uint32_t>(c));
    REQUIRE(hash.value() == hashes.at(group++));
    hash = {};
    count = 0;
  }
  REQUIRE(group == hashes.size());
}

TEST_CASE("user text never becomes a control token") {
  const token_id begin = *smollm2().find("<|im_start|>"), end = *smollm2().find("<|im_end|>");
  REQUIRE(begin == 1);
  REQUIRE(end == 2);
  CHECK(smollm2().special(begin));
  CHECK(literal("<|im_start|>") == ids{begin});
  for (token_id t = 0; t < smollm2().size(); ++t) {
    if (!smollm2().special(t)) continue;
    for (const token_id got : user(smollm2().bytes(t))) CHECK_FALSE(smollm2().special(got));
  }
  SECTION("not even where it completes what the template began") {
    const std::vector<prompt_span> spans{{"<|im_", true}, {"end|>", false}, {"<|im_end|>", true}};
    ids expected = user("<|im_end|>");
    expected.push_back(end);
    CHECK(smollm2().encode(spans, false) == expected);
    const std::vector<prompt_span> other{{"<|im_", false}, {"end|>", true}};
    CHECK(smollm2().encode(other, false) == user("<|im_end|>"));
  }
  SECTION("literal spans side by side are one text") {
    const std::vector<prompt_span> spans{{"<|im_", true}, {"", false}, {"end|>", true}};
    CHECK(smollm2().encode(std::vector<prompt_span>{{"<|im_", true}, {"end|>", true}}, false) ==
          ids{end});
    CHECK(smollm2().encode(spans, false) == user("<|im_end|>"));  // something lies between
  }
}

TEST_CASE("words cross the borders of spans") {
  const std::vector<prompt_span> spans{{"<|im_start|>us", true},
                                       {"er\nhel", false},
                                       {"lo", true},
                                       {" wor", false},
                                       {"ld<|im_end|>", true}};
  CHECK(smollm2().encode(spans, false) == literal("<|im_start|>user\nhello world<|im_end|>"));
}

TEST_CASE("spans without control tokens are tokenised like their whole text") {
  random_text texts(7);
  split_mix rng(8);
  for (int i = 0; i < 500; ++i) {
    const std::string text = texts.next();
    std::vector<prompt_span> spans;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min(text.size() - at, 1 + rng.below(9));
      spans.push_back({text.substr(at, size), false});
      at += size;
    }
    CHECK(smollm2().encode(spans, false) == user(text));
  }
}

TEST_CASE("decoding gives the text back") {
  random_text texts(2);
  int checked = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::string text = texts.next();
    if (!covered(text)) continue;
    ++checked;
    REQUIRE(smollm2().decode(user(text), true) == text);
    REQUIRE(smollm2().decode(literal(text), false) == text);
  }
  CHECK(checked > 4000);
}

TEST_CASE("invalid bytes are tokenised as replacement characters") {
  CHECK(user("a\xFFz") == user("a\xEF\xBF\xBDz"));
  CHECK(user("\xF0\x9F\x98") == user("\xEF\xBF\xBD"));
  CHECK(user("\xED\xA0\x80") == user("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"));
  const std::vector<prompt_span> cut{{"\xF0\x9F", false}, {"\x98\x80", false}};
  CHECK(smollm2().encode(cut, false) == user("\xF0\x9F\x98\x80"));
}

TEST_CASE("bos is added only where the model asks for it") {
  CHECK(smollm2().bos() == 1);
  CHECK(smollm2().eos() == 2);
  CHECK(smollm2().encode("hello", false, true) == user("hello"));
  CHECK(smollm2().encode("", true, true).empty());
}

TEST_CASE("tokens outside the vocabulary have no bytes") {
  CHECK(smollm2().bytes(-1).empty());
  CHECK(smollm2().bytes(smollm2().size()).empty());
  CHECK_FALSE(smollm2().special(smollm2().size()));
  CHECK_FALSE(smollm2().find("no such token anywhere"));
  CHECK(smollm2().decode(ids{-5, 1 << 30}, false).empty());
}

TEST_CASE("a megabyte of one character takes time in proportion") {
  for (const std::string unit :
       {"a", " ", "\n", "0", "-", "=", "\xE4\xBD\xA0", "'", "<", "<|im_start|"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto before = std::chrono::steady_clock::now();
    const ids tokens = literal(text);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
    INFO(unit << " took " << took.count() << " s");
    CHECK(smollm2().decode(tokens, false) == text);
    CHECK(took < patient(std::chrono::seconds(5)));  // 0.2 s when idle; squares: minutes
  }
}
