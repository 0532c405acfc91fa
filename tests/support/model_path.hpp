// SPDX-License-Identifier: Apache-2.0
// The real model that tests run on: SmolLM2-135M-Instruct.Q4_1.gguf. scripts/test fetches it and
// sets DINFER_TEST_MODEL; without it these tests fail and say so.
#pragma once

#include "tests/support/catch.hpp"

#include <cstdlib>
#include <string>

namespace dinfer::tests {

inline std::string model_path() {
  const char* path = std::getenv("DINFER_TEST_MODEL");
  if (path == nullptr)
    FAIL("set DINFER_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf (scripts/test does)");
  return path;
}

// Files of this repository: repository_file("tests/golden/x.json").
inline std::string repository_file(const std::string& path) {
  return std::string(DINFER_SOURCE_DIR) + "/" + path;
}

}  // namespace dinfer::tests
