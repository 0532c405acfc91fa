// SPDX-License-Identifier: Apache-2.0
// A vocabulary from the tokens, added tokens and merges of a checkpoint's files, in the order in
// which they are told; checks what they say of each other. Texts are views that must outlive this.
// One thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/added_tokens.hpp"
#include "runtime/tokenizer/token_display.hpp"
#include "runtime/tokenizer/vocabulary.hpp"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dinfer::runtime {

class vocabulary_builder {
 public:
  // `byte_level`: tokens are spelt in the byte alphabet. `file_bytes` bounds what ids may be and
  // what tokens may show.
  vocabulary_builder(bool byte_level, std::size_t file_bytes);

  // Errors of all: bad_file, in words that the caller puts a place before.
  result<void> add_token(std::string_view text, std::int64_t id);  // of the model
  result<void> add_added(added_token token);  // its id, too, is not checked yet
  result<void> add_merge(std::string_view left, std::string_view right);  // after all tokens
  void make_control(std::string_view text);  // a token that is; others are left alone
  void spell_unknown_by_bytes();             // with the tokens <0x00> to <0xFF>

  std::optional<token_id> find(std::string_view text) const;  // of the model or added
  std::optional<token_id> find_in_model(std::string_view text) const;
  std::int32_t size() const noexcept { return static_cast<std::int32_t>(tokens_.size()); }

  // What it was told, once. `unknown`: of characters that nothing spells.
  result<std::unique_ptr<vocabulary>> finish(const token_display& display,
                                             std::optional<token_id> unknown, bool fuse_unknown);
  std::vector<added_token> take_added() { return std::move(added_); }

 private:
  struct slot {
    std::string_view text;
    bool used = false, in_model = false;
    token_kind kind = token_kind::normal;
  };

  result<slot*> slot_of(std::int64_t id);
  result<void> append(vocabulary& words, token_id id, const token_display& display) const;

  bool byte_level_;
  std::size_t file_bytes_;
  std::vector<slot> tokens_;
  std::unordered_map<std::string_view, token_id> in_model_;
  std::vector<added_token> added_;
  std::unordered_map<std::string, token_id> added_ids_;
  std::vector<merge_rule> merges_;
  std::array<token_id, 256> byte_tokens_;
};

}  // namespace dinfer::runtime
