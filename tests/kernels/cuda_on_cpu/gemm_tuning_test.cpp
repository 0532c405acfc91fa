// SPDX-License-Identifier: Apache-2.0
// Buckets, and the tuning file: what is written is read again, what is damaged is refused.
#include "kernels/cuda/gemm_tuning.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace dinfer::tests {
namespace {

using namespace kernels;
using namespace kernels::cuda;

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

tuning_table some_choices() {
  tuning_table table;
  gemm_choice choice;
  choice.algorithm = {1, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF, 0, 5, 6, 7, 8};
  choice.measured_rows = 3;
  choice.microseconds = 11.5;
  table[{4, 4096, 14336, 14336, 14336, 4096, dtype::bf16, dtype::bf16, false}] = choice;
  table[{4, 4096, 14336, 14336, 14336, 4096, dtype::f8_e4m3, dtype::bf16, false}] = choice;
  choice.way = gemm_way::skinny;
  table[{1, 128256, 4096, 4096, 4096, 128256, dtype::f16, dtype::f32, true}] = choice;
  choice.way = gemm_way::swapped;
  table[{64, 6144, 4096, 4096, 4096, 6144, dtype::bf16, dtype::bf16, false}] = choice;
  return table;
}

TEST_CASE("tuning buckets are those of decoding, then powers of two and the middles between") {
  for (const auto rows : decode_buckets()) CHECK(tuning_bucket(rows) == rows);
  CHECK(tuning_bucket(3) == 4);
  CHECK(tuning_bucket(449) == 512);
  CHECK(tuning_bucket(513) == 768);
  CHECK(tuning_bucket(768) == 768);
  CHECK(tuning_bucket(769) == 1024);
  CHECK(tuning_bucket(2049) == 3072);
  CHECK(tuning_bucket(8192) == 8192);
}

TEST_CASE("a tuning file's name has no character that a file system minds") {
  CHECK(tuning_path("/d", "NVIDIA H100 80GB/HBM3", 130100) ==
        "/d/NVIDIA-H100-80GB-HBM3-cublaslt-130100.txt");
}

TEST_CASE("tunings survive the file, and no draft stays behind") {
  const temporary_folder folder;
  const auto path = folder.path("made/gpu.txt");
  std::string problem;
  CHECK(read_tunings(path, problem).value().empty());
  const auto table = some_choices();
  REQUIRE(write_tunings(path, table, problem));
  const auto again = read_tunings(path, problem);
  REQUIRE(again);
  REQUIRE(again->size() == 4);
  for (const auto& [shape, choice] : table) {
    REQUIRE(again->contains(shape));
    const auto& read = again->at(shape);
    CHECK(read.algorithm == choice.algorithm);
    CHECK(read.measured_rows == choice.measured_rows);
    CHECK(read.way == choice.way);
    CHECK(read.microseconds == Approx(choice.microseconds));
  }
  REQUIRE(write_tunings(path, {}, problem));
  CHECK(read_tunings(path, problem).value().empty());
  const std::filesystem::directory_iterator files(folder.path("made"));
  CHECK(std::distance(begin(files), end(files)) == 1);
}

TEST_CASE("a damaged tuning file is refused as a whole") {
  const temporary_folder folder;
  const auto path = folder.path("gpu.txt");
  std::string problem;
  REQUIRE(write_tunings(path, some_choices(), problem));
  const auto good = text_of(path);
  const auto refused = [&](const std::string& text) {
    folder.write("gpu.txt", text);
    problem.clear();
    return !read_tunings(path, problem) && !problem.empty();
  };
  CHECK(refused(""));
  CHECK(refused("something else\n"));
  CHECK(refused(good.substr(0, good.size() - 2)));
  CHECK(refused(good + "1 2 3\n"));
  CHECK(refused(good + "\n"));
  const auto replaced = [&](const std::string& from, const std::string& to) {
    auto text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  CHECK(refused(replaced("4096", "-4096")));
  CHECK(refused(replaced("4096", "99999999999999999999")));
  CHECK(refused(replaced("bf16", "bf17")));
  CHECK(refused(replaced("skinny", "skinnier")));
  CHECK(refused(replaced("cdef", "cdeg")));
  CHECK(refused(replaced("cdef", "cdef0")));
  CHECK(!refused(good));
}

TEST_CASE("a tuning file that cannot be written is reported") {
  const temporary_folder folder;
  folder.write("file", "in the way");
  std::string problem;
  CHECK(!write_tunings(folder.path("file/gpu.txt"), some_choices(), problem));
  CHECK(!problem.empty());
}

}  // namespace
}  // namespace dinfer::tests
