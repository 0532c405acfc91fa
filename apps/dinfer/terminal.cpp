// SPDX-License-Identifier: Apache-2.0
// See terminal.hpp.
#include "apps/dinfer/terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace dinfer::apps {

bool output_has_colours() {
  const char* refused = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) == 1 && (refused == nullptr || *refused == '\0');
}

std::string painted(const std::string& text, ink colour) {
  if (colour == ink::plain || !output_has_colours()) return text;
  const char* code = colour == ink::good ? "32" : colour == ink::doubtful ? "33" : "31";
  return std::string("\033[") + code + "m" + text + "\033[0m";
}

std::string render_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - row[i].size() + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

}  // namespace dinfer::apps
