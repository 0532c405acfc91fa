// SPDX-License-Identifier: Apache-2.0
// From a path to an open source: which file is meant, and which format it has.
#include "runtime/weights/source.hpp"

#include "runtime/base/mapped_file.hpp"
#include "runtime/weights/gguf.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace dinfer::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t names_in_message = 8;

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), names_in_message); ++i)
    out += (i == 0 ? "" : ", ") + names[i];
  return names.size() > names_in_message ? out + ", ..." : out;
}

// The one .gguf file of a directory.
result<std::string> only_file_of(const std::string& directory) {
  std::vector<std::string> found;
  bool safetensors = false;
  std::error_code problem;
  for (fs::directory_iterator it(directory, problem), end; !problem && it != end;
       it.increment(problem)) {
    const fs::path& path = it->path();
    if (path.extension() == ".gguf") found.push_back(path.filename().string());
    safetensors = safetensors || path.extension() == ".safetensors";
  }
  if (problem)
    return fail(errc::io_error, fmt::format("{}: {}", directory, problem.message()), directory);
  if (found.size() == 1) return (fs::path(directory) / found.front()).string();
  if (found.empty() && safetensors)
    return fail(errc::unsupported,
                directory + ": holds safetensors files; this build reads GGUF files", directory);
  if (found.empty())
    return fail(errc::not_found, directory + ": the directory holds no .gguf file", directory);
  std::sort(found.begin(), found.end());
  return fail(errc::invalid_argument,
              fmt::format("{}: the directory holds {} .gguf files; name one: {}", directory,
                          found.size(), joined(found)),
              directory);
}

}  // namespace

result<std::unique_ptr<weight_source>> open_weights(const std::string& path) {
  if (path.empty()) return fail(errc::invalid_argument, "model.path is empty", "model.path");
  std::string name = path;
  std::error_code problem;
  if (fs::is_directory(path, problem)) {
    DINFER_TRY(name, only_file_of(path));
  }
  DINFER_TRY(auto file, mapped_file::open(name));
  return open_gguf(std::move(file));
}

}  // namespace dinfer::runtime
