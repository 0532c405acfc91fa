// SPDX-License-Identifier: Apache-2.0
// The words of a tokenizer as a model file stores them: every token's bytes and kind, and the
// merges in order of rank. Plain data, checked by whoever reads it from a file; immutable then.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

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
  std::vector<token_kind> kinds;
  std::vector<merge_rule> merges;  // by rank
  // Normal tokens by their bytes, views into the arena. Of equal tokens the last one counts.
  std::unordered_map<std::string_view, token_id> by_bytes;
  std::optional<token_id> bos, eos;
  std::optional<bool> add_bos;  // what the file says
  std::string splitter;         // name of the pre-tokeniser: "smollm"

  std::int32_t size() const noexcept { return static_cast<std::int32_t>(kinds.size()); }
  std::string_view bytes(token_id token) const noexcept {
    const auto i = static_cast<std::size_t>(token);
    return std::string_view(arena).substr(offsets[i], offsets[i + 1] - offsets[i]);
  }
};

// Reads `tokenizer.ggml.*`. Not movable afterwards as a value: by_bytes looks into the arena, so it
// comes on the heap. Errors: bad_file (key and index), unsupported (the tokenizer model).
result<std::unique_ptr<const vocabulary>> read_vocabulary(const weight_source& source);

}  // namespace dinfer::runtime
