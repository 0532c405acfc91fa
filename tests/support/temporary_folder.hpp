// SPDX-License-Identifier: Apache-2.0
// A folder of its own for one test, removed with all that is in it.
#pragma once

#include "tests/support/catch.hpp"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace dinfer::tests {

class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "dinfer-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
  }
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // Makes a file and returns its path.
  std::string write(const std::string& name, const std::string& contents) const {
    std::ofstream stream(path(name), std::ios::binary | std::ios::trunc);
    stream << contents;
    REQUIRE(stream.flush().good());
    return path(name);
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace dinfer::tests
