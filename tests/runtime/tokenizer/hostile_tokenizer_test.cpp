// SPDX-License-Identifier: Apache-2.0
// Tokenizer files made to do harm, and damaged ones: one clear line, soon, and no more memory than
// the file's size accounts for. Expressions that would search for ages are stopped.
#include "runtime/tokenizer/tokenizer_json.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"

#include <fmt/format.h>

#include <ctime>
#include <fstream>
#include <iterator>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

struct file {
  std::string vocab = R"({"a":0,"b":1,"c":2,"ab":3,"abc":4})";
  std::string merges = R"(["a b","ab c"])";
  std::string added = "[]", normalizer = "null", post = "null", more;
  std::string pre = R"({"type":"ByteLevel","add_prefix_space":false})";
  std::string decoder = R"({"type":"ByteLevel"})";

  std::string json() const {
    return fmt::format(
        R"({{"added_tokens":{},"normalizer":{},"pre_tokenizer":{},"post_processor":{},)"
        R"("decoder":{},"model":{{"type":"BPE","vocab":{},"merges":{}{}}}}})",
        added, normalizer, pre, post, decoder, vocab, merges, more);
  }
};

result<std::unique_ptr<tokenizer>> open(std::string_view json) {
  DINFER_TRY(const auto parsed, json_file::parse(json, "tokenizer.json"));
  DINFER_TRY(auto parts, read_tokenizer_json(parsed, {}));
  return make_tokenizer(std::move(parts));
}

double seconds_since(std::clock_t before) {  // of this process: others may hold the cores
  return static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
}

void refused(const std::string& json, std::string_view part) {
  const std::clock_t before = std::clock();
  const std::uint64_t memory = bytes_allocated();
  const auto made = open(json);
  const std::uint64_t taken = bytes_allocated() - memory;
  INFO(json.substr(0, 200));
  REQUIRE_FALSE(made);
  INFO(made.error().message);
  CHECK(made.error().message.find(part) != std::string::npos);
  CHECK(made.error().message.find('\n') == std::string::npos);
  CHECK(made.error().message.size() < 400);
  CHECK(seconds_since(before) < 1.0);
  CHECK(taken < 64 * json.size() + (std::uint64_t{4} << 20));
}

std::string split(std::string_view expression) {
  return fmt::format(R"({{"type":"Sequence","pretokenizers":[)"
                     R"({{"type":"Split","pattern":{{"Regex":"{}"}},"behavior":"Isolated"}},)"
                     R"({{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}}]}})",
                     expression);
}

std::string repeat(std::string_view part, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += part;
  return all;
}

}  // namespace

