// SPDX-License-Identifier: Apache-2.0
// From a command line to a checked configuration: file, then environment, then flags. Used by
// dinfer-node; called once, from main, before any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::apps {

enum class node_action { run, plan, check };

struct node_command {
  cluster_config config;
  std::size_t node_index = 0;
  node_action action = node_action::run;
  // Values that came from flags or the environment, for the log: {"tensor-parallel-size", "2
  // (flag)"}.
  std::vector<std::pair<std::string, std::string>> overrides;
};

// Either a command, or an exit code with what was printed already (--help, --version, usage
// errors).
struct parsed_command {
  bool run = false;
  int exit_code = 0;
  node_command command;
};

parsed_command parse_node_command(int argc, char** argv);

// The node of `config` that this process is: the one named `name`; else the only one; else the one
// whose address is an address of this host. Errors: not_found, invalid_argument when several fit,
// listing the names.
result<std::size_t> find_node(const cluster_config& config, const std::string& name);

}  // namespace dinfer::apps
