// SPDX-License-Identifier: Apache-2.0
// From a path to an open source: which file is meant, and which format it has.
#include "runtime/weights/source.hpp"

#include "runtime/base/mapped_file.hpp"
#include "runtime/weights/gguf.hpp"
#include "runtime/weights/random_source.hpp"
#include "runtime/weights/safetensors.hpp"

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

bool is_checkpoint(const fs::path& file) {
  return file.extension() == ".safetensors" ||
         file.filename().string().ends_with(".safetensors.index.json");
}

// The one model of a directory: a .gguf file, or the directory itself for a checkpoint.
result<std::string> model_of(const std::string& directory, bool gguf_alone) {
  std::vector<std::string> gguf, checkpoint;
  std::error_code problem;
  for (fs::directory_iterator it(directory, problem), end; !problem && it != end;
       it.increment(problem)) {
    const fs::path& path = it->path();
    if (path.extension() == ".gguf") gguf.push_back(path.filename().string());
    if (is_checkpoint(path) && !gguf_alone) checkpoint.push_back(path.filename().string());
  }
  if (problem)
    return fail(errc::io_error, fmt::format("{}: {}", directory, problem.message()), directory);
  if (gguf.size() == 1 && checkpoint.empty()) return (fs::path(directory) / gguf.front()).string();
  if (gguf.empty() && !checkpoint.empty()) return directory;
  if (gguf.empty())
    return fail(errc::not_found,
                fmt::format("{}: the directory holds no .gguf{} file", directory,
                            gguf_alone ? "" : " and no .safetensors"),
                directory);
  std::sort(gguf.begin(), gguf.end());
  std::sort(checkpoint.begin(), checkpoint.end());
  std::string what = fmt::format("{} .gguf file{}", gguf.size(), gguf.size() == 1 ? "" : "s");
  if (!checkpoint.empty()) what += " and a safetensors checkpoint";
  gguf.insert(gguf.end(), checkpoint.begin(), checkpoint.end());
  return fail(
      errc::invalid_argument,
      fmt::format("{}: the directory holds {}; name one: {}", directory, what, joined(gguf)),
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
    DINFER_TRY(name, model_of(path, format == load_format::gguf));
  }
  if (is_checkpoint(name) || fs::is_directory(name, problem)) return open_safetensors(name);
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
