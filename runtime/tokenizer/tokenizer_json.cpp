// SPDX-License-Identifier: Apache-2.0
// The parts of the file in the order in which they need each other: rules, tokens, added tokens,
// merges, what goes around a text. Any thread.
#include "runtime/tokenizer/tokenizer_json.hpp"

#include "runtime/tokenizer/token_display.hpp"
#include "runtime/tokenizer/tokenizer_json_rules.hpp"
#include "runtime/tokenizer/vocabulary_builder.hpp"

#include <fmt/format.h>

namespace dinfer::runtime {

namespace {

constexpr std::size_t max_around = 16;  // tokens before or after a text

// What the builder found wrong, with the place.
result<void> placed(const json_node& node, const result<void>& done) {
  if (done) return {};
  return node.wrong(done.error().message, done.error().code);
}

result<void> read_vocab(const json_node& vocab, vocabulary_builder& words) {
  DINFER_CHECK(vocab.each_member([&](std::string_view text, const json_node& each) -> result<void> {
    DINFER_TRY(const std::int64_t id, each.integer());
    return placed(each, words.add_token(text, id));
  }));
  if (words.size() == 0) return vocab.wrong("holds no token");
  return {};
}

result<void> read_added(const json_node& root, vocabulary_builder& words) {
  const auto all = root.find("added_tokens");
  if (!all) return {};
  return all->each([&](const json_node& each) -> result<void> {
    added_token token;
    DINFER_TRY(const std::string_view text, each.text("content", ""));
    token.text = std::string(text);
    DINFER_TRY(const auto id_node, each.need("id"));
    DINFER_TRY(const std::int64_t id, id_node.integer());
    if (id < 0 || id > std::numeric_limits<token_id>::max())
      return id_node.wrong(fmt::format("is {}", id));
    token.token = static_cast<token_id>(id);
    DINFER_TRY(token.control, each.boolean("special", false));
    DINFER_TRY(token.single_word, each.boolean("single_word", false));
    DINFER_TRY(token.strip_left, each.boolean("lstrip", false));
    DINFER_TRY(token.strip_right, each.boolean("rstrip", false));
    DINFER_TRY(token.normalized, each.boolean("normalized", !token.control));
    return placed(each, words.add_added(std::move(token)));
  });
}

// One rule: "a b" or ["a", "b"].
result<void> read_merge(const json_node& node, vocabulary_builder& words) {
  std::string_view left, right;
  if (node.is_text()) {
    DINFER_TRY(const std::string_view text, node.text());
    const std::size_t gap = text.find(' ');
    if (gap == std::string_view::npos || text.find(' ', gap + 1) != std::string_view::npos)
      return node.wrong("is not two words");
    left = text.substr(0, gap);
    right = text.substr(gap + 1);
  } else {
    std::size_t count = 0;
    DINFER_CHECK(node.each([&](const json_node& part) -> result<void> {
      DINFER_TRY(const std::string_view text, part.text());
      if (count == 0) left = text;
      else right = text;
      ++count;
      return {};
    }));
    if (count != 2) return node.wrong("is not two words");
  }
  return placed(node, words.add_merge(left, right));
}

result<void> check_model(const json_node& model) {
  DINFER_TRY(const std::string_view type, model.text("type", "BPE"));
  if (type != "BPE" || !model.find("merges"))
    return model.wrong(fmt::format("type \"{}\" is not read; BPE is", type.substr(0, 64)),
                       errc::unsupported);
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    DINFER_TRY(const std::string_view text, model.text(key, ""));
    if (!text.empty())
      return model.find(key)->wrong("is not read; an empty one is", errc::unsupported);
  }
  return {};
}

result<void> append_special(const json_node& processor, std::string_view name,
                            const vocabulary_builder& words, std::vector<token_id>& out) {
  DINFER_TRY(const auto all, processor.need("special_tokens"));
  DINFER_TRY(const auto special, all.need(name));
  DINFER_TRY(const auto ids, special.need("ids"));
  return ids.each([&](const json_node& each) -> result<void> {
    DINFER_TRY(const std::int64_t id, each.integer());
    if (id < 0 || id >= words.size())
      return each.wrong(fmt::format("is {}; 0 to {} fit", id, words.size() - 1));
    if (out.size() == max_around)
      return each.wrong(fmt::format("is one of more than {}", max_around));
    out.push_back(static_cast<token_id>(id));
    return {};
  });
}

result<void> read_post_processor(const json_node& node, const vocabulary_builder& words,
                                 tokenizer_parts& parts) {
  DINFER_TRY(const std::string_view type, node.text("type", ""));
  if (type == "ByteLevel") return {};  // of offsets alone
  if (type == "Sequence") {
    DINFER_TRY(const auto all, node.need("processors"));
    return all.each([&](const json_node& each) { return read_post_processor(each, words, parts); });
  }
  if (type != "TemplateProcessing")
    return node.wrong(
        fmt::format("\"{}\" is not read; ByteLevel, TemplateProcessing and Sequence are",
                    type.substr(0, 64)),
        errc::unsupported);
  bool text_seen = false;
  DINFER_TRY(const auto single, node.need("single"));
  DINFER_CHECK(single.each([&](const json_node& piece) -> result<void> {
    if (const auto special = piece.find("SpecialToken")) {
      DINFER_TRY(const std::string_view name, special->text("id", ""));
      return append_special(node, name, words, text_seen ? parts.after : parts.before);
    }
    if (text_seen || !piece.find("Sequence")) return piece.wrong("is not one text and tokens");
    text_seen = true;
    return {};
  }));
  if (!text_seen) return single.wrong("has no place for the text");
  return {};
}

// What tokenizer_config.json has to say, and the finished vocabulary.
result<void> finish(vocabulary_builder& builder, const token_display& display,
                    const checkpoint_tokens& tokens, std::optional<token_id> unknown,
                    bool fuse_unknown, const json_node& root, tokenizer_parts& parts) {
  auto made = builder.finish(display, unknown, fuse_unknown);
  if (!made) return root.wrong(made.error().message);
  vocabulary& words = **made;
  words.bos = builder.find(tokens.bos);
  words.eos = builder.find(tokens.eos);
  if (tokens.add_bos) parts.before.clear();
  if (tokens.add_bos.value_or(false) && words.bos) parts.before.push_back(*words.bos);
  if (tokens.add_eos) parts.after.clear();
  if (tokens.add_eos.value_or(false) && words.eos) parts.after.push_back(*words.eos);
  if (!words.bos && !parts.before.empty()) words.bos = parts.before.front();
  parts.words = std::move(*made);
  parts.added = builder.take_added();
  parts.leading_spaces = display.leading_spaces();
  parts.first_mark = display.first_mark();
  return {};
}

void name_control(const checkpoint_tokens& tokens, vocabulary_builder& words) {
  words.make_control(tokens.bos);
  words.make_control(tokens.eos);
  for (const std::string& text : tokens.control) words.make_control(text);
}

}  // namespace

