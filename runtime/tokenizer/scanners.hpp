// SPDX-License-Identifier: Apache-2.0
// Hand-written scanners for the two families of splitting patterns that most models use; linear in
// the text. Each gives the end of the word that begins at `at`. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <string_view>

namespace dinfer::runtime {

// GPT-2:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// `text` is valid UTF-8, at < text.size().
std::size_t scan_gpt2(std::string_view text, std::size_t at) noexcept;

// Llama 3, with max_digits = 3, and Qwen 2, with 1:
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_digits}
//   | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t scan_llama3(std::string_view text, std::size_t at, int max_digits) noexcept;

// The end of the run that begins at `at` without a number in it, or of the single number there.
std::size_t scan_digits(std::string_view text, std::size_t at) noexcept;

}  // namespace dinfer::runtime
