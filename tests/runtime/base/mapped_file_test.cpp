// SPDX-License-Identifier: Apache-2.0
// Mapping of files: contents, slices, and each way in which a path can be wrong.
#include "runtime/base/mapped_file.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <limits>

namespace dinfer::tests {

using runtime::mapped_file;

TEST_CASE("a mapped file shows its bytes and checks its slices", "[base]") {
  const temporary_folder folder;
  const std::string path = folder.write("f", "0123456789");
  auto opened = mapped_file::open(path);
  REQUIRE(opened);
  mapped_file file = std::move(*opened);
  CHECK(file.path() == path);
  REQUIRE(file.bytes().size() == 10);
  CHECK(file.bytes()[3] == std::byte{'3'});

  const auto middle = file.slice(4, 6);
  REQUIRE(middle);
  CHECK(middle->front() == std::byte{'4'});
  CHECK(file.slice(10, 0));
  for (const auto& [offset, size] : {std::pair<std::uint64_t, std::uint64_t>{4, 7},
                                     {11, 0},
                                     {1, std::numeric_limits<std::uint64_t>::max()},
                                     {std::numeric_limits<std::uint64_t>::max(), 1}}) {
    const auto outside = file.slice(offset, size);
    REQUIRE_FALSE(outside);
    CHECK(outside.error().code == errc::bad_file);
    CHECK(outside.error().subject == path);
  }
  file.will_need(0, 1000);
  file.will_need(1000, 1);
  file.will_not_need(3, 2);
  CHECK(file.bytes()[9] == std::byte{'9'});
}

TEST_CASE("a file that shrank after it was opened is noticed", "[base]") {
  const temporary_folder folder;
  const std::string path = folder.write("f", std::string(10000, 'x'));
  const auto file = mapped_file::open(path);
  REQUIRE(file);
  CHECK(file->check_unchanged());
  std::filesystem::resize_file(path, 100);
  const auto now = file->check_unchanged();
  REQUIRE_FALSE(now);
  CHECK(now.error().code == errc::bad_file);
  CHECK(now.error().message == path + ": had 10000 bytes when it was opened and has 100 now");
}

TEST_CASE("what cannot be mapped is named", "[base]") {
  const temporary_folder folder;
  const auto code = [](const std::string& path) {
    const auto file = mapped_file::open(path);
    REQUIRE_FALSE(file);
    CHECK(file.error().subject == path);
    CHECK(file.error().message.find(path) == 0);
    return file.error().code;
  };
  CHECK(code(folder.path("absent")) == errc::not_found);
  CHECK(code(folder.write("plain", "x") + "/under") == errc::not_found);
  CHECK(code(folder.path("")) == errc::io_error);  // a directory
  CHECK(code(folder.write("empty", "")) == errc::bad_file);
  REQUIRE(::mkfifo(folder.path("fifo").c_str(), 0600) == 0);
  CHECK(code(folder.path("fifo")) == errc::io_error);
}

}  // namespace dinfer::tests
