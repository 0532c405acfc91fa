// SPDX-License-Identifier: Apache-2.0
// The real model that tests run on: SmolLM2-135M-Instruct.Q4_1.gguf. scripts/test fetches it and
// sets DINFER_TEST_MODEL; without it these tests fail and say so.
#pragma once

#include <string>

namespace dinfer::tests {

std::string model_path();

// Files of this repository: repository_file("tests/golden/x.json").
std::string repository_file(const std::string& path);

}  // namespace dinfer::tests
