// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE tokenizer over a model file's vocabulary: added tokens are cut out, the text
// between them is split into words, each word is merged. Invalid UTF-8 becomes U+FFFD first, part
// by part, so every input has one tokenisation. Immutable; any thread.
#include "runtime/tokenizer/tokenizer.hpp"

#include "runtime/tokenizer/added_tokens.hpp"
#include "runtime/tokenizer/bpe.hpp"
#include "runtime/tokenizer/pretokenize.hpp"
#include "runtime/tokenizer/unicode.hpp"
#include "runtime/tokenizer/utf8.hpp"
#include "runtime/tokenizer/vocabulary.hpp"

#include <algorithm>

namespace dinfer::runtime {

namespace {

class bpe_tokenizer final : public tokenizer {
 public:
  bpe_tokenizer(std::unique_ptr<const vocabulary> words, pretokenizer splitter)
      : words_(std::move(words)),
        splitter_(std::move(splitter)),
        added_(*words_),
        merges_(*words_, splitter_.traits().whole_words) {}

  std::vector<token_id> encode(std::string_view text, bool special, bool add_bos) const override {
    const prompt_span span{std::string(text), special};
    return encode(std::span(&span, 1), add_bos);
  }

  std::vector<token_id> encode(std::span<const prompt_span> spans, bool add_bos) const override {
    std::vector<token_id> out;
    const bool wants_bos = words_->add_bos.value_or(splitter_.traits().add_bos);
    if (add_bos && wants_bos && words_->bos) out.push_back(*words_->bos);
    std::string text;
    std::vector<std::size_t> borders;  // even: where literal text begins; odd: where it ends
    join(spans, text, borders);
    encode_joined(text, borders, out);
    return out;
  }

  std::string_view bytes(token_id token) const noexcept override {
    return known(token) ? words_->bytes(token) : std::string_view{};
  }
  bool special(token_id token) const noexcept override {
    return known(token) && words_->kinds[static_cast<std::size_t>(token)] == token_kind::control;
  }
  std::string decode(std::span<const token_id> tokens, bool skip_special) const override {
    std::string all, text;
    for (const token_id token : tokens)
      if (!(skip_special && special(token))) all += bytes(token);
    append_valid_utf8(text, all, true);
    return text;
  }

  std::int32_t size() const noexcept override { return words_->size(); }
  std::optional<token_id> bos() const noexcept override { return words_->bos; }
  std::optional<token_id> eos() const noexcept override { return words_->eos; }
  std::optional<token_id> find(std::string_view token_text) const noexcept override {
    if (const auto token = added_.find(token_text)) return token;
    const auto found = words_->by_bytes.find(token_text);
    if (found == words_->by_bytes.end()) return std::nullopt;
    return found->second;
  }

 private:
  bool known(token_id token) const noexcept { return token >= 0 && token < words_->size(); }

  static void join(std::span<const prompt_span> spans, std::string& text,
                   std::vector<std::size_t>& borders) {
    for (std::size_t i = 0; i < spans.size();) {
      const bool literal = spans[i].literal;
      const std::size_t begin = text.size();
      std::string run;  // spans of one kind, in which a character may cross from one to the next
      for (; i < spans.size() && spans[i].literal == literal; ++i) run += spans[i].text;
      append_valid_utf8(text, run, true);
      if (!literal) continue;
      borders.push_back(begin);
      borders.push_back(text.size());
    }
  }

  // Control tokens lie wholly inside one literal run; text between added tokens is one text.
  void encode_joined(std::string_view text, const std::vector<std::size_t>& borders,
                     std::vector<token_id>& out) const {
    std::size_t at = 0;
    for (std::size_t piece = 0; at < text.size();) {
      const auto found = next_added(text, at, borders, piece);
      const std::size_t end = found ? found->at : text.size();
      encode_plain(text.substr(at, end - at), out);
      if (!found) return;
      out.push_back(found->token);
      at = found->at + found->size;
    }
  }

  // Walks the runs of the text from `from` on: in each, matches must begin in it. `run` counts the
  // borders that lie at or before `from`.
  std::optional<added_tokens::match> next_added(std::string_view text, std::size_t from,
                                                const std::vector<std::size_t>& borders,
                                                std::size_t& run) const {
    while (from < text.size()) {
      while (run < borders.size() && borders[run] <= from) ++run;
      const std::size_t end = run < borders.size() ? borders[run] : text.size();
      const bool literal = run % 2 == 1;
      const auto found = added_.find(text, from, end, literal ? end : 0);
      if (found) return found;
      from = end;
    }
    return std::nullopt;
  }

  void encode_plain(std::string_view text, std::vector<token_id>& out) const {
    if (text.empty()) return;
    std::string composed;
    if (splitter_.traits().compose) text = composed = compose(text);
    std::vector<std::string_view> words;
    splitter_.split(text, words);
    for (const std::string_view word : words) merges_.encode(word, out);
  }

  std::unique_ptr<const vocabulary> words_;
  pretokenizer splitter_;
  added_tokens added_;
  bpe merges_;
};

}  // namespace

result<std::unique_ptr<tokenizer>> make_tokenizer(const weight_source& source) {
  DINFER_TRY(auto words, read_vocabulary(source));
  DINFER_TRY(auto splitter, pretokenizer::make(words->splitter));
  return std::make_unique<bpe_tokenizer>(std::move(words), std::move(splitter));
}

}  // namespace dinfer::runtime
