// SPDX-License-Identifier: Apache-2.0
// Inputs of some hundred kilobytes, larger than those that libFuzzer makes: they show how memory
// grows with an input.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dinfer::fuzz {

std::vector<std::string> large_inputs(std::string_view target);

}  // namespace dinfer::fuzz
