// SPDX-License-Identifier: Apache-2.0
// Damaged and hostile GGUF files: each is refused with a message that says what is wrong, reads
// nothing outside the file (run under the asan preset) and allocates little more than the file has.
#include "runtime/models/model_config.hpp"
#include "runtime/weights/gguf.hpp"
#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"

#include <memory>
#include <random>

namespace dinfer::tests {
namespace {

using kernels::dtype;

// What a reader may allocate for a file of `size` bytes: a string view for a string's 8 bytes, a
// tensor's record for the 33 bytes of its entry, each doubled by growth; and messages.
std::uint64_t allowance(std::size_t size) { return 16 * size + (1U << 16); }

// Parses a copy that ends where its allocation ends, touches all it found, and returns the error's
// message, empty when there was none.
std::string read_message(const std::string& file) {
  const auto exact = std::make_unique<std::byte[]>(file.size());
  std::memcpy(exact.get(), file.data(), file.size());
  const std::uint64_t before = bytes_allocated();
  auto source = runtime::parse_gguf({exact.get(), file.size()}, "hostile.gguf");
  CHECK(bytes_allocated() - before <= allowance(file.size()));
  if (!source) return source.error().message;
  unsigned sum = 0;
  for (const auto& tensor : (*source)->tensors())
    for (const std::byte b : tensor.data) sum += static_cast<unsigned>(b);
  static_cast<void>(runtime::read_model_shape(**source));
  return sum == 0xFFFFFFFFU ? "unlikely" : "";
}

gguf_writer sample() {
  gguf_writer writer;
  writer.set("general.architecture", "llama").set("general.alignment", std::uint32_t{32});
  writer.set("llama.block_count", std::uint32_t{1}).set("llama.rope.freq_base", 1e4F);
  writer.set("flag", true).set("words", std::vector<std::string>{"one", "two"});
  writer.set("numbers", std::vector<std::int32_t>{1, 2, 3});
  const std::vector<std::byte> blocks(std::size_t{2} * 34, std::byte{1});
  writer.tensor("token_embd.weight", dtype::q8_0, {2, 32}, blocks);
  const std::vector<float> values(5, 1.0F);
  writer.tensor("norm", {5}, values);
  return writer;
}

template <class T>
std::string with(std::string file, std::size_t at, T value) {
  REQUIRE(at + sizeof value <= file.size());
  std::memcpy(file.data() + at, &value, sizeof value);
  return file;
}

// Where the bytes after `text` begin.
std::size_t after(const std::string& file, const std::string& text) {
  const auto at = file.find(text);
  REQUIRE(at != std::string::npos);
  return at + text.size();
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("a GGUF file that is cut anywhere is refused", "[weights][gguf][hostile]") {
  const auto writer = sample();
  const std::string file = writer.file();
  REQUIRE(read_message(file).empty());
  const std::size_t last_byte = file.size() - 12;  // after it: padding of the last tensor
  for (std::size_t size = 0; size < last_byte; ++size) {
    INFO("cut to " << size);
    CHECK_THAT(read_message(file.substr(0, size)), Contains("hostile.gguf: at byte "));
  }
  for (std::size_t size = last_byte; size < file.size(); ++size)
    CHECK(read_message(file.substr(0, size)).empty());
}

TEST_CASE("flipped bits never lead outside the file", "[weights][gguf][hostile]") {
  const auto writer = sample();
  const std::string file = writer.file();
  const std::size_t head = writer.head().size();
  for (std::size_t bit = 0; bit < head * 8; ++bit) {
    std::string damaged = file;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    INFO("bit " << bit);
    read_message(damaged);
  }
}

TEST_CASE("random damage never leads outside the file", "[weights][gguf][hostile]") {
  const unsigned seed = 20240117;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto writer = sample();
  const std::string file = writer.file();
  const std::size_t head = writer.head().size();
  const std::uint64_t nasty[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ULL << 63, ~0ULL, 33};
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = file;
    for (unsigned edits = 1 + random() % 3; edits > 0; --edits) {
      const std::uint64_t value = nasty[random() % std::size(nasty)];
      const std::size_t width = std::size_t{1} << random() % 4;
      std::memcpy(damaged.data() + random() % (head - width), &value, width);
    }
    read_message(damaged);
  }
}

TEST_CASE("hostile headers are refused by name", "[weights][gguf][hostile]") {
  const std::string file = sample().file();
  CHECK_THAT(read_message("GGML" + file.substr(4)), Contains("not a GGUF file"));
  CHECK_THAT(read_message(with(file, 4, 1U)), Contains("version 1"));
  CHECK_THAT(read_message(with(file, 4, 0x03000000U)), Contains("big-endian"));
  CHECK_THAT(read_message(with(file, 8, ~0ULL)), Contains("number of tensors"));
  CHECK_THAT(read_message(with(file, 8, 1ULL << 40)), Contains("number of tensors"));
  CHECK_THAT(read_message(with(file, 16, ~0ULL)), Contains("metadata pairs cannot fit"));
  CHECK_THAT(read_message(with(file, 24, ~0ULL)), Contains("a metadata key needs"));
  CHECK_THAT(read_message(with(file, 24, 0ULL)), Contains("metadata key is empty"));
}

TEST_CASE("hostile metadata is refused by name", "[weights][gguf][hostile]") {
  const std::string file = sample().file();
  const auto alignment = [&](std::uint32_t value) {
    return read_message(with(file, after(file, "general.alignment") + 4, value));
  };
  for (const std::uint32_t value : {0U, 1U, 4U, 33U, 0x80000000U, 0xFFFFFFFFU})
    CHECK_THAT(alignment(value), Contains("general.alignment is"));
  CHECK_THAT(read_message(with(file, after(file, "flag"), 13U)), Contains("no value type 13"));
  CHECK_THAT(read_message(with(file, after(file, "flag") + 4, '\2')), Contains("boolean"));
  CHECK_THAT(read_message(with(file, after(file, "words") + 8, 1ULL << 61)),
             Contains("words: 2305843009213693952 cannot fit"));
  CHECK_THAT(read_message(with(file, after(file, "numbers") + 8, 1ULL << 62)),
             Contains("numbers: 4611686018427387904 cannot fit"));
  CHECK_THAT(read_message(gguf_writer().set("twice", 1).set("twice", 2).file()),
             Contains("twice stands twice"));
  CHECK_THAT(read_message(gguf_writer().set("line\nbreak", 1).file()), Contains("not printable"));
  CHECK_THAT(read_message(gguf_writer().set("split.count", 3).file()), Contains("3 files"));
  CHECK_THAT(read_message(gguf_writer().set("general.alignment", "32").file()),
             Contains("not an integer"));
}

TEST_CASE("arrays in arrays are read to a depth and no further", "[weights][gguf][hostile]") {
  // As if an array of `count` arrays of one element each were `depth` levels deep.
  const auto nested = [](int depth) {
    std::string value;
    const auto put = [&](auto number) {
      value.append(reinterpret_cast<const char*>(&number), sizeof number);
    };
    for (int level = 1; level < depth; ++level) put(std::uint32_t{9}), put(std::uint64_t{1});
    put(std::uint32_t{0}), put(std::uint64_t{1}), put('\7');
    std::string file = gguf_writer().set("deep", std::uint8_t{0}).head();
    file = with(file, after(file, "deep"), std::uint32_t{9});
    file.pop_back();
    return file + value;
  };
  CHECK(read_message(nested(1)).empty());
  CHECK(read_message(nested(4)).empty());
  CHECK_THAT(read_message(nested(5)), Contains("deeper than 4"));
  CHECK_THAT(read_message(nested(100'000)), Contains("deeper than 4"));
}

TEST_CASE("hostile tensors are refused by name", "[weights][gguf][hostile]") {
  const std::string file = sample().file();
  const std::size_t rank = after(file, "token_embd.weight");
  const std::size_t columns = rank + 4, rows = rank + 12, type = rank + 20, offset = rank + 24;
  const std::string about = "tensor token_embd.weight";
  CHECK_THAT(read_message(with(file, rank, 0U)), Contains(about + " has 0 dimensions"));
  CHECK_THAT(read_message(with(file, rank, 5U)), Contains(about + " has 5 dimensions"));
  CHECK_THAT(read_message(with(file, columns, 0ULL)), Contains(about + ": dimension 0 is 0"));
  CHECK_THAT(read_message(with(file, rows, 0ULL)), Contains(about + ": dimension 1 is 0"));
  CHECK_THAT(read_message(with(file, columns, ~0ULL)), Contains(about + ": dimension 0"));
  CHECK_THAT(read_message(with(with(file, columns, 1ULL << 32), rows, 1ULL << 32)),
             Contains(about + ": dimension 1"));
  CHECK_THAT(read_message(with(file, columns, 33ULL)), Contains("not whole blocks of q8_0"));
  CHECK_THAT(read_message(with(with(file, columns, 1ULL << 31), rows, 1ULL << 31)),
             Contains("cut short or damaged"));
  const std::string wide = with(with(file, columns, 1ULL << 31), rows, (1ULL << 32) - 1);
  CHECK_THAT(read_message(with(wide, type, 0U)), Contains(about + " is too large"));
  CHECK_THAT(read_message(with(file, type, 10U)), Contains(about + " has type Q2_K"));
  CHECK_THAT(read_message(with(file, type, 99U)), Contains(about + " has type number 99"));
  CHECK_THAT(read_message(with(file, offset, 1ULL)), Contains("not a multiple of 32"));
  CHECK_THAT(read_message(with(file, offset, ~0ULL - 31)), Contains("cut short or damaged"));
  const std::size_t second_offset = after(file, "norm") + 16;
  CHECK_THAT(read_message(with(file, second_offset, 32ULL)), Contains("overlap"));
}

TEST_CASE("two tensors of one name are refused", "[weights][gguf][hostile]") {
  const std::vector<float> values(8, 1.0F);
  gguf_writer writer;
  writer.tensor("a", {8}, values).tensor("b", {8}, values).tensor("a", {8}, values);
  CHECK_THAT(read_message(writer.file()), Contains("tensor a stands twice"));
}

// Of many small things each takes more memory than it has bytes in the file.
TEST_CASE("a file of small things takes no more than its size and a megabyte",
          "[weights][gguf][hostile]") {
  const auto held_by = [](const std::string& file, std::string& why) {
    const allocation_peak held;
    auto source = runtime::parse_gguf(std::as_bytes(std::span(file)), "hostile.gguf");
    why = source ? "" : source.error().message;
    return held.bytes();
  };
  const auto number = [](std::uint64_t n) {
    return std::string(reinterpret_cast<const char*>(&n), sizeof n);
  };
  const auto four = [](std::uint32_t n) {
    return std::string(reinterpret_cast<const char*>(&n), sizeof n);
  };
  constexpr std::size_t many = 200'000;
  std::string pairs = "GGUF" + four(3) + number(0) + number(many);
  for (std::size_t i = 0; i < many; ++i) {
    const auto key = std::to_string(i);
    pairs += number(key.size()) + key + four(7) + '\1';
  }
  std::string strings = "GGUF" + four(3) + number(0) + number(1) + number(1) + "k";
  strings += four(9) + four(8) + number(many) + std::string(8 * many, '\0');
  std::string tensors = "GGUF" + four(3) + number(many) + number(0);
  for (std::size_t i = 0; i < many; ++i) {
    const auto name = std::to_string(i);
    tensors += number(name.size()) + name + four(1) + number(1) + four(0) + number(32 * i);
  }
  tensors.append(32 * many + 32, '\0');
  for (const auto& [file, said] :
       {std::pair(pairs, "200000 metadata pairs"), std::pair(strings, "200000 strings"),
        std::pair(tensors, "200000 tensors")}) {
    std::string why;
    CHECK(held_by(file, why) <= file.size() + (1 << 20));
    CHECK_THAT(why, Contains(said));
  }
}

}  // namespace dinfer::tests
