// SPDX-License-Identifier: Apache-2.0
// Weight types bit for bit as the `gguf` package expands them: tests/reference/quant_reference.py.
#include "kernels/cpu/half.hpp"
#include "tests/kernels/support.hpp"
#include "tests/support/model_path.hpp"

#include <bit>
#include <fstream>
#include <sstream>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct golden {
  dtype type = dtype::f32;
  std::vector<std::byte> stored;
  std::vector<std::uint32_t> bits;
};

dtype type_named(const std::string& name) {
  for (const auto type : weight_types()) {
    if (info(type).name == name) return type;
  }
  FAIL("no type " << name);
  return dtype::f32;
}

std::vector<golden> read_golden() {
  std::ifstream in(repository_file("tests/golden/quant_blocks.txt"));
  REQUIRE(in);
  std::vector<golden> all;
  std::string name, hex, numbers;
  std::getline(in, name);
  while (std::getline(in, name) && std::getline(in, hex) && std::getline(in, numbers)) {
    golden g;
    g.type = type_named(name);
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      g.stored.push_back(static_cast<std::byte>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    }
    std::istringstream words(numbers);
    for (std::string word; words >> word;) {
      g.bits.push_back(static_cast<std::uint32_t>(std::stoul(word, nullptr, 16)));
    }
    all.push_back(std::move(g));
  }
  return all;
}

// Bits, with the two zeros taken for one: a sum that starts from +0 cannot tell them apart.
std::uint32_t bits_of(float f) { return f == 0 ? 0 : std::bit_cast<std::uint32_t>(f); }

}  // namespace

TEST_CASE("dequantize_row gives gguf's bits for every type") {
  const auto all = read_golden();
  REQUIRE(all.size() == weight_types().size());
  for (const auto& g : all) {
    std::vector<float> out(g.bits.size(), poison);
    cpu::dequantize_row(g.type, g.stored.data(), out.data(), static_cast<std::int64_t>(out.size()));
    INFO(info(g.type).name);
    for (std::size_t i = 0; i < out.size(); ++i) {
      CHECK(std::bit_cast<std::uint32_t>(out[i]) == g.bits[i]);
    }
  }
}

TEST_CASE("packed weights give gguf's values, through embed and through linear") {
  const auto d = open_cpu(1);
  for (const auto& g : read_golden()) {
    const auto n = static_cast<std::int64_t>(g.bits.size());
    INFO(info(g.type).name);
    const weight_slice slice{g.stored.data(), g.type, n, 0, 1, 0, n};
    const auto w = d->ops().prepare({&slice, 1}, weight_role::embedding, {});
    std::vector<std::int32_t> id{0};
    std::vector<float> row(g.bits.size(), poison);
    embed_args embed;
    embed.ids = over(id);
    embed.table = w.get();
    embed.out = over(row, 1, n);
    d->ops().embed(embed);
    for (std::size_t i = 0; i < row.size(); ++i) {
      CHECK(bits_of(row[i]) == bits_of(std::bit_cast<float>(g.bits[i])));
    }
    // A row of the unit matrix picks one weight out.
    for (const std::int64_t rows : {std::int64_t{1}, n}) {
      std::vector<float> unit(static_cast<std::size_t>(rows * n)),
          out(static_cast<std::size_t>(rows), poison);
      for (std::int64_t r = 0; r < rows; ++r) unit[static_cast<std::size_t>(r * n + r)] = 1;
      linear_args linear;
      linear.x = over(unit, rows, n);
      linear.w = w.get();
      linear.out = over(out, rows, 1);
      d->ops().linear(linear);
      for (std::size_t i = 0; i < out.size(); ++i) {
        CHECK(bits_of(out[i]) == bits_of(std::bit_cast<float>(g.bits[i])));
      }
    }
  }
}

TEST_CASE("16-bit floats survive the way there and back, and halves round to even") {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<std::uint16_t>(h);
    const float f = cpu::from_f16(bits), b = cpu::from_bf16(bits);
    if (f == f && cpu::to_f16(f) != bits) FAIL("f16 " << h);
    if (b == b && cpu::to_bf16(b) != bits) FAIL("bf16 " << h);
  }
  CHECK(cpu::to_f16(1.0F + 0x1p-11F) == 0x3C00);  // halfway: to even
  CHECK(cpu::to_f16(1.0F + 3 * 0x1p-11F) == 0x3C02);
  CHECK(cpu::to_f16(65520.0F) == 0x7C00);
  CHECK(cpu::to_f16(65519.0F) == 0x7BFF);
  CHECK(cpu::to_f16(0x1p-25F) == 0);
  CHECK(cpu::to_f16(0x1.8p-25F) == 1);
  CHECK(cpu::to_bf16(1.0F + 0x1p-8F) == 0x3F80);
  CHECK(cpu::to_bf16(1.0F + 3 * 0x1p-8F) == 0x3F82);
}
