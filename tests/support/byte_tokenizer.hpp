// SPDX-License-Identifier: Apache-2.0
// A tokenizer whose ids are bytes, with two control tokens: what a test sends is what it can
// compute by hand.
#pragma once

#include "runtime/tokenizer/tokenizer.hpp"

#include <array>
#include <string>

namespace dinfer::tests {

class byte_tokenizer final : public runtime::tokenizer {
 public:
  static constexpr token_id bos_id = 256, eos_id = 257;

  byte_tokenizer() {
    for (std::size_t i = 0; i < 256; ++i) bytes_[i] = std::string(1, static_cast<char>(i));
    bytes_[256] = "<s>";
    bytes_[257] = "</s>";
  }

  std::vector<token_id> encode(std::string_view text, bool special, bool add_bos) const override {
    std::vector<token_id> out;
    if (add_bos) out.push_back(bos_id);
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (special && text.substr(i, 4) == "</s>") {
        out.push_back(eos_id);
        i += 3;
      } else out.push_back(static_cast<unsigned char>(text[i]));
    }
    return out;
  }
  std::vector<token_id> encode(std::span<const runtime::prompt_span> spans,
                               bool add_bos) const override {
    std::vector<token_id> out;
    if (add_bos) out.push_back(bos_id);
    for (const auto& s : spans)
      for (const auto id : encode(s.text, s.literal, false)) out.push_back(id);
    return out;
  }
  std::string_view bytes(token_id token) const noexcept override {
    return token >= 0 && token < size() ? bytes_[static_cast<std::size_t>(token)]
                                        : std::string_view();
  }
  bool special(token_id token) const noexcept override { return token >= 256; }
  std::string decode(std::span<const token_id> tokens, bool skip_special) const override {
    std::string out;
    for (const auto t : tokens)
      if (!skip_special || !special(t)) out += bytes(t);
    return out;
  }
  std::int32_t size() const noexcept override { return 258; }
  std::optional<token_id> bos() const noexcept override { return bos_id; }
  std::optional<token_id> eos() const noexcept override { return eos_id; }
  std::optional<token_id> find(std::string_view text) const noexcept override {
    for (std::size_t i = 0; i < bytes_.size(); ++i)
      if (bytes_[i] == text) return static_cast<token_id>(i);
    return std::nullopt;
  }

 private:
  std::array<std::string, 258> bytes_;
};

}  // namespace dinfer::tests
