// SPDX-License-Identifier: Apache-2.0
// Reads the vocabulary that a GGUF file carries as metadata. Everything in it is hostile: counts
// must agree, ids must exist, merges must name tokens. Called once, when a model is opened.
#include "runtime/tokenizer/byte_alphabet.hpp"
#include "runtime/tokenizer/vocabulary.hpp"
#include "runtime/weights/source.hpp"

#include <fmt/format.h>

#include <limits>
#include <memory>
#include <span>

namespace dinfer::runtime {

namespace {

constexpr std::string_view model_key = "tokenizer.ggml.model";
constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
constexpr std::string_view kinds_key = "tokenizer.ggml.token_type";
constexpr std::string_view merges_key = "tokenizer.ggml.merges";
constexpr std::size_t max_tokens = std::size_t{1} << 24;
constexpr std::size_t max_merges = std::size_t{1} << 25;
constexpr std::size_t max_arena = std::size_t{1} << 30;
constexpr std::size_t max_added_bytes = 4096;  // of a control or user-defined token

auto bad(std::string_view key, std::string message) {
  return fail(errc::bad_file, fmt::format("{}: {}", key, message), std::string(key));
}

result<token_kind> kind_of(std::int64_t stored, std::size_t index) {
  switch (stored) {
    case 1:
    case 6:  // a byte token; in byte-level vocabularies an ordinary one
      return token_kind::normal;
    case 2:  // the unknown token
    case 3:
      return token_kind::control;
    case 4:
      return token_kind::user_defined;
    case 0:
    case 5:
      return token_kind::unused;
    default:
      return bad(kinds_key, fmt::format("token {} has kind {}; 0 to 6 would fit", index, stored));
  }
}

// Fills arena, offsets, kinds and by_bytes.
result<void> read_tokens(const weight_source& source, vocabulary& words) {
  const auto tokens = source.texts(tokens_key);
  if (!tokens || tokens->empty()) return bad(tokens_key, "missing, not texts, or empty");
  if (tokens->size() > max_tokens)
    return bad(tokens_key,
               fmt::format("{} tokens; at most {} would fit", tokens->size(), max_tokens));
  const auto kinds = source.integers(kinds_key);
  if (kinds && kinds->size() != tokens->size())
    return bad(kinds_key, fmt::format("{} kinds for {} tokens", kinds->size(), tokens->size()));
  words.offsets.reserve(tokens->size() + 1);
  words.kinds.reserve(tokens->size());
  words.offsets.push_back(0);
  for (std::size_t i = 0; i < tokens->size(); ++i) {
    const std::string_view text = (*tokens)[i];
    DINFER_TRY(const token_kind kind, kind_of(kinds ? (*kinds)[i] : 1, i));
    if (words.arena.size() + text.size() > max_arena)
      return bad(tokens_key, fmt::format("more than {} bytes of text at token {}", max_arena, i));
    if (kind != token_kind::normal && text.size() > max_added_bytes)
      return bad(tokens_key, fmt::format("token {} has {} bytes; an added token has at most {}", i,
                                         text.size(), max_added_bytes));
    // A normal token is spelt in the byte alphabet; one that is not stands for itself.
    if (kind != token_kind::normal || !append_byte_spelling(words.arena, text))
      words.arena.append(text);
    words.offsets.push_back(static_cast<std::uint32_t>(words.arena.size()));
    words.kinds.push_back(kind);
  }
  words.by_bytes.reserve(tokens->size());
  for (token_id i = 0; i < words.size(); ++i)
    if (words.kinds[static_cast<std::size_t>(i)] == token_kind::normal && !words.bytes(i).empty())
      words.by_bytes[words.bytes(i)] = i;
  return {};
}

// The token that a part of a merge spells, by its bytes; -1: none.
token_id spelt(const vocabulary& words, std::string& scratch, std::string_view left,
               std::string_view right) {
  scratch.clear();
  if (!append_byte_spelling(scratch, left) || !append_byte_spelling(scratch, right)) return -1;
  const auto found = words.by_bytes.find(scratch);
  return found == words.by_bytes.end() ? -1 : found->second;
}

result<void> read_merges(const weight_source& source, vocabulary& words) {
  const auto merges = source.texts(merges_key);
  if (!merges) return bad(merges_key, "missing or not texts");
  if (merges->size() > max_merges)
    return bad(merges_key,
               fmt::format("{} merges; at most {} would fit", merges->size(), max_merges));
  words.merges.reserve(merges->size());
  std::string scratch;
  for (std::size_t i = 0; i < merges->size(); ++i) {
    const std::string_view text = (*merges)[i];
    const std::size_t gap = text.find(' ', 1);
    if (gap == std::string_view::npos || gap + 1 == text.size())
      return bad(merges_key, fmt::format("merge {} is not two words", i));
    const std::string_view left = text.substr(0, gap), right = text.substr(gap + 1);
    const merge_rule rule{spelt(words, scratch, left, {}), spelt(words, scratch, right, {}),
                          spelt(words, scratch, left, right)};
    if (rule.left < 0 || rule.right < 0 || rule.result < 0)
      return bad(merges_key, fmt::format("merge {} names a word that is not a token", i));
    words.merges.push_back(rule);
  }
  return {};
}

result<std::optional<token_id>> read_id(const weight_source& source, std::string_view key,
                                        const vocabulary& words) {
  const auto id = source.integer(key);
  if (!id) return std::optional<token_id>{};
  if (*id < 0 || *id >= words.size())
    return bad(key, fmt::format("{} is not a token; 0 to {} would fit", *id, words.size() - 1));
  return std::optional<token_id>{static_cast<token_id>(*id)};
}

}  // namespace

result<std::unique_ptr<const vocabulary>> read_vocabulary(const weight_source& source) {
  const auto model = source.text(model_key);
  if (!model) return bad(model_key, "missing: the file carries no tokenizer");
  if (*model == "llama")
    return fail(errc::unsupported,
                "tokenizer.ggml.model = llama (SentencePiece) is not read yet; a byte-level BPE "
                "vocabulary (gpt2) would fit",
                std::string(model_key));
  if (*model != "gpt2")
    return fail(errc::unsupported,
                fmt::format("tokenizer.ggml.model = {} is not known; gpt2 would fit", *model),
                std::string(model_key));
  auto words = std::make_unique<vocabulary>();
  DINFER_CHECK(read_tokens(source, *words));
  DINFER_CHECK(read_merges(source, *words));
  DINFER_TRY(words->bos, read_id(source, "tokenizer.ggml.bos_token_id", *words));
  DINFER_TRY(words->eos, read_id(source, "tokenizer.ggml.eos_token_id", *words));
  words->add_bos = source.boolean("tokenizer.ggml.add_bos_token");
  words->splitter = std::string(source.text("tokenizer.ggml.pre").value_or(""));
  return std::unique_ptr<const vocabulary>(std::move(words));
}

}  // namespace dinfer::runtime
