// SPDX-License-Identifier: Apache-2.0
// Splits text into the words inside which byte pairs merge, by the rule that the model was trained
// with (`tokenizer.ggml.pre`). Immutable after construction; split() from any thread.
#pragma once

#include "dinfer/error.hpp"

#include <memory>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class pattern_splitter;

// What a rule's name says beyond splitting.
struct splitter_traits {
  bool compose = false;      // text is normalised to form C first
  bool whole_words = false;  // a word that is a token becomes it, whatever the merges say
  bool add_bos = false;      // where the file does not say
};

class pretokenizer {
 public:
  // Errors: unsupported, naming the rule and the known ones.
  static result<pretokenizer> make(std::string_view name);
  pretokenizer(pretokenizer&&) noexcept;
  pretokenizer& operator=(pretokenizer&&) noexcept;
  ~pretokenizer();

  // Appends the words of `text`, which is valid UTF-8; they are views into it and cover it.
  void split(std::string_view text, std::vector<std::string_view>& words) const;
  const splitter_traits& traits() const noexcept { return traits_; }

 private:
  enum class rule { gpt2, digits_gpt2, llama3, qwen2, pattern };
  struct entry;
  static const std::vector<entry>& known();

  pretokenizer(rule how, splitter_traits traits, std::unique_ptr<pattern_splitter> patterns);

  rule rule_;
  splitter_traits traits_;
  std::unique_ptr<pattern_splitter> patterns_;  // only for rule::pattern
};

}  // namespace dinfer::runtime
