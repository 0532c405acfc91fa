// SPDX-License-Identifier: Apache-2.0
// BPE tokenizer over a model file's vocabulary: added tokens are cut out, the text between them is
// normalised and split into words, each word is merged. Invalid UTF-8 becomes U+FFFD first, part
// by part, so every input has one tokenisation. Immutable; any thread.
#include "runtime/tokenizer/tokenizer.hpp"

#include "runtime/tokenizer/bpe.hpp"
#include "runtime/tokenizer/tokenizer_parts.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <algorithm>

namespace dinfer::runtime {

namespace {

// Where literal text lies in a text: even entries are where it begins, odd ones where it ends.
using borders = std::vector<std::size_t>;

std::vector<added_token> in_text(const std::vector<added_token>& all) {
  std::vector<added_token> out;
  for (const added_token& t : all)
    if (!t.normalized) out.push_back(t);
  return out;
}

std::vector<added_token> in_normal_text(const std::vector<added_token>& all,
                                        const normalizer& normal) {
  std::vector<added_token> out;
  for (const added_token& t : all) {
    if (!t.normalized) continue;
    out.push_back(t);
    out.back().text = normal.apply(t.text);
  }
  return out;
}

class bpe_tokenizer final : public tokenizer {
 public:
  explicit bpe_tokenizer(tokenizer_parts parts)
      : parts_(std::move(parts)),
        words_(*parts_.words),
        added_(in_text(parts_.added)),
        normal_added_(in_normal_text(parts_.added, parts_.rules.normal)),
        by_text_(parts_.added),
        merges_(words_, parts_.rules.whole_words) {}

  std::vector<token_id> encode(std::string_view text, bool special, bool add_bos) const override {
    const prompt_span span{std::string(text), special};
    return encode(std::span(&span, 1), add_bos);
  }

  std::vector<token_id> encode(std::span<const prompt_span> spans, bool add_bos) const override {
    std::vector<token_id> out;
    if (add_bos) out = parts_.before;
    std::string text;
    borders literal;
    join(spans, text, literal);
    cut(added_, text, literal, out,
        [&](std::string_view part, std::size_t at) { encode_part(part, at, literal, out); });
    if (add_bos) out.insert(out.end(), parts_.after.begin(), parts_.after.end());
    return out;
  }

  std::string_view bytes(token_id token) const noexcept override {
    return known(token) ? words_.shown(token) : std::string_view{};
  }
  bool special(token_id token) const noexcept override {
    return known(token) && words_.kinds[static_cast<std::size_t>(token)] == token_kind::control;
  }
  std::string decode(std::span<const token_id> tokens, bool skip_special) const override {
    std::string all, text;
    bool first = true;
    for (const token_id token : tokens) {
      if (skip_special && special(token)) continue;
      if (first && !parts_.first_mark.empty()) append_unmarked(all, token);
      else all += bytes(token);
      first = false;
    }
    append_valid_utf8(text, all, true);
    std::size_t cut_off = 0;
    while (cut_off < parts_.leading_spaces && cut_off < text.size() && text[cut_off] == ' ')
      ++cut_off;
    return text.substr(cut_off);
  }

  std::int32_t size() const noexcept override { return words_.size(); }
  std::optional<token_id> bos() const noexcept override { return words_.bos; }
  std::optional<token_id> eos() const noexcept override { return words_.eos; }
  std::optional<token_id> find(std::string_view token_text) const noexcept override {
    if (const auto token = by_text_.find(token_text)) return token;
    const auto found = words_.by_bytes.find(token_text);
    if (found == words_.by_bytes.end()) return std::nullopt;
    return found->second;
  }

 private:
  bool known(token_id token) const noexcept { return token >= 0 && token < words_.size(); }

  static void join(std::span<const prompt_span> spans, std::string& text, borders& literal) {
    for (std::size_t i = 0; i < spans.size();) {
      const bool is_literal = spans[i].literal;
      const std::size_t begin = text.size();
      std::string run;  // spans of one kind, in which a character may cross from one to the next
      for (; i < spans.size() && spans[i].literal == is_literal; ++i) run += spans[i].text;
      append_valid_utf8(text, run, true);
      if (!is_literal) continue;
      literal.push_back(begin);
      literal.push_back(text.size());
    }
  }

