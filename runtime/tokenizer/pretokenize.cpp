// SPDX-License-Identifier: Apache-2.0
// Which rule each name of `tokenizer.ggml.pre` stands for. Patterns are facts about the models that
// were trained with them. Any thread.
#include "runtime/tokenizer/pretokenize.hpp"

#include "runtime/tokenizer/pattern_splitter.hpp"
#include "runtime/tokenizer/scanners.hpp"

#include <fmt/format.h>

#include <string>

namespace dinfer::runtime {

namespace {

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
const patterns deepseek_v3{
    R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    R"(|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)" DINFER_SPACES};

#undef DINFER_LEAD
#undef DINFER_UPPER
#undef DINFER_LOWER
#undef DINFER_CONTRACTION
#undef DINFER_SPACES

}  // namespace

struct pretokenizer::entry {
  std::string_view name;
  rule how;
  splitter_traits traits;
  const patterns* expressions = nullptr;
};

const std::vector<pretokenizer::entry>& pretokenizer::known() {
  constexpr splitter_traits plain{};
  constexpr splitter_traits composed{true, false, false};
  constexpr splitter_traits llama{false, true, true};
  constexpr splitter_traits whole{false, true, false};
  static const std::vector<entry> table{
      {"gpt2", rule::gpt2, plain},
      {"gpt-2", rule::gpt2, plain},
      {"olmo", rule::gpt2, plain},
      {"phi-2", rule::gpt2, plain},
      {"jais", rule::gpt2, plain},
      {"smollm", rule::digits_gpt2, plain},
      {"starcoder", rule::digits_gpt2, plain},
      {"refact", rule::digits_gpt2, plain},
      {"codeshell", rule::digits_gpt2, plain},
      {"command-r", rule::digits_gpt2, composed},
      {"llama3", rule::llama3, llama},
      {"llama-v3", rule::llama3, llama},
      {"llama-bpe", rule::llama3, llama},
      {"dbrx", rule::llama3, plain},
      {"smaug-bpe", rule::llama3, plain},
      {"qwen2", rule::qwen2, composed},
      {"deepseek-r1-qwen", rule::qwen2, plain},
      {"stablelm2", rule::qwen2, plain},
      {"deepseek-coder", rule::pattern, plain, &deepseek_coder},
      {"deepseek-v3", rule::pattern, plain, &deepseek_v3},
      {"gpt-4o", rule::pattern, whole, &gpt_4o},
      {"llama4", rule::pattern, whole, &gpt_4o},
      {"tekken", rule::pattern, whole, &tekken},
  };
  return table;
}

pretokenizer::pretokenizer(rule how, splitter_traits traits,
                           std::unique_ptr<pattern_splitter> expressions)
    : rule_(how), traits_(traits), patterns_(std::move(expressions)) {}

pretokenizer::pretokenizer(pretokenizer&&) noexcept = default;
pretokenizer& pretokenizer::operator=(pretokenizer&&) noexcept = default;
pretokenizer::~pretokenizer() = default;

result<pretokenizer> pretokenizer::make(std::string_view name) {
  std::string names;
  for (const entry& e : known()) {
    if (e.name == name)
      return pretokenizer(
          e.how, e.traits,
          e.expressions ? std::make_unique<pattern_splitter>(*e.expressions) : nullptr);
    names += (names.empty() ? "" : ", ") + std::string(e.name);
  }
  return fail(errc::unsupported,
              fmt::format("tokenizer.ggml.pre = '{}' is not known; known: {}", name, names),
              "tokenizer.ggml.pre");
}

void pretokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  const auto all = [&words](std::string_view part, auto&& scan) {
    for (std::size_t at = 0; at < part.size();) {
      const std::size_t end = scan(part, at);
      words.push_back(part.substr(at, end - at));
      at = end;
    }
  };
  switch (rule_) {
    case rule::gpt2:
      return all(text, scan_gpt2);
    case rule::digits_gpt2:
      // Digits are set apart first, so white space before one is not left to it.
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = scan_digits(text, at);
        all(text.substr(at, end - at), scan_gpt2);
        at = end;
      }
      return;
    case rule::llama3:
      return all(text, [](auto t, auto at) { return scan_llama3(t, at, 3); });
    case rule::qwen2:
      return all(text, [](auto t, auto at) { return scan_llama3(t, at, 1); });
    case rule::pattern:
      return patterns_->split(text, words);
  }
}

}  // namespace dinfer::runtime
