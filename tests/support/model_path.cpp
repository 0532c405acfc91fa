// SPDX-License-Identifier: Apache-2.0
// See model_path.hpp. The one file that is compiled with this checkout's path in it.
#include "tests/support/model_path.hpp"

#include "tests/support/catch.hpp"

#include <cstdlib>

namespace dinfer::tests {

std::string model_path() {
  const char* path = std::getenv("DINFER_TEST_MODEL");
  if (path == nullptr)
    FAIL("set DINFER_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf (scripts/test does)");
  return path;
}

std::string repository_file(const std::string& path) {
  return std::string(DINFER_SOURCE_DIR) + "/" + path;
}

}  // namespace dinfer::tests
