// SPDX-License-Identifier: Apache-2.0
// The words of a tokenizer as a model file stores them: every token's bytes and kind, and the
// merges in order of rank. Plain data, checked by whoever reads it from a file; immutable then.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dinfer::runtime {

class weight_source;

enum class token_kind : std::uint8_t {
  normal,
  control,       // steers the model; recognised only in text that the template wrote
  user_defined,  // an added word; recognised in every text before it is split, shown like a word
  unused,        // never produced
};

struct merge_rule {
  token_id left = 0, right = 0, result = 0;
};

struct vocabulary {
  std::string arena;                   // the bytes of all tokens, one after the other
  std::vector<std::uint32_t> offsets;  // token i is arena[offsets[i], offsets[i + 1])
  // Likewise what tokens show in an answer, where that is not what they match in a text.
  std::string shown_arena;
  std::vector<std::uint32_t> shown_offsets;  // empty: they show what they match
  std::vector<token_kind> kinds;
  std::vector<merge_rule> merges;  // by rank
  // What merging may end in by its bytes, views into the arena. Of equal tokens the last counts.
  std::unordered_map<std::string_view, token_id> by_bytes;
  // Words are merged from characters, not from bytes. One that is no token is spelt by the tokens
  // of its bytes, if all are there; else it is unknown.
  bool characters = false;
  std::array<token_id, 256> byte_tokens = no_bytes();  // only for characters; -1: none
  std::optional<token_id> unknown;
  bool fuse_unknown = false;  // neighbours that are unknown become one token
  std::optional<token_id> bos, eos;
  std::optional<bool> add_bos;  // what the file says
  std::string splitter;         // name of the pre-tokeniser: "smollm"

  std::int32_t size() const noexcept { return static_cast<std::int32_t>(kinds.size()); }
  std::string_view bytes(token_id token) const noexcept { return part(arena, offsets, token); }
  std::string_view shown(token_id token) const noexcept {
    return shown_offsets.empty() ? bytes(token) : part(shown_arena, shown_offsets, token);
  }

 private:
  static std::string_view part(std::string_view all, const std::vector<std::uint32_t>& ends,
                               token_id token) noexcept {
    const auto i = static_cast<std::size_t>(token);
    return all.substr(ends[i], ends[i + 1] - ends[i]);
  }
  static constexpr std::array<token_id, 256> no_bytes() noexcept {
    std::array<token_id, 256> none{};
    none.fill(-1);
    return none;
  }
};

// Reads `tokenizer.ggml.*`. Not movable afterwards as a value: by_bytes looks into the arena, so it
// comes on the heap. Errors: bad_file (key and index), unsupported (the tokenizer model).
result<std::unique_ptr<const vocabulary>> read_vocabulary(const weight_source& source);

}  // namespace dinfer::runtime
