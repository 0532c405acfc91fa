// SPDX-License-Identifier: Apache-2.0
// Streams of tokens to text, and UTF-8 by itself against Unicode's own examples.
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/tokenizer/utf8.hpp"
#include "runtime/tokenizer/vocabulary.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_source.hpp"

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

// How GPT-2's alphabet spells a byte.
std::string spell(int byte) {
  int next = 0x100;
  std::string out;
  for (int b = 0; b <= byte; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
    if (b == byte) append_code_point(out, static_cast<char32_t>(printable ? b : next));
    if (!printable) ++next;
  }
  return out;
}

// Token b is byte b; 256 is a control token.
std::unique_ptr<tokenizer> bytes_only() {
  fake_source source;
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(spell(byte));
  tokens.push_back("<end>");
  std::vector<std::int64_t> kinds(257, 1);
  kinds[256] = 3;
  source.text_values["tokenizer.ggml.model"] = "gpt2";
  source.text_values["tokenizer.ggml.pre"] = "gpt2";
  source.set_texts("tokenizer.ggml.tokens", tokens);
  source.set_texts("tokenizer.ggml.merges", {});
  source.integer_lists["tokenizer.ggml.token_type"] = kinds;
  auto made = make_tokenizer(source);
  if (!made) FAIL(made.error().message);
  return std::move(*made);
}

std::string replaced(std::string_view bytes) {
  std::string out;
  CHECK(append_valid_utf8(out, bytes, true) == bytes.size());
  return out;
}

const std::string bad = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("maximal subparts become one replacement each") {
  // Unicode 15, tables 3-8 to 3-11.
  CHECK(replaced("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") ==
        bad + bad + bad + bad + bad + bad + bad + bad + "A");
  CHECK(replaced("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") ==
        bad + bad + bad + bad + bad + bad + bad + bad + "A");
  CHECK(replaced("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") ==
        bad + bad + bad + bad + bad + "A" + bad + bad + "B");
  CHECK(replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == bad + bad + bad + bad + "A");
}

TEST_CASE("a character is held back until it is whole") {
  const auto words = bytes_only();
  detokenizer stream(*words);
  CHECK(stream.push(0xF0).empty());
  CHECK(stream.push(0x9F).empty());
  CHECK(stream.push(0x98).empty());
  CHECK(stream.push(0x80) == "\xF0\x9F\x98\x80");
  CHECK(stream.push('x') == "x");
  CHECK(stream.push(0xE4).empty());
  CHECK(stream.push('y') == bad + "y");
  CHECK(stream.push(0xE4).empty());
  CHECK(stream.finish() == bad);
  CHECK(stream.finish().empty());
}

TEST_CASE("control tokens are shown or skipped") {
  const auto words = bytes_only();
  detokenizer hides(*words), shows(*words, false);
  CHECK(hides.push(256).empty());
  CHECK(shows.push(256) == "<end>");
}

TEST_CASE("a stream gives the text that decoding all tokens gives") {
  const auto words = bytes_only();
  split_mix rng(3);
  random_text texts(4);
  for (int i = 0; i < 2000; ++i) {
    std::vector<token_id> tokens;
    const std::string text = texts.next();
    for (const char c : text)
      if (rng.below(12) == 0) tokens.push_back(static_cast<token_id>(rng.below(257)));  // damage
      else tokens.push_back(static_cast<unsigned char>(c));
    detokenizer stream(*words);
    std::string shown;
    for (const token_id token : tokens) {
      const std::string piece = stream.push(token);
      REQUIRE(valid_utf8(piece));
      shown += piece;
    }
    shown += stream.finish();
    REQUIRE(shown == words->decode(tokens, true));
  }
}

TEST_CASE("every code point survives UTF-8") {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_code_point(text, c);
    const utf8_step step = utf8_next(text);
    REQUIRE(step.what == utf8_step::kind::whole);
    REQUIRE(step.size == text.size());
    REQUIRE(step.code_point == c);
  }
}
