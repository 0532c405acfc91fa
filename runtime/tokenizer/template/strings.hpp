// SPDX-License-Identifier: Apache-2.0
// What Python's str can do, as far as templates need it, on texts that keep their origin.
// Characters are code points. Pure functions, any thread.
#pragma once

#include "runtime/tokenizer/template/text.hpp"

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace dinfer::runtime::jinja {

enum class side { both, left, right };

text strip(const text& s, side which, std::optional<std::string_view> characters);
std::size_t length(const text& s) noexcept;  // in characters
std::vector<text> characters(const text& s);
text characters(const text& s, std::size_t first, std::size_t end);  // those in [first, end)
std::vector<text> split_blanks(const text& s, std::int64_t limit);   // limit < 0: none
std::vector<text> split(const text& s, std::string_view by, std::int64_t limit);  // by: not empty
std::vector<text> split_lines(const text& s, bool keep_ends);
text upper(const text& s);
text lower(const text& s);
text capitalize(const text& s);          // the first character in upper case, the rest in lower
text title(const text& s, bool filter);  // as the filter or as the method sees words
std::size_t count(std::string_view s, std::string_view part) noexcept;  // part: not empty
// Every occurrence of `from`; at most `limit`, when it is not negative.
text replace(const text& s, std::string_view from, const text& to, std::int64_t limit);

}  // namespace dinfer::runtime::jinja
