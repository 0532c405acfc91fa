// SPDX-License-Identifier: Apache-2.0
// Runs every target on the files of its corpus, those that once broke something among them, and on
// large inputs:
//   fuzz_replay FOLDER [TARGET]
// A file that breaks a promise ends the process; its name is the last line then. Fails too where a
// target has no corpus.
#include "tests/fuzz/large_inputs.hpp"
#include "tests/fuzz/memory_bound.hpp"
#include "tests/fuzz/target.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::vector<std::uint8_t> read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool replay(const dinfer::fuzz::target& which, const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code problem;
  for (fs::directory_iterator it(folder, problem), end; !problem && it != end; ++it)
    files.push_back(it->path());
  std::sort(files.begin(), files.end());
  std::uint64_t most = 0;
  for (const auto& file : files) {
    std::printf("%s\n", file.c_str());
    std::fflush(stdout);
    dinfer::fuzz::run_bounded(which, read(file));
    most = std::max(most, dinfer::fuzz::memory_bound::most_held());
  }
  std::printf("%s: %zu files, at most %llu bytes held\n", which.name.data(), files.size(),
              static_cast<unsigned long long>(most));
  for (const auto& text : dinfer::fuzz::large_inputs(which.name)) {
    std::printf("%s: a large input of %zu bytes:", which.name.data(), text.size());
    std::fflush(stdout);
    dinfer::fuzz::run_bounded(which,
                              {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    const auto held = dinfer::fuzz::memory_bound::most_held();
    std::printf(" %.1f bytes held for a byte\n",
                static_cast<double>(held) / static_cast<double>(text.size()));
  }
  return !files.empty();
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  bool fine = true;
  for (const auto& each : dinfer::fuzz::targets())
    if (count < 3 || each.name == arguments[2])
      fine = replay(each, fs::path(arguments[1]) / each.name) && fine;
  return fine ? 0 : 1;
}
