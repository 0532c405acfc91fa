// SPDX-License-Identifier: Apache-2.0
// One function a kind of step. The numbers of steps and what they make of a text are limited, as
// each text passes through all of them. Any thread.
#include "runtime/tokenizer/tokenizer_json_rules.hpp"

#include "runtime/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <array>

namespace dinfer::runtime {

namespace {

constexpr std::size_t max_steps = 32;
constexpr std::size_t max_literal = 1024;

tl::unexpected<error> unknown(const json_node& node, std::string_view type,
                              std::string_view known) {
  return node.wrong(fmt::format("\"{}\" is not read; {} are", type.substr(0, 64), known),
                    errc::unsupported);
}

// {"String": "..."} or {"Regex": "..."}, which is compiled.
struct json_pattern {
  std::string literal;
  std::string_view text;  // of the expression
  std::shared_ptr<const pattern> expression;
};

result<json_pattern> read_pattern(const json_node& holder) {
  DINFER_TRY(const auto node, holder.need("pattern"));
  json_pattern out;
  DINFER_TRY(out.text, node.text("Regex", ""));
  if (!out.text.empty()) {
    auto made = pattern::from_file(out.text);
    if (!made) return node.wrong(made.error().message, made.error().code);
    out.expression = std::make_shared<const pattern>(std::move(*made));
    return out;
  }
  DINFER_TRY(const std::string_view literal, node.text("String", ""));
  if (literal.empty()) return node.wrong("is neither a String nor a Regex with something in it");
  if (literal.size() > max_literal)
    return node.wrong(fmt::format("has {} bytes; at most {} fit", literal.size(), max_literal));
  out.literal = std::string(literal);
  return out;
}

class normal_reader {
 public:
  explicit normal_reader(normalizer& out) : out_(out) {}

  result<void> read(const json_node& node) {
    DINFER_TRY(const std::string_view type, node.text("type", ""));
    if (type == "Sequence") {
      DINFER_TRY(const auto all, node.need("normalizers"));
      return all.each([this](const json_node& each) { return read(each); });
    }
    normal_step step;
    static constexpr std::array<std::pair<std::string_view, normal_step::kind>, 6> plain{
        {{"NFC", normal_step::kind::nfc},
         {"NFD", normal_step::kind::nfd},
         {"NFKC", normal_step::kind::nfkc},
         {"NFKD", normal_step::kind::nfkd},
         {"Lowercase", normal_step::kind::lower_case},
         {"StripAccents", normal_step::kind::strip_accents}}};
    for (const auto& [name, kind] : plain)
      if (name == type) {
        step.what = kind;
        return add(node, std::move(step));
      }
    if (type == "Prepend") {
      DINFER_TRY(const std::string_view text, node.text("prepend", ""));
      step.what = normal_step::kind::put_before;
      step.to = std::string(text.substr(0, max_literal));
    } else if (type == "Replace") {
      DINFER_TRY(auto pattern, read_pattern(node));
      DINFER_TRY(const std::string_view to, node.text("content", ""));
      step.what =
          pattern.expression ? normal_step::kind::replace_expression : normal_step::kind::replace;
      step.from = std::move(pattern.literal);
      step.to = std::string(to.substr(0, max_literal));
      step.expression = std::move(pattern.expression);
    } else {
      return unknown(
          node, type,
          "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Prepend, Replace and Sequence");
    }
    return add(node, std::move(step));
  }

 private:
  result<void> add(const json_node& node, normal_step step) {
    if (++count_ > max_steps)
      return node.wrong(fmt::format("is one of more than {}", max_steps), errc::unsupported);
    if (!out_.add(std::move(step)))
      return node.wrong("makes texts too long, with the steps before it", errc::unsupported);
    return {};
  }

  normalizer& out_;
  std::size_t count_ = 0;
};

class split_reader {
 public:
  explicit split_reader(json_rules& out) : out_(out) {}

