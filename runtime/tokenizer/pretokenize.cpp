// SPDX-License-Identifier: Apache-2.0
// Which steps each name of `tokenizer.ggml.pre` stands for. Patterns are facts about the models
// that were trained with them. Any thread.
#include "runtime/tokenizer/pretokenize.hpp"

#include <fmt/format.h>

#include <string>

namespace dinfer::runtime {

namespace {

using kind = split_step::kind;
using patterns = std::vector<std::string_view>;

// Letters of any case, then the end of a word in lower case, or a word in capitals; the basis of
// the o200k and Tekken patterns.
#define DINFER_LEAD R"([^\r\n\p{L}\p{N}]?)"
#define DINFER_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define DINFER_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define DINFER_CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
#define DINFER_SPACES R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"

const patterns gpt_4o{DINFER_LEAD DINFER_UPPER
                      "*" DINFER_LOWER "+" DINFER_CONTRACTION "|" DINFER_LEAD DINFER_UPPER
                      "+" DINFER_LOWER "*" DINFER_CONTRACTION
                      R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" DINFER_SPACES};
const patterns tekken{DINFER_LEAD DINFER_UPPER
                      "*" DINFER_LOWER
                      "+"
                      "|" DINFER_LEAD DINFER_UPPER "+" DINFER_LOWER
                      "*"
                      R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" DINFER_SPACES};
const patterns deepseek_coder{R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                              R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)",
                              R"(\p{N})"};
// As its file spells it, with line breaks as they are.
const patterns deepseek_v3{R"(\p{N}{1,3})", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
                           R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
                           "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
                           "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};

// Scanned by hand (scanners.hpp).
constexpr std::string_view gpt2_expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)" DINFER_SPACES;
constexpr std::string_view qwen2_expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)" DINFER_SPACES;

#undef DINFER_LEAD
#undef DINFER_UPPER
#undef DINFER_LOWER
#undef DINFER_CONTRACTION
#undef DINFER_SPACES

struct traits {
  bool compose = false;      // text is normalised to form C first
  bool whole_words = false;  // as in text_rules
  bool add_bos = false;      // likewise
};

struct entry {
  std::string_view name;
  const std::vector<kind>* scans;
  traits how;
  const patterns* expressions = nullptr;
};

const std::vector<kind> with_none, with_gpt2{kind::gpt2}, with_digits{kind::digits, kind::gpt2},
    with_llama3{kind::llama3}, with_qwen2{kind::qwen2};

const std::vector<entry>& known() {
  constexpr traits plain{};
  constexpr traits composed{true, false, false};
  constexpr traits llama{false, true, true};
  constexpr traits whole{false, true, false};
  static const std::vector<entry> table{
      {"gpt2", &with_gpt2, plain},
      {"gpt-2", &with_gpt2, plain},
      {"olmo", &with_gpt2, plain},
      {"phi-2", &with_gpt2, plain},
      {"jais", &with_gpt2, plain},
      {"smollm", &with_digits, plain},
      {"starcoder", &with_digits, plain},
      {"refact", &with_digits, plain},
      {"codeshell", &with_digits, plain},
      {"command-r", &with_digits, composed},
      {"llama3", &with_llama3, llama},
      {"llama-v3", &with_llama3, llama},
      {"llama-bpe", &with_llama3, llama},
      {"dbrx", &with_llama3, plain},
      {"smaug-bpe", &with_llama3, plain},
      {"qwen2", &with_qwen2, composed},
      {"deepseek-r1-qwen", &with_qwen2, plain},
      {"stablelm2", &with_qwen2, plain},
      {"deepseek-coder", &with_none, plain, &deepseek_coder},
      {"deepseek-v3", &with_none, plain, &deepseek_v3},
      {"gpt-4o", &with_none, whole, &gpt_4o},
      {"llama4", &with_none, whole, &gpt_4o},
      {"tekken", &with_none, whole, &tekken},
  };
  return table;
}

split_step expression_step(std::string_view expression) {
  split_step step;
  step.what = kind::expression;
  step.expression = std::make_shared<const pattern>(pattern::trusted(expression));
  return step;
}

}  // namespace

result<text_rules> named_rules(std::string_view name) {
  std::string names;
  for (const entry& e : known()) {
    names += (names.empty() ? "" : ", ") + std::string(e.name);
    if (e.name != name) continue;
    text_rules out;
    if (e.how.compose) out.normal.add({normal_step::kind::nfc, {}, {}, {}});
    out.whole_words = e.how.whole_words;
    out.add_bos = e.how.add_bos;
    for (const kind k : *e.scans) {
      split_step step;
      step.what = k;
      out.words.add(step);
    }
    if (e.expressions != nullptr)
      for (const std::string_view x : *e.expressions) out.words.add(expression_step(x));
    return out;
  }
  return fail(errc::unsupported,
              fmt::format("tokenizer.ggml.pre = '{}' is not known; known: {}", name, names),
              "tokenizer.ggml.pre");
}

split_step gpt2_split() {
  split_step step;
  step.what = kind::gpt2;
  return step;
}

std::optional<split_step> known_expression(std::string_view expression) {
  split_step step;
  if (expression == gpt2_expression) step.what = kind::gpt2;
  else if (expression == llama3_expression) step.what = kind::llama3;
  else if (expression == qwen2_expression) step.what = kind::qwen2;
  else {
    for (const patterns* all : {&gpt_4o, &tekken, &deepseek_coder, &deepseek_v3})
      for (const std::string_view x : *all)
        if (x == expression) return expression_step(x);
    return std::nullopt;
  }
  return step;
}

}  // namespace dinfer::runtime
