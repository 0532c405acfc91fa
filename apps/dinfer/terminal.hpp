// SPDX-License-Identifier: Apache-2.0
// Tables and colours of the subcommands. Any thread.
#pragma once

#include <string>
#include <vector>

namespace dinfer::apps {

enum class ink { plain, good, doubtful, bad };

// Standard output is a terminal, and NO_COLOR does not ask for plain text.
bool output_has_colours();
// `text` in colour where output_has_colours().
std::string painted(const std::string& text, ink colour);

// A row a line, columns aligned; the last one is as long as it is.
std::string render_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace dinfer::apps