  result<void> read(const json_node& node) {
    DINFER_TRY(const std::string_view type, node.text("type", ""));
    if (type == "Sequence") {
      DINFER_TRY(const auto all, node.need("pretokenizers"));
      return all.each([this](const json_node& each) { return read(each); });
    }
    if (out_.byte_level)
      return node.wrong(fmt::format("\"{}\" after ByteLevel is not read", type.substr(0, 64)),
                        errc::unsupported);
    if (++count_ > max_steps)
      return node.wrong(fmt::format("is one of more than {}", max_steps), errc::unsupported);
    if (type == "ByteLevel") return byte_level(node);
    if (type == "Split") return split(node);
    if (type == "Digits") return digits(node);
    if (type == "Metaspace") return metaspace(node);
    if (type == "Whitespace") return words(R"(\w+|[^\w\s]+)", true);
    if (type == "WhitespaceSplit") return words(R"(\s)", false);
    return unknown(node, type,
                   "ByteLevel, Split, Digits, Metaspace, Whitespace, WhitespaceSplit and Sequence");
  }

 private:
  void add(split_step step) { out_.text.words.add(std::move(step)); }

  result<void> byte_level(const json_node& node) {
    DINFER_TRY(const bool space, node.boolean("add_prefix_space", true));
    DINFER_TRY(const bool split, node.boolean("use_regex", true));
    out_.byte_level = true;
    split_step step;
    step.what = split_step::kind::space_before;
    if (space) add(std::move(step));
    if (split) add(gpt2_split());
    return {};
  }

  result<void> split(const json_node& node) {
    DINFER_TRY(auto pattern, read_pattern(node));
    split_step step;
    step.what = pattern.expression ? split_step::kind::expression : split_step::kind::literal;
    step.text = std::move(pattern.literal);
    step.expression = std::move(pattern.expression);
    DINFER_TRY(step.invert, node.boolean("invert", false));
    DINFER_TRY(const std::string_view behaviour, node.text("behavior", ""));
    static constexpr std::array<std::pair<std::string_view, split_behaviour>, 5> all{
        {{"Isolated", split_behaviour::isolated},
         {"Removed", split_behaviour::removed},
         {"Contiguous", split_behaviour::contiguous},
         {"MergedWithPrevious", split_behaviour::merged_with_previous},
         {"MergedWithNext", split_behaviour::merged_with_next}}};
    for (const auto& [name, kind] : all) {
      if (name != behaviour) continue;
      step.behaviour = kind;
      // Isolated matches and what lies between them are alike, and a scanner gives both.
      auto known = known_expression(pattern.text);
      if (kind == split_behaviour::isolated && known) add(std::move(*known));
      else add(std::move(step));
      return {};
    }
    return unknown(node, behaviour,
                   "Isolated, Removed, Contiguous, MergedWithPrevious and MergedWithNext");
  }

  result<void> digits(const json_node& node) {
    DINFER_TRY(const bool each, node.boolean("individual_digits", false));
    split_step step;
    step.what = split_step::kind::digits;
    step.behaviour = each ? split_behaviour::isolated : split_behaviour::contiguous;
    add(std::move(step));
    return {};
  }

  result<void> metaspace(const json_node& node) {
    split_step step;
    step.what = split_step::kind::marked_spaces;
    DINFER_TRY(const std::string_view mark, node.text("replacement", "\u2581"));
    if (mark.empty() || utf8_next(mark).size != mark.size())
      return node.wrong("replacement is not one character");
    step.text = std::string(mark);
    DINFER_TRY(const bool legacy, node.boolean("add_prefix_space", true));
    DINFER_TRY(const std::string_view scheme,
               node.text("prepend_scheme", legacy ? "always" : "never"));
    if (scheme == "always") step.before = split_step::mark::always;
    else if (scheme == "first") step.before = split_step::mark::first;
    else if (scheme != "never") return unknown(node, scheme, "always, first and never");
    DINFER_TRY(step.split_marks, node.boolean("split", true));
    add(std::move(step));
    return {};
  }

  // Words are what the expression matches, or what it does not.
  result<void> words(std::string_view expression, bool matches) {
    DINFER_TRY(auto made, pattern::from_file(expression));
    split_step step;
    step.what = split_step::kind::expression;
    step.behaviour = split_behaviour::removed;
    step.invert = matches;
    step.expression = std::make_shared<const pattern>(std::move(made));
    add(std::move(step));
    return {};
  }

  json_rules& out_;
  std::size_t count_ = 0;
};

}  // namespace

result<json_rules> read_text_rules(const json_node& root) {
  json_rules out;
  if (const auto node = root.find("normalizer"))
    DINFER_CHECK(normal_reader(out.text.normal).read(*node));
  if (const auto node = root.find("pre_tokenizer")) DINFER_CHECK(split_reader(out).read(*node));
  return out;
}

}  // namespace dinfer::runtime
