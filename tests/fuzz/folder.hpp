// SPDX-License-Identifier: Apache-2.0
// A folder for targets that read more than one file, removed when the process ends as it should.
#pragma once

#include "tests/fuzz/target.hpp"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace dinfer::fuzz {

class folder {
 public:
  template <class Fill>
  explicit folder(const Fill& fill) {
    std::string name = (std::filesystem::temp_directory_path() / "dinfer-fuzz-XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr, "a temporary folder can be made");
    path_ = name;
    fill(*this);
  }
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;

  const std::string& path() const noexcept { return path_; }
  void write(const char* name, std::string_view contents) const {
    std::ofstream out(path_ + "/" + name, std::ios::binary | std::ios::trunc);
    out << contents;
    require(out.flush().good(), "a file can be written");
  }

 private:
  std::string path_;
};

}  // namespace dinfer::fuzz
