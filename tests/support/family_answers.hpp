// SPDX-License-Identifier: Apache-2.0
// What transformers draws from the checkpoints of tests/reference/family_checkpoints.py
// (tests/golden/families.json) and quantised_checkpoints.py (quantised.json), and where those lie.
// Any thread.
#pragma once

#include "dinfer/request.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::tests {

struct family_answer {
  std::vector<token_id> prompt, tokens;
};

// Of one family, or way of quantising. Fails the test when there are none.
std::vector<family_answer> family_answers(const std::string& family,
                                          const std::string& file = "families.json");

// Elements of the matrices of one way of quantising, by their names in the checkpoint.
struct matrix_element {
  std::string tensor;
  std::int64_t row = 0, column = 0;
  double value = 0;
};
std::vector<matrix_element> quantised_elements(const std::string& kind);

// A path below the folder of checkpoints, which a fixture of ctest fills; and of quantised ones.
std::string checkpoint_path(const std::string& below);
std::string quantised_path(const std::string& kind);

}  // namespace dinfer::tests
