// SPDX-License-Identifier: Apache-2.0
// Stored binary files, kept as lines of hex digits, and bytes to fill tensors with.
#pragma once

#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

namespace dinfer::tests {

// The bytes that the hex file at `path`, from the repository's root, stands for.
inline std::string golden_bytes(const std::string& path) {
  std::ifstream stream(repository_file(path));
  REQUIRE(stream);
  std::string out;
  for (std::string line; std::getline(stream, line);)
    for (std::size_t i = 0; i + 1 < line.size(); i += 2)
      out += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
  return out;
}

// 0, 1, 2, ...
inline std::vector<std::byte> counting(std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i);
  return out;
}

}  // namespace dinfer::tests
