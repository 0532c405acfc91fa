// SPDX-License-Identifier: Apache-2.0
// Regular expressions over text: our own, and those that tokenizer files bring, which are hostile.
// The one door to PCRE2. Immutable after construction; find_all() from any thread.
#pragma once

#include "dinfer/error.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// What matching one text may cost, and what it works with. Made for one text, by one thread.
class pattern_work {
 public:
  explicit pattern_work(std::size_t text_bytes);
  pattern_work(const pattern_work&) = delete;
  pattern_work& operator=(const pattern_work&) = delete;
  ~pattern_work();

 private:
  friend class pattern;
  struct scratch;
  std::uint64_t left_;                // characters that patterns of files may still look at
  std::unique_ptr<scratch> scratch_;  // made by the first pattern
};

class pattern {
 public:
  struct match {
    std::size_t begin = 0, end = 0;
  };

  // Our own: one that does not compile is a bug.
  static pattern trusted(std::string_view expression);
  // A file's, in the dialect of Oniguruma. Errors: unsupported, with what it does not compile by
  // and where; a construct that means something else here is refused too.
  static result<pattern> from_file(std::string_view expression);

  pattern(pattern&&) noexcept;
  pattern& operator=(pattern&&) noexcept;
  ~pattern();

  // Appends the matches in `text`, which is valid UTF-8, in order; none overlap, some may be empty.
  // Where the matcher gives up (text or patterns made to slow it down) there are no more.
  void find_all(std::string_view text, pattern_work& work, std::vector<match>& out) const;

 private:
  struct compiled;
  explicit pattern(std::unique_ptr<const compiled> code);
  std::unique_ptr<const compiled> code_;
};

}  // namespace dinfer::runtime
