// SPDX-License-Identifier: Apache-2.0
// From a path to a source, and the fingerprint that nodes compare.
#include "runtime/weights/source.hpp"

#include "runtime/weights/fingerprint.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/temporary_folder.hpp"

#include <filesystem>
#include <set>

namespace dinfer::tests {

using runtime::fingerprint_of;
using runtime::open_weights;

TEST_CASE("a directory stands for the one GGUF file in it", "[weights]") {
  const temporary_folder folder;
  const auto code = [&](const std::string& path) {
    const auto source = open_weights(path);
    return source ? errc::none : source.error().code;
  };
  CHECK(code("") == errc::invalid_argument);
  CHECK(code(folder.path("absent.gguf")) == errc::not_found);
  CHECK(code(folder.path("")) == errc::not_found);
  gguf_writer().set("one", 1).write(folder.path("a.gguf"));
  CHECK(code(folder.path("")) == errc::none);
  CHECK(code(folder.path("a.gguf")) == errc::none);
  gguf_writer().set("one", 1).write(folder.path("b.gguf"));
  const auto two = open_weights(folder.path(""));
  REQUIRE_FALSE(two);
  CHECK(two.error().code == errc::invalid_argument);
  CHECK(two.error().message.find("a.gguf, b.gguf") != std::string::npos);
}

TEST_CASE("a source outlives the moves of what opened it", "[weights]") {
  const temporary_folder folder;
  const std::vector<float> values{1, 2, 3, 4};
  gguf_writer().tensor("t", {4}, values).write(folder.path("a.gguf"));
  auto opened = open_weights(folder.path("a.gguf"));
  REQUIRE(opened);
  const auto source = std::move(*opened);
  std::filesystem::remove(folder.path("a.gguf"));  // the mapping keeps the file
  CHECK(std::memcmp(source->find("t")->data.data(), values.data(), 16) == 0);
}

TEST_CASE("a full fingerprint is SHA-256 of the file", "[weights]") {
  // FIPS 180-2, appendix B.1.
  const std::string abc = "abc";
  CHECK(fingerprint_of(std::as_bytes(std::span(abc)), 2, true) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("a sampled fingerprint sees the head, the size and the sampled pages", "[weights]") {
  std::string file(std::size_t{8} << 20, 'x');
  const auto sampled = [&] { return fingerprint_of(std::as_bytes(std::span(file)), 1000, false); };
  std::set<std::string> seen{sampled()};
  CHECK(seen.begin()->size() == 64);
  const auto changes = [&](std::size_t at) {
    file[at] ^= 1;
    const bool differs = seen.insert(sampled()).second;
    file[at] ^= 1;
    return differs;
  };
  CHECK(changes(0));
  CHECK(changes(999));
  CHECK(changes(1000));
  CHECK(changes(1000 + 4095));
  CHECK(changes(file.size() - 1));
  CHECK_FALSE(changes(1000 + 4096));  // between two pages
  CHECK(seen.count(sampled()) == 1);
  file += 'x';
  CHECK(seen.insert(sampled()).second);
  CHECK(seen.insert(fingerprint_of(std::as_bytes(std::span(file)), 1001, false)).second);
}

}  // namespace dinfer::tests
