// SPDX-License-Identifier: Apache-2.0
// See manual.hpp.
#include "apps/dinfer/manual.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace dinfer::apps {

namespace {

constexpr const char* ends = R"(.SH EXIT STATUS
.TP
0
it is done; a node was stopped
.TP
1
it failed: something does not pass, a request failed, the cluster does not serve
.TP
2
flags or configuration are wrong
.TP
3
a file cannot be read, written or loaded
.TP
5
no server answers; of a node: the cluster refused it, was not complete in time, or was lost
.TP
130, 143
a node was ended by a second signal
.SH ENVIRONMENT
.TP
.B DINFER_NAME
a value for the flag \-\-name of the configuration, in capitals and with underscores:
DINFER_MAX_NUM_SEQS is \-\-max\-num\-seqs. Flags win over it, it wins over the file.
.TP
.B DINFER_API_KEY
the key that a gateway asks for
.TP
.B NO_COLOR
when set and not empty: no colours, and no lines that are redrawn
)";

// Of running text. Lines that begin with a blank keep their form.
std::string escaped(const std::string& text) {
  std::string out;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) out += "\\&";
    begins = c == '\n';
    if (c == '\\') out += "\\e";
    else if (c == '-') out += "\\-";
    else out += c;
  }
  return out;
}

std::string heading_of(const option_text& option) {
  std::string out;
  if (option.positional) return "\\fI" + escaped(option.names[0]) + "\\fR";
  for (const auto& name : option.names)
    out += (out.empty() ? "" : ", ") + std::string("\\fB") + escaped(name) + "\\fR";
  if (!option.value.empty()) out += " \\fI" + escaped(option.value) + "\\fR";
  return out;
}

// One paragraph an option, under the names of their groups.
void append_options(const command_text& command,
                    const std::function<bool(const std::string&)>& elsewhere, std::string& out) {
  std::vector<std::string> groups;
  bool others = false;
  for (const auto& option : command.options) {
    if (elsewhere(option.group)) others = true;
    else if (std::ranges::find(groups, option.group) == groups.end())
      groups.push_back(option.group);
  }
  for (const auto& group : groups) {
    out += ".PP\n" + escaped(group) + ":\n";
    for (const auto& option : command.options)
      if (option.group == group)
        out += ".TP\n" + heading_of(option) + "\n" + escaped(option.help) + "\n";
  }
  if (others) out += ".PP\nand the flags of the configuration, which dinfer\\-node(1) lists.\n";
}

std::string first_sentence(const std::string& text) {
  const auto line = text.substr(0, text.find('\n'));
  auto out = line.substr(0, line.find('.'));
  if (!out.empty()) out[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(out[0])));
  return out;
}

bool is_help(const option_text& option) {
  return std::ranges::find(option.names, "--help") != option.names.end();
}

// Paragraphs, and between them lines that stand as they are.
std::string description_of(const std::string& text) {
  std::string out;
  bool as_is = false;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    const auto line = text.substr(begin, end - begin);
    const bool example = line.starts_with(' ');
    if (example != as_is) out += example ? ".PP\n.nf\n" : ".fi\n";
    as_is = example;
    if (line.empty()) out += ".PP\n";
    else out += escaped(line) + "\n";
    begin = end + 1;
  }
  return out + (as_is ? ".fi\n" : "");
}

}  // namespace

std::string manual_page(const command_text& program, const std::string& version,
                        const std::function<bool(const std::string&)>& elsewhere) {
  auto title = program.name;
  std::ranges::transform(title, title.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  auto out = fmt::format(".TH {} 1 \"\" \"dinfer {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
                         escaped(title), escaped(version), escaped(program.name),
                         escaped(first_sentence(program.help)));
  out += fmt::format(".SH SYNOPSIS\n.B {}\n{}[\\fIoptions\\fR]\n", escaped(program.name),
                     program.commands.empty() ? "" : ".I command\n");
  out += ".SH DESCRIPTION\n" + description_of(program.help);
  out += ".SH OPTIONS\n";
  append_options(program, elsewhere, out);
  std::string group;
  if (!program.commands.empty()) out += ".SH COMMANDS\n";
  for (const auto& command : program.commands) {
    out += fmt::format(".SS {} {}\n", escaped(program.name), escaped(command.name));
    out += escaped(command.help) + "\n";
    auto own = command;
    std::erase_if(own.options, is_help);  // the program's says it
    append_options(own, elsewhere, out);
  }
  out += ends;
  out +=
      program.commands.empty() ? ".SH SEE ALSO\ndinfer(1)\n" : ".SH SEE ALSO\ndinfer\\-node(1)\n";
  return out;
}

}  // namespace dinfer::apps
