// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back. User text never becomes a control token: `encode` splits special
// tokens only in spans that the template wrote itself. Immutable after construction; const calls
// from any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class weight_source;

// A piece of a prompt: `literal` text may contain special tokens (the template wrote it), user text
// may not.
struct prompt_span {
  std::string text;
  bool literal = false;
};

class tokenizer {
 public:
  virtual ~tokenizer() = default;

  // `special`: special tokens in `text` are recognised. Adds bos only where the model asks for it
  // and `add_bos`.
  virtual std::vector<token_id> encode(std::string_view text, bool special, bool add_bos) const = 0;
  // Spans are tokenised as one text: a merge may cross a border between spans of user text and
  // literal text, as long as no special token lies there.
  virtual std::vector<token_id> encode(std::span<const prompt_span> spans, bool add_bos) const = 0;

  // The bytes of a token, which need not be whole UTF-8. Special tokens: their text.
  virtual std::string_view bytes(token_id token) const noexcept = 0;
  virtual bool special(token_id token) const noexcept = 0;
  virtual std::string decode(std::span<const token_id> tokens, bool skip_special) const = 0;

  // Whether texts can be encoded at all: made-up models may know token ids alone (model_words.hpp).
  virtual bool has_words() const noexcept { return true; }
  virtual std::int32_t size() const noexcept = 0;
  virtual std::optional<token_id> bos() const noexcept = 0;
  virtual std::optional<token_id> eos() const noexcept = 0;
  virtual std::optional<token_id> find(std::string_view token_text) const noexcept = 0;
};

// Reads the vocabulary of an open model file. Errors: bad_file, unsupported (names the
// pre-tokeniser or model type).
result<std::unique_ptr<tokenizer>> make_tokenizer(const weight_source& source);

// Turns the tokens of one stream into whole UTF-8, piece by piece; a character is held back until
// it is complete. Invalid bytes become U+FFFD, as in Unicode's recommended practice.
class detokenizer {
 public:
  explicit detokenizer(const tokenizer& words, bool skip_special = true)
      : words_(&words), skip_special_(skip_special) {}
  std::string push(token_id token);  // text that became certain
  std::string finish();              // what was held back

 private:
  const tokenizer* words_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace dinfer::runtime