result<tokenizer_parts> read_tokenizer_json(const json_file& file,
                                            const checkpoint_tokens& tokens) {
  const json_node root = file.root();
  tokenizer_parts parts;
  DINFER_TRY(const auto model, root.need("model"));
  DINFER_CHECK(check_model(model));
  DINFER_TRY(auto rules, read_text_rules(root));
  parts.rules = std::move(rules.text);
  DINFER_TRY(parts.rules.whole_words, model.boolean("ignore_merges", false));
  DINFER_TRY(const token_display display, token_display::read(root));

  vocabulary_builder words(rules.byte_level, file.bytes());
  DINFER_TRY(const auto vocab, model.need("vocab"));
  DINFER_CHECK(read_vocab(vocab, words));
  DINFER_CHECK(read_added(root, words));
  name_control(tokens, words);
  DINFER_TRY(const auto merges, model.need("merges"));
  DINFER_CHECK(merges.each([&](const json_node& each) { return read_merge(each, words); }));
  DINFER_TRY(const bool fallback, model.boolean("byte_fallback", false));
  if (fallback && !rules.byte_level) words.spell_unknown_by_bytes();
  DINFER_TRY(const std::string_view unknown, model.text("unk_token", ""));
  DINFER_TRY(const bool fuse, model.boolean("fuse_unk", false));
  if (const auto node = root.find("post_processor"))
    DINFER_CHECK(read_post_processor(*node, words, parts));
  DINFER_CHECK(finish(words, display, tokens, words.find_in_model(unknown), fuse, root, parts));
  return parts;
}

result<tokenizer_parts> read_vocab_and_merges(const json_file& vocab, std::string_view merges,
                                              const std::string& merges_name,
                                              const checkpoint_tokens& tokens) {
  tokenizer_parts parts;
  split_step space;
  space.what = split_step::kind::space_before;
  if (tokens.space_before) parts.rules.words.add(std::move(space));
  parts.rules.words.add(gpt2_split());
  vocabulary_builder words(true, vocab.bytes());
  DINFER_CHECK(read_vocab(vocab.root(), words));
  name_control(tokens, words);
  std::size_t line = 0;
  while (!merges.empty()) {
    std::string_view text = merges.substr(0, merges.find('\n'));
    merges.remove_prefix(std::min(text.size() + 1, merges.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (++line == 1 && text.starts_with("#version")) continue;
    if (text.empty()) continue;
    const std::size_t gap = text.find(' ');
    const auto wrong = [&](std::string_view why) {
      return fail(errc::bad_file, fmt::format("{}: line {}: {}", merges_name, line, why),
                  merges_name);
    };
    if (gap == std::string_view::npos) return wrong("is not two words");
    if (const auto done = words.add_merge(text.substr(0, gap), text.substr(gap + 1)); !done)
      return wrong(done.error().message);
  }
  DINFER_CHECK(
      finish(words, token_display::byte_level(), tokens, std::nullopt, false, vocab.root(), parts));
  return parts;
}

}  // namespace dinfer::runtime