  // Control tokens lie wholly inside one literal run; text between added tokens is one text.
  template <class Between>
  static void cut(const added_tokens& added, std::string_view text, const borders& literal,
                  std::vector<token_id>& out, Between&& between) {
    std::size_t at = 0;
    for (std::size_t run = 0; at < text.size();) {
      const auto found = next_added(added, text, at, literal, run);
      const std::size_t end = found ? found->at : text.size();
      if (end > at) between(text.substr(at, end - at), at);
      if (!found) return;
      out.push_back(found->token);
      at = found->at + found->size;
    }
  }

  // Walks the runs of the text from `begin` on: in each, matches must begin in it. `run` counts the
  // borders that lie at or before `begin`.
  static std::optional<added_tokens::match> next_added(const added_tokens& added,
                                                       std::string_view text, std::size_t begin,
                                                       const borders& literal, std::size_t& run) {
    if (added.empty()) return std::nullopt;
    for (std::size_t from = begin; from < text.size();) {
      while (run < literal.size() && literal[run] <= from) ++run;
      const std::size_t end = run < literal.size() ? literal[run] : text.size();
      const auto found = added.find(text, from, end, run % 2 == 1 ? end : 0, begin);
      if (found) return found;
      from = end;
    }
    return std::nullopt;
  }

  // `part` begins at `at` of the whole text.
  void encode_part(std::string_view part, std::size_t at, const borders& literal,
                   std::vector<token_id>& out) const {
    const std::string changed =
        parts_.rules.normal.empty() ? std::string() : parts_.rules.normal.apply(part);
    const std::string_view text = parts_.rules.normal.empty() ? part : changed;
    if (normal_added_.empty()) return encode_plain(text, at == 0, out);
    cut(normal_added_, text, borders_in(part, at, text, literal), out,
        [&](std::string_view piece, std::size_t offset) {
          encode_plain(piece, at == 0 && offset == 0, out);
        });
  }

  // The literal runs of a part that became `text` when it was normalised. Where that changed it,
  // only a part that is literal as a whole has any.
  static borders borders_in(std::string_view part, std::size_t at, std::string_view text,
                            const borders& literal) {
    borders out;
    for (std::size_t i = 0; i + 1 < literal.size(); i += 2) {
      const std::size_t begin = std::max(literal[i], at);
      const std::size_t end = std::min(literal[i + 1], at + part.size());
      if (begin >= end) continue;
      if (text == part) out.insert(out.end(), {begin - at, end - at});
      else if (end - begin == part.size()) out.insert(out.end(), {std::size_t{0}, text.size()});
    }
    return out;
  }

  void encode_plain(std::string_view text, bool at_start, std::vector<token_id>& out) const {
    split_words split;
    parts_.rules.words.split(text, at_start, split);
    for (const std::string_view word : split.words) merges_.encode(word, out);
  }

  // What the first token of an answer shows: its marks stand for no spaces there.
  void append_unmarked(std::string& out, token_id token) const {
    const std::string_view mark = parts_.first_mark;
    std::string_view text = known(token) ? words_.bytes(token) : std::string_view{};
    if (text.find(mark) == std::string_view::npos) {
      out += bytes(token);
      return;
    }
    while (!text.empty()) {
      if (text.starts_with(mark)) {
        text.remove_prefix(mark.size());
      } else {
        out.push_back(text.front());
        text.remove_prefix(1);
      }
    }
  }

  tokenizer_parts parts_;
  const vocabulary& words_;
  added_tokens added_, normal_added_, by_text_;
  bpe merges_;
};

}  // namespace

std::unique_ptr<tokenizer> make_tokenizer(tokenizer_parts parts) {
  return std::make_unique<bpe_tokenizer>(std::move(parts));
}

result<std::unique_ptr<tokenizer>> make_tokenizer(const weight_source& source) {
  tokenizer_parts parts;
  DINFER_TRY(parts.words, read_vocabulary(source));
  const vocabulary& words = *parts.words;
  DINFER_TRY(parts.rules, named_rules(words.splitter));
  if (words.add_bos.value_or(parts.rules.add_bos) && words.bos) parts.before = {*words.bos};
  for (token_id i = 0; i < words.size(); ++i) {
    const token_kind kind = words.kinds[static_cast<std::size_t>(i)];
    if (kind != token_kind::control && kind != token_kind::user_defined) continue;
    added_token added;
    added.text = std::string(words.bytes(i));
    added.token = i;
    added.control = kind == token_kind::control;
    parts.added.push_back(std::move(added));
  }
  return make_tokenizer(std::move(parts));
}

}  // namespace dinfer::runtime
