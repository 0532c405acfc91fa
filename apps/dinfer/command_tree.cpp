// SPDX-License-Identifier: Apache-2.0
// See command_tree.hpp.
#include "apps/dinfer/command_tree.hpp"

#include <CLI/CLI.hpp>

#include <sstream>

namespace dinfer::apps {

namespace {

// "SHELL:{bash,zsh,fish}", "UINT:INT in [1 - 9]": a word, and behind it what fits.
void read_type(const std::string& text, option_text& out) {
  const auto colon = text.find(':');
  out.value = text.substr(0, colon);
  if (out.value.empty()) out.value = "VALUE";
  const auto open = text.find(":{"), close = text.rfind('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return;
  std::istringstream words(text.substr(open + 2, close - open - 2));
  for (std::string word; std::getline(words, word, ',');) out.choices.push_back(word);
}

option_text text_of(const CLI::Option& option) {
  option_text out;
  out.positional = option.get_positional();
  out.required = option.get_required();
  out.repeats = option.get_items_expected_max() > 1;
  out.help = option.get_description();
  out.group = option.get_group();
  if (out.positional) out.names.push_back(option.get_single_name());
  for (const auto& name : option.get_snames()) out.names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) out.names.push_back("--" + name);
  if (option.get_items_expected_max() > 0) read_type(option.get_type_name(), out);
  return out;
}

}  // namespace

command_text tree_of(const CLI::App& app) {
  command_text out;
  out.name = app.get_name();
  out.help = app.get_description();
  out.group = app.get_group();
  for (const auto* option : app.get_options())
    if (!option->get_group().empty()) out.options.push_back(text_of(*option));
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (!command->get_group().empty()) out.commands.push_back(tree_of(*command));
  return out;
}

}  // namespace dinfer::apps
