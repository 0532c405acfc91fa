// SPDX-License-Identifier: Apache-2.0
// The alphabet in which byte-level vocabularies spell bytes as printable characters (Radford et
// al. 2019, GPT-2). Any thread; for reading vocabularies only, text is never spelt.
#pragma once

#include <string>
#include <string_view>

namespace dinfer::runtime {

// Appends the bytes that `spelling` stands for. False, and `out` as it was, if a character of it is
// not in the alphabet.
bool append_byte_spelling(std::string& out, std::string_view spelling);

}  // namespace dinfer::runtime
