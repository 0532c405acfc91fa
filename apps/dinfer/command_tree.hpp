// SPDX-License-Identifier: Apache-2.0
// A command line's description as plain values: what completion and manual pages are made from, so
// that they say what --help says. Any thread.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace dinfer::apps {

struct option_text {
  std::vector<std::string> names;  // "-c", "--config"; of what has no dashes: its name
  bool positional = false, required = false, repeats = false;
  std::string value;  // what stands for its value, "FILE"; empty: a flag
  std::vector<std::string> choices;
  std::string help, group;
};

struct command_text {
  std::string name, help, group;
  std::vector<option_text> options;
  std::vector<command_text> commands;
};

// What --help shows of it: hidden options and commands are left out.
command_text tree_of(const CLI::App& app);

}  // namespace dinfer::apps
