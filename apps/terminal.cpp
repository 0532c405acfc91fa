// SPDX-License-Identifier: Apache-2.0
// See terminal.hpp.
#include "apps/terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace dinfer::apps {

namespace {

bool is_coloured(int file) {
  const char* refused = std::getenv("NO_COLOR");
  return ::isatty(file) == 1 && (refused == nullptr || *refused == '\0');
}

}  // namespace

bool output_has_colours() { return is_coloured(STDOUT_FILENO); }

bool progress_is_drawn() { return is_coloured(STDERR_FILENO); }

std::string painted(const std::string& text, ink colour) {
  if (colour == ink::plain || !output_has_colours()) return text;
  const char* code = colour == ink::good ? "32" : colour == ink::doubtful ? "33" : "31";
  return std::string("\033[") + code + "m" + text + "\033[0m";
}

std::string bar(double share) {
  constexpr int width = 30;
  const int filled = static_cast<int>(width * std::clamp(share, 0.0, 1.0));
  std::string out = "[";
  out.append(static_cast<std::size_t>(filled), '#');
  out.append(static_cast<std::size_t>(width - filled), '.');
  return out + "] ";
}

void draw_progress(const std::string& line) {
  if (!progress_is_drawn()) return;
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
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
