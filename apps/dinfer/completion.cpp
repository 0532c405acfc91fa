// SPDX-License-Identifier: Apache-2.0
// Each script knows the program's commands and, of each, the options; values are file names unless
// an option lists its words.
#include "apps/dinfer/completion.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace dinfer::apps {

namespace {

// "_dinfer_node": a name that every shell takes for a function.
std::string function_of(const command_text& program) {
  auto out = "_" + program.name;
  std::ranges::replace(out, '-', '_');
  return out;
}

// Between single quotes, with a backslash before each of `special`.
std::string quoted(const std::string& text, std::string_view special = {}) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
      continue;
    }
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + "'";
}

// The program itself comes first, under an empty name.
std::vector<std::pair<std::string, const command_text*>> all_of(const command_text& program) {
  std::vector<std::pair<std::string, const command_text*>> out{{"", &program}};
  for (const auto& command : program.commands) out.emplace_back(command.name, &command);
  return out;
}

std::vector<std::string> names_of(const command_text& command) {
  std::vector<std::string> out;
  for (const auto& inner : command.commands) out.push_back(inner.name);
  for (const auto& option : command.options) {
    const auto& words = option.positional ? option.choices : option.names;
    out.insert(out.end(), words.begin(), words.end());
  }
  return out;
}

}  // namespace

std::string bash_completion(const command_text& program) {
  std::string commands, words, values;
  for (const auto& [name, command] : all_of(program)) {
    if (!name.empty()) commands += (commands.empty() ? "" : " | ") + name;
    words +=
        fmt::format("    {}) words='{}' ;;\n", quoted(name), fmt::join(names_of(*command), " "));
    std::vector<std::string> with_files;
    for (const auto& option : command->options) {
      if (option.positional || option.value.empty()) continue;
      for (const auto& spelling : option.names) {
        const auto at = fmt::format("'{} {}'", name, spelling);
        if (option.choices.empty()) with_files.push_back(at);
        else values += fmt::format("    {}) words='{}' ;;\n", at, fmt::join(option.choices, " "));
      }
    }
    if (!with_files.empty())
      values += fmt::format("    {}) return ;;\n", fmt::join(with_files, " | "));
  }
  const auto find_command = commands.empty() ? std::string()
                                             : fmt::format(R"(  case "${{COMP_WORDS[1]}}" in
    {}) ((COMP_CWORD > 1)) && command=${{COMP_WORDS[1]}} ;;
  esac
)",
                                                           commands);
  // No reply: file names, as after a command that has no completion.
  return fmt::format(R"(# Completion of {0} for bash: dinfer completion bash {0}
{1}() {{
  local command='' words=''
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
  COMPREPLY=()
{2}  case "$command" in
{3}  esac
  case "$command $before" in
    *' =') return ;;
{4}  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o bashdefault -o default -F {1} {0}
)",
                     program.name, function_of(program), find_command, words, values);
}

std::string zsh_completion(const command_text& program) {
  const auto arguments = [](const command_text& command) {
    std::string out;
    for (const auto& option : command.options) {
      const auto what = option.choices.empty()
                            ? std::string("_files")
                            : fmt::format("({})", fmt::join(option.choices, " "));
      if (option.positional) {
        out += fmt::format(" \\\n        '{}:{}:{}'", option.repeats ? "*" : "", option.names[0],
                           what);
        continue;
      }
      for (const auto& name : option.names) {
        const bool is_long = name.starts_with("--");
        const auto ending = option.value.empty() ? "" : is_long ? "=" : "+";
        auto help = quoted(option.help, "[]:\\");
        help = help.substr(1, help.size() - 2);
        out += fmt::format(" \\\n        '{}{}[{}]{}'", name, ending, help,
                           option.value.empty() ? "" : fmt::format(":{}:{}", option.value, what));
      }
    }
    return out;
  };
  std::string names, cases;
  for (const auto& command : program.commands) {
    names += "      " + quoted(command.name + ":" + command.help) + "\n";
    cases += fmt::format("    {})\n      _arguments{} ;;\n", command.name, arguments(command));
  }
  const auto function = function_of(program);
  std::string body;
  if (program.commands.empty()) {
    body = fmt::format("  _arguments{}\n", arguments(program));
  } else {
    body = fmt::format(R"(  if ((CURRENT == 2)); then
    local -a commands=(
{}    )
    _describe -t commands command commands
    _arguments{}
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
{}  esac
)",
                       names, arguments(program), cases);
  }
  return fmt::format(R"(#compdef {0}
# Completion of {0} for zsh: dinfer completion zsh {0}
{1}() {{
{2}}}
if [[ $funcstack[1] == _{0} ]]; then
  {1} "$@"
else
  compdef {1} {0}
fi
)",
                     program.name, function, body);
}

std::string fish_completion(const command_text& program) {
  std::string out =
      fmt::format("# Completion of {0} for fish: dinfer completion fish {0}\n", program.name);
  for (const auto& command : program.commands)
    out += fmt::format("complete -c {} -n __fish_use_subcommand -f -a {} -d {}\n", program.name,
                       command.name, quoted(command.help));
  for (const auto& [name, command] : all_of(program)) {
    std::string where;
    if (!program.commands.empty())
      where = name.empty() ? " -n __fish_use_subcommand"
                           : fmt::format(" -n '__fish_seen_subcommand_from {}'", name);
    for (const auto& option : command->options) {
      auto line = fmt::format("complete -c {}{}", program.name, where);
      if (option.positional && option.choices.empty()) continue;
      for (const auto& spelling : option.names) {
        if (option.positional) break;
        const bool is_long = spelling.starts_with("--");
        line += fmt::format(" {} {}", is_long ? "-l" : "-s", spelling.substr(is_long ? 2 : 1));
      }
      if (!option.choices.empty())
        line += fmt::format(" -x -a '{}'", fmt::join(option.choices, " "));
      else if (!option.value.empty()) line += " -r";
      out += line + " -d " + quoted(option.help) + "\n";
    }
  }
  return out;
}

}  // namespace dinfer::apps
