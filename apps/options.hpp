// SPDX-License-Identifier: Apache-2.0
// From a command line to a checked configuration: file, then environment, then flags. Used by
// dinfer-node; called once, from main, before any thread.
#pragma once

#include "apps/setting_flags.hpp"
#include "dinfer/config.hpp"

#include <cstddef>
#include <functional>

namespace CLI {
class App;
}

namespace dinfer::apps {

enum class node_action { run, plan, check };

struct node_command {
  cluster_config config;
  std::size_t node_index = 0;
  node_action action = node_action::run;
  bool json = false;  // what a check found
  setting_overrides overrides;
};

// Either a command, or an exit code with what was printed already (--help, --version, usage
// errors).
struct parsed_command {
  bool run = false;
  int exit_code = 0;
  node_command command;
};

parsed_command parse_node_command(int argc, char** argv);

// Shows the description of the command line, for its manual and completion.
void describe_node_command(const std::function<void(const CLI::App&)>& look);

}  // namespace dinfer::apps
