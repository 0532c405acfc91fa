// SPDX-License-Identifier: Apache-2.0
// Ids are slots of a table that grows no further than the file's size allows. One thread.
#include "runtime/tokenizer/vocabulary_builder.hpp"

#include "runtime/tokenizer/byte_alphabet.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dinfer::runtime {

namespace {

constexpr std::size_t max_id = std::size_t{1} << 24;
constexpr std::size_t least_id_bound = std::size_t{1} << 14;
constexpr std::size_t max_token_bytes = std::size_t{1} << 16;
constexpr std::size_t max_added_bytes = 256;
constexpr std::size_t shown_base = std::size_t{1} << 20;
constexpr std::size_t shown_per_byte = 4;

auto bad(std::string message) { return fail(errc::bad_file, std::move(message)); }

}  // namespace

vocabulary_builder::vocabulary_builder(bool byte_level, std::size_t file_bytes)
    : byte_level_(byte_level), file_bytes_(file_bytes) {
  byte_tokens_.fill(-1);
}

auto vocabulary_builder::slot_of(std::int64_t id) -> result<slot*> {
  const std::size_t bound = std::min(max_id, std::max(least_id_bound, file_bytes_ / 4));
  if (id < 0 || static_cast<std::uint64_t>(id) >= bound)
    return bad(fmt::format("has id {}; 0 to {} fit in a file of this size", id, bound - 1));
  const auto at = static_cast<std::size_t>(id);
  if (at >= tokens_.size()) tokens_.resize(at + 1);
  return &tokens_[at];
}

result<void> vocabulary_builder::add_token(std::string_view text, std::int64_t id) {
  if (text.size() > max_token_bytes)
    return bad(fmt::format("has {} bytes; at most {} fit", text.size(), max_token_bytes));
  DINFER_TRY(slot* const s, slot_of(id));
  if (s->used) return bad(fmt::format("has id {}, as another token has", id));
  if (!in_model_.emplace(text, static_cast<token_id>(id)).second) return bad("stands there twice");
  *s = {text, true, true, token_kind::normal};
  return {};
}

result<void> vocabulary_builder::add_added(added_token token) {
  if (token.text.empty()) return {};  // as in the reference
  if (token.text.size() > max_added_bytes)
    return bad(fmt::format("has {} bytes; an added token has at most {}", token.text.size(),
                           max_added_bytes));
  DINFER_TRY(slot* const s, slot_of(token.token));
  if (s->used && s->text != token.text)
    return bad(fmt::format("has id {}, as another token has", token.token));
  const auto model = in_model_.find(token.text);
  if (model != in_model_.end() && model->second != token.token)
    return bad(fmt::format("has id {} and in the vocabulary {}", token.token, model->second));
  const auto [known, fresh] = added_ids_.emplace(token.text, token.token);
  if (!fresh) return bad("stands there twice");
  s->used = true;
  s->kind = token.control ? token_kind::control : token_kind::user_defined;
  s->text = known->first;  // stays where it is
  added_.push_back(std::move(token));
  return {};
}

void vocabulary_builder::make_control(std::string_view text) {
  const auto id = find(text);
  if (!id || text.empty() || text.size() > max_added_bytes) return;
  tokens_[static_cast<std::size_t>(*id)].kind = token_kind::control;
  for (added_token& t : added_)
    if (t.token == *id) {
      t.control = true;
      return;
    }
  added_token made;
  made.text = std::string(text);
  made.token = *id;
  made.control = true;
  added_.push_back(std::move(made));
}

// A rule that names a control token never applies: no text may become one.
result<void> vocabulary_builder::add_merge(std::string_view left, std::string_view right) {
  if (left.size() + right.size() > max_token_bytes) return bad("names a word that is no token");
  const auto l = find_in_model(left), r = find_in_model(right);
  const auto whole = find_in_model(std::string(left) + std::string(right));
  if (!l || !r || !whole) return bad("names a word that is no token");
  for (const token_id id : {*l, *r, *whole})
    if (tokens_[static_cast<std::size_t>(id)].kind == token_kind::control) return {};
  merges_.push_back({*l, *r, *whole});
  return {};
}

void vocabulary_builder::spell_unknown_by_bytes() {
  for (int byte = 0; byte < 256; ++byte)
    byte_tokens_[static_cast<std::size_t>(byte)] =
        find_in_model(fmt::format("<0x{:02X}>", byte)).value_or(-1);
}

std::optional<token_id> vocabulary_builder::find(std::string_view text) const {
  if (const auto id = find_in_model(text)) return id;
  const auto found = added_ids_.find(std::string(text));
  return found == added_ids_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<token_id> vocabulary_builder::find_in_model(std::string_view text) const {
  const auto found = in_model_.find(text);
  return found == in_model_.end() ? std::nullopt : std::optional(found->second);
}

result<void> vocabulary_builder::append(vocabulary& words, token_id id,
                                        const token_display& display) const {
  const slot& s = tokens_[static_cast<std::size_t>(id)];
  const bool spelt = byte_level_ && append_byte_spelling(words.arena, s.text);
  if (!spelt) words.arena.append(s.text);
  words.offsets.push_back(static_cast<std::uint32_t>(words.arena.size()));
  words.kinds.push_back(s.used ? s.kind : token_kind::unused);
  if (display.as_spelt()) return {};
  display.append(words.shown_arena, s.text);
  words.shown_offsets.push_back(static_cast<std::uint32_t>(words.shown_arena.size()));
  if (words.shown_arena.size() > shown_base + shown_per_byte * file_bytes_)
    return bad("tokens show far more than they are");
  return {};
}

result<std::unique_ptr<vocabulary>> vocabulary_builder::finish(const token_display& display,
                                                               std::optional<token_id> unknown,
                                                               bool fuse_unknown) {
  auto words = std::make_unique<vocabulary>();
  words->offsets.push_back(0);
  if (!display.as_spelt()) words->shown_offsets.push_back(0);
  for (token_id id = 0; id < size(); ++id) DINFER_CHECK(append(*words, id, display));
  words->by_bytes.reserve(in_model_.size());
  for (const auto& [text, id] : in_model_) {
    std::string scratch;
    const bool reachable = !byte_level_ || append_byte_spelling(scratch, text);
    if (reachable && !text.empty() &&
        tokens_[static_cast<std::size_t>(id)].kind != token_kind::control)
      words->by_bytes.emplace(words->bytes(id), id);
  }
  words->merges = std::move(merges_);
  words->characters = !byte_level_;
  words->byte_tokens = byte_tokens_;
  words->unknown = unknown;
  words->fuse_unknown = fuse_unknown;
  return words;
}

}  // namespace dinfer::runtime
