// SPDX-License-Identifier: Apache-2.0
// Manual pages (roff, man macros) from a command line's description. Pure; any thread.
#pragma once

#include "apps/dinfer/command_tree.hpp"

#include <functional>
#include <string>

namespace dinfer::apps {

// Section 1. `elsewhere`: groups of options that are another page's; a command that has some refers
// to that.
std::string manual_page(const command_text& program, const std::string& version,
                        const std::function<bool(const std::string& group)>& elsewhere);

}  // namespace dinfer::apps
