// SPDX-License-Identifier: Apache-2.0
// Tables, colours and bars of the programs. Any thread.
#pragma once

#include <string>
#include <vector>

namespace dinfer::apps {

enum class ink { plain, good, doubtful, bad };

// Standard output is a terminal, and NO_COLOR does not ask for plain text.
bool output_has_colours();
// The same of standard error, where lines of progress are redrawn in place.
bool progress_is_drawn();

// `text` in colour where output_has_colours().
std::string painted(const std::string& text, ink colour);

// "[#####.....] " for a share from 0 to 1.
std::string bar(double share);

// Draws `line` on standard error over the one before; an empty one leaves nothing. Only where
// progress_is_drawn().
void draw_progress(const std::string& line);

// A row a line, columns aligned; the last one is as long as it is.
std::string render_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace dinfer::apps
