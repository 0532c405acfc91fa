// SPDX-License-Identifier: Apache-2.0
// Regular expressions of tokenizer files are written for Oniguruma; pattern.cpp runs them with
// PCRE2. Here is what is spelt differently. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"

#include <string>
#include <string_view>

namespace dinfer::runtime {

// The expression as PCRE2 spells it. Errors: unsupported, naming the construct that means something
// else there.
result<std::string> from_oniguruma(std::string_view expression);

}  // namespace dinfer::runtime