TEST_CASE("hostile vocabularies are refused in one line", "[tokenizer]") {
  file f;
  const auto with = [&f](std::string file::*part, std::string text) {
    f.*part = std::move(text);
    return f.json();
  };
  REQUIRE(open(f.json()));
  SECTION("no JSON") { refused("{", "is not JSON"); }
  SECTION("no object") { refused("[]", "is not a JSON object"); }
  SECTION("nothing") { refused("", "is not JSON"); }
  SECTION("no model") { refused("{}", "model: is missing"); }
  SECTION("deep") { refused(repeat("[", 100'000), "is not JSON"); }
  SECTION("another model") {
    refused(R"({"model":{"type":"Unigram","vocab":[]}})", "\"Unigram\" is not read; BPE is");
  }
  SECTION("no tokens") { refused(with(&file::vocab, "{}"), "model.vocab: holds no token"); }
  SECTION("a list") { refused(with(&file::vocab, "[]"), "model.vocab: is not an object"); }
  SECTION("a text") { refused(with(&file::vocab, R"({"a":"x"})"), "vocab.a: is not an integer"); }
  SECTION("same id") {
    refused(with(&file::vocab, R"({"a":0,"b":0})"), "vocab.b: has id 0, as another token has");
  }
  SECTION("twice") {
    refused(with(&file::vocab, R"({"a":0,"a":1})"), "vocab.a: stands there twice");
  }
  SECTION("below zero") { refused(with(&file::vocab, R"({"a":-1})"), "id -1; 0 to 16383 fit"); }
  SECTION("far beyond") {
    refused(with(&file::vocab, R"({"a":9000000000})"), "has id 9000000000; 0 to 16383 fit");
  }
  SECTION("huge token") {
    refused(with(&file::vocab, R"({")" + repeat("a", 1'000'000) + R"(":0})"),
            "has 1000000 bytes; at most 65536 fit");
  }
  SECTION("half") { refused(with(&file::merges, R"(["ab"])"), "merges[0]: is not two words"); }
  SECTION("three") { refused(with(&file::merges, R"(["a b c"])"), "merges[0]: is not two words"); }
  SECTION("triple") { refused(with(&file::merges, R"([["a","b","c"]])"), "is not two words"); }
  SECTION("absent part") { refused(with(&file::merges, R"(["a b","x a"])"), "merges[1]: names"); }
  SECTION("absent whole") { refused(with(&file::merges, R"(["b a"])"), "merges[0]: names a word"); }
  SECTION("numbers") { refused(with(&file::merges, "[1]"), "merges[0]: is not an array"); }
  SECTION("suffix") {
    refused(with(&file::more, R"(,"end_of_word_suffix":"</w>")"), "suffix: is not read");
  }
  SECTION("added id") {
    refused(with(&file::added, R"([{"id":1,"content":"<x>"}])"), "has id 1, as another token has");
  }
  SECTION("added elsewhere") {
    refused(with(&file::added, R"([{"id":9,"content":"a"}])"), "has id 9 and in the vocabulary 0");
  }
  SECTION("added twice") {
    refused(with(&file::added, R"([{"id":9,"content":"x"},{"id":10,"content":"x"}])"), "twice");
  }
  SECTION("added far beyond") {
    refused(with(&file::added, R"([{"id":16777215,"content":"x"}])"), "has id 16777215");
  }
  SECTION("no id") { refused(with(&file::added, R"([{"content":"x"}])"), "id: is missing"); }
}

TEST_CASE("hostile steps are refused in one line", "[tokenizer]") {
  file f;
  const auto with = [&f](std::string file::*part, std::string text) {
    f.*part = std::move(text);
    return f.json();
  };
  SECTION("deep pre-tokenizers") {
    refused(with(&file::pre, repeat(R"({"type":"Sequence","pretokenizers":[)", 5000)),
            "is not JSON");
  }
  SECTION("many steps") {
    refused(with(&file::pre, R"({"type":"Sequence","pretokenizers":[)" +
                                 repeat(R"({"type":"Digits"},)", 99) + R"({"type":"Digits"}]})"),
            "more than 32");
  }
  SECTION("normalizer") {
    refused(with(&file::normalizer, R"({"type":"Precompiled"})"), "normalizer: \"Precompiled\"");
  }
  SECTION("pre-tokenizer") {
    refused(with(&file::pre, R"({"type":"UnicodeScripts"})"), "pre_tokenizer: \"UnicodeScripts\"");
  }
  SECTION("post-processor") {
    refused(with(&file::post, R"({"type":"BertProcessing"})"), "processor: \"BertProcessing\"");
  }
  SECTION("decoder") { refused(with(&file::decoder, R"({"type":"CTC"})"), "decoder: \"CTC\""); }
  SECTION("no decoder") { refused(with(&file::decoder, "null"), "decoder: is missing"); }
  SECTION("unknown bos") {
    const std::string post =
        R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}},)"
        R"({"Sequence":{"id":"A"}}],"special_tokens":{"x":{"ids":[99]}}})";
    refused(with(&file::post, post), "is 99; 0 to 4 fit");
  }
  SECTION("texts that grow") {
    const std::string more = R"({"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"})";
    refused(with(&file::normalizer,
                 R"({"type":"Sequence","normalizers":[)" + more + "," + more + "," + more + "]}"),
            "normalizers[2]: makes texts too long");
  }
  SECTION("tokens that grow") {
    const std::string more =
        R"({"type":"Replace","pattern":{"String":"a"},"content":")" + repeat("b", 99) + "\"}";
    refused(with(&file::decoder, more), "decoder: makes tokens too long");
  }
}

TEST_CASE("expressions that do not compile or mean something else are refused", "[tokenizer]") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"(", "does not compile"},
      {"a{99999}", "does not compile"},
      {"((a{1,999}){1,999}){1,999}", "does not compile"},
      {"(?<=a*)b", "does not compile"},
      {"\\\\C", "does not compile"},
      {repeat("(", 2000) + repeat(")", 2000), "does not compile"},
      {repeat("a", 5000), "5000 bytes; at most 4096 fit"},
      {"\\\\h", "\\h in a regular expression"},
      {"[a-z&&[^aeiou]]", "an intersection"},
      {"[a[b]]", "a class within a class"},
      {"(*NO_JIT)a", "(* in a regular expression"},
      {"a{1,2}+", "a repeated interval"}};
  file f;
  for (const auto& [expression, part] : cases) {
    f.pre = split(expression);
    refused(f.json(), part);
  }
}

