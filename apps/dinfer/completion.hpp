// SPDX-License-Identifier: Apache-2.0
// Completion scripts for shells, from a command line's description. Pure; any thread.
#pragma once

#include "apps/dinfer/command_tree.hpp"

#include <string>

namespace dinfer::apps {

// To be sourced, or put where the shell looks for a file of the program's name.
std::string bash_completion(const command_text& program);
std::string zsh_completion(const command_text& program);
std::string fish_completion(const command_text& program);

}  // namespace dinfer::apps
