// SPDX-License-Identifier: Apache-2.0
// Splits text into the words inside which pairs merge: a list of steps, each of which splits what
// the one before left. Immutable once its steps are added; split() from any thread.
#pragma once

#include "runtime/tokenizer/pattern.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// What becomes of the places where a step splits.
enum class split_behaviour : std::uint8_t {
  isolated,
  removed,
  contiguous,  // neighbouring matches are one word
  merged_with_previous,
  merged_with_next
};

struct split_step {
  enum class kind : std::uint8_t {
    gpt2,          // scanners.hpp
    llama3,        // likewise
    qwen2,         // likewise
    digits,        // numbers, each or contiguous
    expression,    // a regular expression
    literal,       // `text`
    space_before,  // text that does not begin with a space gets one
    marked_spaces  // spaces become `text`, which may also go before the whole
  };
  enum class mark : std::uint8_t { never, first, always };

  kind what = kind::gpt2;
  split_behaviour behaviour = split_behaviour::isolated;
  bool invert = false;  // what lies between the matches is what matches
  std::string text;
  std::shared_ptr<const pattern> expression;
  mark before = mark::never;  // marked_spaces: where the mark is put before a text
  bool split_marks = false;   // marked_spaces: words begin at marks
};

// Views into the text that was split or, where a step changed it, into `made`.
struct split_words {
  std::vector<std::string_view> words;
  std::deque<std::string> made;
};

class splitter {
 public:
  void add(split_step step) { steps_.push_back(std::move(step)); }

  // Appends the words of `text`, valid UTF-8. `at_start`: nothing stands before it.
  void split(std::string_view text, bool at_start, split_words& out) const;

 private:
  std::vector<split_step> steps_;
};

}  // namespace dinfer::runtime