TEST_CASE("expressions that search for ages are stopped", "[tokenizer]") {
  const std::string expression =
      GENERATE("(a+)+$", "(a|a)*c", "(a|aa)+c", "a*a*a*a*a*a*c", "\\\\S*+x", "(.*)(.*)(.*)(.*)[bx]",
               "(?=(a+))*\\\\1+c", "(?:a?){200}a{200}", "(?<a>a|\\\\g<a>a)+c", "(?i:A*)*c",
               "(?=(a))|x?");  // the last matches nothing everywhere
  file f;
  f.pre = split(expression);
  const auto words = open(f.json());
  INFO((words ? "" : words.error().message));
  REQUIRE(words);
  const std::string text = repeat("a", 200'000);
  const std::clock_t before = std::clock();
  const auto tokens = (*words)->encode(text, false, false);
  INFO(expression << ": " << seconds_since(before) << " s");
  CHECK(tokens.size() == text.size());
  CHECK(seconds_since(before) < 3.0);
}

TEST_CASE("no text becomes a control token by merging", "[tokenizer]") {
  file f;
  f.added = R"([{"id":4,"content":"abc","special":true,"normalized":false}])";
  const auto words = open(f.json());
  REQUIRE(words);
  CHECK((*words)->encode("abc", false, false) == std::vector<token_id>{3, 2});
  CHECK((*words)->encode("abc", true, false) == std::vector<token_id>{4});
  f.more = R"(,"ignore_merges":true)";
  CHECK((*open(f.json()))->encode("abc", false, false) == std::vector<token_id>{3, 2});
}

TEST_CASE("control tokens in user text stay text when texts are normalised", "[tokenizer]") {
  file f;
  f.normalizer = R"({"type":"NFC"})";
  f.added = R"([{"id":5,"content":"<x>","special":true,"normalized":true},)"
            R"({"id":6,"content":"<y>","special":false,"normalized":true}])";
  const auto words = open(f.json());
  REQUIRE(words);
  using spans = std::vector<prompt_span>;
  using ids = std::vector<token_id>;
  CHECK((*words)->encode(spans{{"<x>", true}, {"a<x>", false}, {"<x>", true}}, false) ==
        ids{5, 0, 5});
  CHECK((*words)->encode(spans{{"<x>e\xCC\x81", true}, {"<x><y>", false}}, false) == ids{6});
  CHECK((*words)->encode(spans{{"<x>e\xCC\x81", true}}, false) == ids{5});
}

TEST_CASE("a megabyte of marks is put in order in time", "[tokenizer]") {
  file f;
  f.normalizer = R"({"type":"NFC"})";
  const auto words = open(f.json());
  REQUIRE(words);
  const std::clock_t before = std::clock();
  (void)(*words)->encode("a" + repeat("\xCC\x81\xCC\xA3", 250'000), false, false);
  CHECK(seconds_since(before) < 2.0);
}

TEST_CASE("damaged tokenizer files end in an error or a tokenizer", "[tokenizer]") {
  const std::string name = GENERATE("llama2", "llama3", "neox", "expressions", "metaspace");
  std::ifstream stream(repository_file("tests/golden/tokenizers/" + name + ".json"));
  const std::string whole((std::istreambuf_iterator<char>(stream)), {});
  REQUIRE(whole.size() > 1000);
  // What is not the vocabulary is damaged as often as the vocabulary, which is far longer.
  const std::size_t model = whole.find("\"model\"");
  split_mix rng(9);
  INFO("seed 9");
  int opened = 0;
  for (int i = 0; i < 300; ++i) {
    std::string json = whole;
    for (std::size_t n = 1 + rng.below(3); n > 0; --n) {
      const std::size_t at = rng.below(rng.below(2) == 0 ? model : json.size());
      switch (rng.below(4)) {
        case 0:
          json.erase(at, 1 + rng.below(8));
          break;
        case 1:
          json[at] = static_cast<char>(rng.below(256));
          break;
        case 2:
          json.insert(at, 1, "{}[]\",:0919\\ntf-"[rng.below(16)]);
          break;
        default:
          json.insert(at, json.substr(rng.below(json.size()), rng.below(40)));
      }
    }
    const auto words = open(json);
    if (!words) {
      CHECK_FALSE(words.error().message.empty());
      continue;
    }
    ++opened;
    const auto tokens = (*words)->encode("A don't <s> 12 \xC3\xA9", true, true);
    for (const token_id t : tokens) CHECK(t < (*words)->size());
    (void)(*words)->decode(tokens, false);
  }
  CHECK(opened > 3);
}
