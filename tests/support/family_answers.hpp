// SPDX-License-Identifier: Apache-2.0
// What transformers draws from the checkpoints of tests/reference/family_checkpoints.py
// (tests/golden/families.json), and where those lie. Any thread.
#pragma once

#include "dinfer/request.hpp"

#include <string>
#include <vector>

namespace dinfer::tests {

struct family_answer {
  std::vector<token_id> prompt, tokens;
};

// Of one family. Fails the test when there are none.
std::vector<family_answer> family_answers(const std::string& family);

// A path below the folder of checkpoints, which a fixture of ctest fills.
std::string checkpoint_path(const std::string& below);

}  // namespace dinfer::tests
