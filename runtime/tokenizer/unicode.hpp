// SPDX-License-Identifier: Apache-2.0
// The classes of characters that splitting patterns ask for, after Unicode 16, and composition.
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dinfer::runtime {

enum class char_class : std::uint8_t { other, space, letter, number };

// space: White_Space; letter: general category L*; number: N*.
char_class class_of(char32_t code_point) noexcept;

// General category N*, those that Unicode 17 added too: the rule that sets digits apart is newer in
// the reference than the patterns are.
bool numeric(char32_t code_point) noexcept;

// One character for one: letters whose other case has more characters stay as they are.
char32_t to_upper(char32_t code_point) noexcept;
char32_t to_lower(char32_t code_point) noexcept;

// Of categories M*, and what \w stands for: letters, marks, digits and connectors.
bool mark(char32_t code_point) noexcept;
bool word_character(char32_t code_point) noexcept;

enum class normal_form : std::uint8_t { c, d, kc, kd };

// Valid UTF-8 in that form; in time n log n, whatever marks the text piles up.
std::string normalised(std::string_view text, normal_form form);

}  // namespace dinfer::runtime
