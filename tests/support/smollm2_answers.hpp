// SPDX-License-Identifier: Apache-2.0
// What transformers answered for SmolLM2 in float32, greedily (tests/golden/smollm2_greedy.json, by
// tests/reference/smollm2_reference.py).
#pragma once

#include "dinfer/request.hpp"

#include <cstddef>
#include <vector>

namespace dinfer::tests {

struct smollm2_answer {
  std::vector<token_id> prompt, tokens;
  std::vector<double> logprobs;  // of the tokens
};

// The first `count`, which must be there.
std::vector<smollm2_answer> smollm2_answers(std::size_t count);

}  // namespace dinfer::tests
