// SPDX-License-Identifier: Apache-2.0
// Damaged and hostile checkpoints: each is refused in one line that says the file and what is wrong
// in it, reads nothing outside the file (run under the asan preset) and allocates less than the
// files have and 1 MB.
#include "runtime/weights/safetensors.hpp"
#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temporary_folder.hpp"

#include <filesystem>
#include <memory>
#include <random>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
constexpr std::uint64_t spare = 1 << 20;

// Parses a copy that ends where its allocation ends and touches all it found; the error's message,
// or nothing.
std::string read_message(const std::string& file) {
  const auto exact = std::make_unique<std::byte[]>(file.size() + 1);
  std::memcpy(exact.get(), file.data(), file.size());
  const std::uint64_t before = bytes_allocated();
  const auto contents = runtime::parse_safetensors({exact.get(), file.size()}, "hostile");
  CHECK(bytes_allocated() - before <= file.size() + spare);
  if (!contents) {
    CHECK(contents.error().message.find('\n') == std::string::npos);
    return contents.error().message;
  }
  unsigned sum = 0;
  for (const auto& entry : contents->entries)
    for (const std::byte b : entry.data) sum += static_cast<unsigned>(b);
  return sum == 0xFFFFFFFFU ? "unlikely" : "";
}

std::string tensor(const std::string& name, const std::string& type, const std::string& shape,
                   const std::string& offsets) {
  return '"' + name + R"(":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

// A file of two tensors of 8 bytes, of which `second` describes the other.
std::string pair_with(const std::string& second, std::size_t data = 16) {
  return safetensors_file("{" + tensor("a", "F32", "[2]", "[0,8]") + "," + second + "}",
                          std::string(data, 'x'));
}
std::string good() { return pair_with(tensor("b", "F16", "[2,2]", "[8,16]")); }

std::string announcing(std::uint64_t length) {
  std::string file = good();
  std::memcpy(file.data(), &length, sizeof length);
  return file;
}

struct damage {
  std::string file, why;
};

std::vector<damage> damaged_headers() {
  const std::uint64_t huge = 1ULL << 60;
  return {
      {"", "has 0 bytes"},
      {std::string(7, '\0'), "has 7 bytes"},
      {announcing(0), "a header of 0 bytes"},
      {announcing(huge), "a header of 1152921504606846976 bytes"},
      {announcing(~0ULL), "a header of 18446744073709551615 bytes"},
      {announcing(100'000'001), "a header of 100000001 bytes"},
      {announcing(good().size() - 7), "bytes follow"},
      {announcing(20), "not a JSON object"},
      {safetensors_file("{}", "x"), "1 bytes after the last tensor"},
      {safetensors_file("[]", ""), "not a JSON object"},
      {safetensors_file("7", ""), "not a JSON object"},
      {safetensors_file("   ", ""), "not a JSON object"},
      {safetensors_file("{\"\xFF\":1}", ""), "not a JSON object"},
      {safetensors_file(std::string(3000, '['), ""), "not a JSON object"},
      {safetensors_file("{\"a\":" + std::string(3000, '{'), ""), "not a JSON object"},
      {safetensors_file(std::string(50'000, ' '), ""), "a header of 50000 bytes in a file of"},
      {pair_with(R"("b":7)"), "tensor b: is not an object"},
      {pair_with(R"("b":{})"), "tensor b: dtype is missing"},
      {pair_with(R"("b":{"dtype":"F32","data_offsets":[8,16]})"), "shape is missing"},
      {pair_with(R"("b":{"dtype":"F32","shape":[2]})"), "data_offsets is missing"},
      {pair_with(R"("b":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[8,16]})"),
       "dtype stands twice"},
      {pair_with(R"("b":{"dtype":32,"shape":[2],"data_offsets":[8,16]})"), "dtype is not a string"},
      {pair_with(R"("":{})"), "name is empty"},
      {pair_with(R"("b\n":{})"), "not printable"},
      {pair_with('"' + std::string(300, 'n') + R"(":{})"), "too long"},
  };
}

std::vector<damage> damaged_tensors() {
  const auto second = [](const std::string& type, const std::string& shape,
                         const std::string& offsets) {
    return pair_with(tensor("b", type, shape, offsets));
  };
  return {
      {second("Q4", "[2]", "[8,16]"), "tensor b: dtype Q4: F32, F16, BF16 and what quantised"},
      {second("", "[2]", "[8,16]"), "tensor b: dtype unknown"},
      {second("F32", "2", "[8,16]"), "shape is no array"},
      {second("F32", "[-2]", "[8,16]"), "shape: number 1 is not a whole one"},
      {second("F32", "[2,1.5]", "[8,16]"), "shape: number 2 is not a whole one"},
      {second("F32", "[\"2\"]", "[8,16]"), "shape: number 1 is not a whole one"},
      {second("F32", "[18446744073709551615]", "[8,16]"), "shape: number 1 is not a whole one"},
      {second("F32", "[9223372036854775807]", "[8,16]"), "larger than any file"},
      {second("F32", "[4294967296,4294967296]", "[8,16]"), "larger than any file"},
      {second("F32", "[0]", "[8,8]"), "a dimension is 0"},
      {second("F32", "[1,1,1,1,1,1,1,1,2]", "[8,16]"), "more than 8 numbers"},
      {second("F32", "[3]", "[8,16]"), "shape [3] of F32 has 12 bytes"},
      {second("F16", "[2]", "[8,16]"), "shape [2] of F16 has 4 bytes"},
      {second("F32", "[2]", "8"), "data_offsets is no array"},
      {second("F32", "[2]", "[8]"), "data_offsets: 1 numbers"},
      {second("F32", "[2]", "[8,16,24]"), "data_offsets: more than 2 numbers"},
      {second("F32", "[2]", "[16,8]"), "data_offsets [16, 8]"},
      {second("F32", "[2]", "[-8,0]"), "data_offsets: number 1 is not a whole one"},
      {second("F32", "[2]", "[16,24]"), "the file holds 16 bytes of data"},
      {second("F32", "[2]", "[9223372036854775800,9223372036854775807]"), "the file holds 16"},
      {second("F32", "[2]", "[4,12]"), "tensors a and b overlap"},
      {second("F32", "[2]", "[0,8]"), "overlap"},
      {pair_with(tensor("b", "F32", "[2]", "[12,20]"), 20), "4 bytes between a and tensor b"},
      {pair_with(tensor("b", "F32", "[2]", "[8,16]"), 17), "1 bytes after the last tensor"},
      {pair_with(tensor("a", "F32", "[2]", "[8,16]")), "tensor a stands twice"},
  };
}

// A folder with a good model of two shards, for one of its files to be replaced.
void write_shards(const temporary_folder& folder) {
  const std::vector<float> values{1, 2};
  folder.write("config.json", R"({"architectures":["LlamaForCausalLM"]})");
  folder.write("1.safetensors", safetensors_writer().tensor("a", {2}, values).file());
  folder.write("2.safetensors", safetensors_writer().tensor("b", {2}, values).file());
  folder.write("model.safetensors.index.json",
               R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
}

}  // namespace

TEST_CASE("a damaged safetensors file is refused in one line that says why",
          "[weights][safetensors][hostile]") {
  REQUIRE(read_message(good()).empty());
  for (const auto& list : {damaged_headers(), damaged_tensors()}) {
    for (const damage& d : list) {
      INFO(d.file.substr(0, 200));
      CHECK_THAT(read_message(d.file), Contains("hostile: ") && Contains(d.why));
    }
  }
}

TEST_CASE("a safetensors file that is cut anywhere is refused", "[weights][safetensors][hostile]") {
  const std::string file = good();
  for (std::size_t size = 0; size < file.size(); ++size) {
    INFO("cut to " << size);
    CHECK_FALSE(read_message(file.substr(0, size)).empty());
  }
}

TEST_CASE("random damage to a safetensors file never leads outside it",
          "[weights][safetensors][hostile]") {
  std::mt19937_64 random(20260714);
  for (int i = 0; i < 20'000; ++i) {
    std::string file = good();
    for (std::uint64_t changes = 1 + random() % 4; changes > 0; --changes)
      file[random() % file.size()] = static_cast<char>(random());
    static_cast<void>(read_message(file));
  }
}

TEST_CASE("tensors may stand in any order, and a large header needs large data",
          "[weights][safetensors][hostile]") {
  CHECK(read_message(safetensors_file("{" + tensor("b", "F32", "[2]", "[8,16]") + "," +
                                          tensor("a", "F32", "[2]", "[0,8]") + "}",
                                      std::string(16, 'x')))
            .empty());
  std::string header;
  constexpr int tensors = 2000;
  for (int i = 0; i < tensors; ++i) {
    const std::string at = std::to_string(4096 * i), end = std::to_string(4096 * (i + 1));
    header += (i == 0 ? "{" : ",") + tensor("layer." + std::to_string(i) + ".weight", "F32",
                                            "[32,32]", '[' + at + ',' + end + ']');
  }
  CHECK(read_message(safetensors_file(header + "}", std::string(4096 * tensors, 'x'))).empty());
}

TEST_CASE("a damaged checkpoint's folder is refused in one line that says why",
          "[weights][safetensors][hostile]") {
  struct change {
    std::string name, contents, why;
  };
  const std::string index = "model.safetensors.index.json";
  const auto map = [](const std::string& pairs) { return R"({"weight_map":{)" + pairs + "}}"; };
  const std::vector<float> values{1, 2};
  for (const change& c : {
           change{index, "", index + ": is empty"},
           {index, "{", index + ": is not a JSON object"},
           {index, "{}", "weight_map is missing"},
           {index, R"({"weight_map":[]})", "weight_map is missing or not an object"},
           {index, map(""), "weight_map is empty"},
           {index, map(R"("a":7)"), "tensor a: is not in a .safetensors file"},
           {index, map(R"("a":"")"), "tensor a: is not in a .safetensors file"},
           {index, map(R"("a":"../1.safetensors")"), "tensor a: is not in a .safetensors file"},
           {index, map(R"("a":"/tmp/1.safetensors")"), "tensor a: is not in a .safetensors file"},
           {index, map(R"("a":"..")"), "tensor a: is not in a .safetensors file"},
           {index, map(R"("a":"config.json")"), "tensor a: is not in a .safetensors file"},
           {index, map(R"("a":"1.safetensors","a":"2.safetensors")"), "tensor a stands twice"},
           {index, map(R"("a":"3.safetensors")"), "3.safetensors: cannot be opened"},
           {index, map(R"("c":"1.safetensors")"), "1.safetensors: tensor c is missing"},
           {index, std::string(50'000, ' '), "has 50000 bytes"},
           {"2.safetensors", safetensors_writer().tensor("a", {2}, values).file(),
            "2.safetensors: tensor b is missing"},
           {"2.safetensors",
            safetensors_writer().tensor("a", {2}, values).tensor("b", {2}, values).file(),
            "tensor a stands twice"},
           {"2.safetensors",
            safetensors_writer().tensor("b", "I64", {1}, std::as_bytes(std::span(values))).file(),
            "tensor b has type I64"},
           {"1.safetensors", "", "1.safetensors: is empty"},
           {"1.safetensors", "x", "1.safetensors: has 1 bytes"},
           {"config.json", "", "config.json: is empty"},
           {"config.json", "[]", "config.json: is not a JSON object"},
           {"config.json", "{}", "config.json: has neither architectures nor model_type"},
           {"config.json", std::string(50'000, ' '), "config.json: has 50000 bytes"},
       }) {
    const temporary_folder folder;
    write_shards(folder);
    REQUIRE(runtime::open_weights(folder.path("")));
    folder.write(c.name, c.contents);
    std::uint64_t size = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder.path("")))
      size += file.file_size();
    const std::uint64_t before = bytes_allocated();
    const auto source = runtime::open_weights(folder.path(""));
    CHECK(bytes_allocated() - before <= size + spare);
    INFO(c.name << " " << c.contents.substr(0, 100));
    REQUIRE_FALSE(source);
    CHECK_THAT(source.error().message, Contains(c.why));
    CHECK(source.error().message.find('\n') == std::string::npos);
  }
}

}  // namespace dinfer::tests
