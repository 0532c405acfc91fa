// SPDX-License-Identifier: Apache-2.0
// From a path to an open source: which file is meant, and which format it has.
#include "runtime/weights/source.hpp"

#include "runtime/base/mapped_file.hpp"
#include "runtime/weights/gguf.hpp"
#include "runtime/weights/random_source.hpp"

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

std::uint64_t stored_bytes(const stored_tensor& tensor) noexcept {
  if (!tensor.data.empty() || tensor.shape.empty()) return tensor.data.size();
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  return static_cast<std::uint64_t>(rows * kernels::row_bytes(tensor.type, tensor.shape.back()));
}

result<std::unique_ptr<weight_source>> open_weights(const std::string& path, load_format format,
                                                    std::uint64_t seed) {
  if (format == load_format::random) return open_random(path, seed);
  if (path.empty()) return fail(errc::invalid_argument, "model.path is empty", "model.path");
  std::string name = path;
  std::error_code problem;
  if (fs::is_directory(path, problem)) {
    DINFER_TRY(name, only_file_of(path));
  }
  if (fs::path(name).extension() == ".json")
    return fail(errc::unsupported,
                name +
                    ": states shapes and holds no weights; format = \"random\" (--load-format "
                    "random) makes some up",
                name);
  DINFER_TRY(auto file, mapped_file::open(name));
  return open_gguf(std::move(file));
}

}  // namespace dinfer::runtime
