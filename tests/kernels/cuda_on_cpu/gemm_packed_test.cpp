// SPDX-License-Identifier: Apache-2.0
// Packed matrices on the host: packing, unpacking, picking rows, and products against sums in
// double of what the stored blocks say.
#include "kernels/cuda/gemm_packed.hpp"
#include "kernels/cuda/convert.hpp"
#include "kernels/cuda/packed.hpp"
#include "kernels/cuda/pointwise.hpp"
#include "tests/kernels/cuda/packed_table.hpp"
#include "tests/support/cuda_on_cpu.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;
using cuda_on_cpu::guarded;

namespace {

// Columns first .. first + k of a stored matrix, packed; memory ends where it does.
struct packed_case {
  dtype stored;
  std::int64_t n, k;
  std::vector<float> values, sizes;
  guarded<std::byte> memory;
  cuda::packed_matrix matrix;

  packed_case(dtype type, std::int64_t rows, std::int64_t columns, random_numbers& random,
              std::int64_t first = 0)
      : stored(type),
        n(rows),
        k(columns),
        memory(static_cast<std::size_t>(
            cuda::packed_bytes(cuda::packed_kind_of(type), rows, columns))),
        matrix{memory.data(), cuda::packed_kind_of(type), rows, columns} {
    const stored_matrix m(type, rows, whole_blocks(type, first + columns), random);
    const packed_numbers numbers(m);
    values = numbers.part(0, rows, first, first + columns, numbers.values);
    sizes = numbers.part(0, rows, first, first + columns, numbers.sizes);
    cuda::placed_rows to;
    to.data = memory.data();
    to.leading = columns;
    to.packed = matrix.kind;
    const std::int64_t block = info(type).block_elements, bytes = row_bytes(type, m.columns);
    for (std::int64_t r = 0; r < rows; r += 5) {  // in pieces, as uploads are
      to.first_row = r;
      cuda::convert_rows({m.data.data() + r * bytes + row_bytes(type, first / block * block), type,
                          std::min(std::int64_t{5}, rows - r), columns, bytes, first % block},
                         to, nullptr);
    }
    to.first_row = rows;
    cuda::make_up_rows({{}, 0, 0, (16 - rows % 16) % 16, columns}, to, nullptr);
  }
};

struct output {
  guarded<std::byte> memory;
  dtype type;
  output(dtype t, std::int64_t elements)
      : memory(static_cast<std::size_t>(row_bytes(t, elements))), type(t) {}
  std::vector<float> values() const { return decode(type, {memory.data(), memory.size()}); }
};

guarded<std::byte> operand(dtype type, const std::vector<float>& x) {
  return guarded<std::byte>(encode(type, x));
}

std::vector<float> multiplied(const packed_case& c, dtype type, dtype out_type,
                              const std::vector<float>& x, bool swiglu = false) {
  const auto rows = std::ssize(x) / c.k, columns = swiglu ? c.n / 2 : c.n;
  const auto input = operand(type, x);
  const output out(out_type, rows * columns);
  cuda::multiply_packed(
      {input.data(), c.matrix, out.memory.data(), rows, columns, type, out_type, swiglu}, nullptr);
  return out.values();
}

double dot(const packed_case& c, const std::vector<float>& x, std::int64_t row, std::int64_t i,
           double& size) {
  double sum = 0;
  size = 0;
  for (std::int64_t j = 0; j < c.k; ++j) {
    const double v = x[static_cast<std::size_t>(row * c.k + j)];
    sum += v * c.values[static_cast<std::size_t>(i * c.k + j)];
    size += std::abs(v) * c.sizes[static_cast<std::size_t>(i * c.k + j)];
  }
  return sum;
}

double rounding(dtype type) {
  return type == dtype::f32 ? 1e-7 : type == dtype::bf16 ? 0x1p-8 : 0x1p-11;
}

void check_product(const packed_case& c, dtype type, dtype out_type, std::int64_t rows,
                   random_numbers& random) {
  const auto x = rounded(random.floats(rows * c.k), type);
  const auto got = multiplied(c, type, out_type, x);
  double worst = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < c.n; ++i) {
      double size = 0;
      const double right = dot(c, x, r, i, size);
      const double off = std::abs(got[static_cast<std::size_t>(r * c.n + i)] - right);
      const double share = off / (1e-6 * size + rounding(out_type) * std::abs(right) + 1e-7);
      worst = std::isnan(share) ? 1e9 : std::max(worst, share);
    }
  }
  INFO(info(c.stored).name << " as " << info(type).name << " to " << info(out_type).name
                           << ", rows " << rows << " n " << c.n << " k " << c.k);
  CHECK(worst <= 1);
}

}  // namespace

TEST_CASE("packed matrices hold the stored elements where their layout says") {
  auto random = seeded(971);
  for (const auto type : quantised_types()) {
    for (const auto& [n, k, first] : {std::tuple{16, 64, 0}, {33, 96, 32}, {5, 352, 416}}) {
      const packed_case c(type, n, k, random, first);
      INFO(info(type).name << " n " << n << " k " << k);
      check_values("packed", packed_values(c.matrix), c.values, k);
      for (const auto to : activation_types()) {
        for (const auto& [from, end] : {std::pair<std::int64_t, std::int64_t>{0, n}, {3, n - 1}}) {
          const output out(to, (end - from) * k);
          cuda::unpack_rows(c.matrix, from, end - from, out.memory.data(), to, nullptr);
          const std::vector<float> part(c.values.begin() + from * k, c.values.begin() + end * k);
          check_values("unpacked", out.values(), rounded(part, to), k);
        }
      }
    }
  }
}

// The header's promise; f16's steps below 2^-14 are 2^-24 wide.
TEST_CASE("packing rounds the scales of super-blocks alone, by less than bfloat16 would") {
  auto random = seeded(972);
  for (const auto type : quantised_types()) {
    const stored_matrix m(type, 20, 512, random);
    const auto exact = m.expanded();
    const packed_numbers numbers(m);
    double packed = 0, expanded = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      packed += std::pow(numbers.values[i] - exact[i], 2);
      expanded += std::pow(rounded({&exact[i], 1}, dtype::bf16)[0] - exact[i], 2);
    }
    INFO(info(type).name << ": " << packed << " beside " << expanded);
    if (info(type).block_elements == 32) CHECK(packed == 0);
    CHECK(packed < expanded);
  }
}

TEST_CASE("products with packed matrices agree with double") {
  auto random = seeded(973);
  for (const std::uint64_t order : {0, 1}) {
    cuda_on_cpu::set_order(order);
    for (const auto stored : quantised_types()) {
      for (const auto& [n, k] : {std::pair{16, 32}, {5, 64}, {80, 160}, {48, 1376}, {32, 2304}}) {
        const packed_case c(stored, n, k, random);
        for (const std::int64_t rows : {1, 8, 9, 17, 70}) {
          if (rows * n * k > 500'000) continue;
          check_product(c, dtype::bf16, order == 0 ? dtype::bf16 : dtype::f32, rows, random);
          check_product(c, dtype::f16, order == 0 ? dtype::f32 : dtype::f16, rows, random);
        }
      }
    }
  }
  cuda_on_cpu::set_order(0);
}

// Then a block of threads has more rows of them.
TEST_CASE("products with packed matrices of many rows agree with double, bit for bit by row") {
  auto random = seeded(978);
  for (const auto stored : {dtype::q4_1, dtype::q8_0, dtype::q6_k, dtype::q5_1}) {
    const packed_case c(stored, 16387, 96, random);
    check_product(c, dtype::bf16, dtype::f32, 18, random);
    const auto x = rounded(random.floats(40 * c.k), dtype::f16);
    const auto all = multiplied(c, dtype::f16, dtype::f32, x);
    for (const std::int64_t row : {0, 39}) {
      const std::vector<float> one(x.begin() + row * c.k, x.begin() + (row + 1) * c.k);
      const std::vector<float> right(all.begin() + row * c.n, all.begin() + (row + 1) * c.n);
      check_same("one row", multiplied(c, dtype::f16, dtype::f32, one), right, c.n);
    }
  }
}

TEST_CASE("a packed gate_up weight gives silu(gate) * up") {
  auto random = seeded(974);
  for (const auto stored : quantised_types()) {
    for (const auto& [f, k] : {std::pair{8, 64}, {40, 288}, {8200, 32}}) {
      const packed_case c(stored, 2 * f, k, random);
      for (const std::int64_t rows : {1, 12, 40}) {
        if (f > 1000 && rows != 40) continue;
        const auto x = rounded(random.floats(rows * k, -0.02F, 0.02F), dtype::bf16);
        const auto got = multiplied(c, dtype::bf16, dtype::bf16, x, true);
        std::vector<float> right;
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t i = 0; i < f; ++i) {
            double size = 0;
            const double gate = dot(c, x, r, i / 8 * 16 + i % 8, size),
                         up = dot(c, x, r, i / 8 * 16 + i % 8 + 8, size);
            right.push_back(static_cast<float>(gate / (1 + std::exp(-gate)) * up));
          }
        }
        check_close(std::string(info(stored).name), got, right, f, 0x1p-8, 1e-6);
      }
    }
  }
}

TEST_CASE("a row of a packed product has the same bits beside any others") {
  auto random = seeded(975);
  for (const auto stored : {dtype::q4_k, dtype::q8_0, dtype::q6_k, dtype::q5_1}) {
    const packed_case c(stored, 48, 1280, random);
    constexpr std::int64_t all_rows = 40;
    const auto x = rounded(random.floats(all_rows * c.k), dtype::bf16);
    const auto all = multiplied(c, dtype::bf16, dtype::f32, x);
    for (const std::int64_t rows : {1, 8, 13, 33}) {
      for (const std::int64_t first : {std::int64_t{0}, all_rows - rows}) {
        const std::vector<float> some(x.begin() + first * c.k, x.begin() + (first + rows) * c.k);
        const std::vector<float> right(all.begin() + first * c.n,
                                       all.begin() + (first + rows) * c.n);
        check_same("rows", multiplied(c, dtype::bf16, dtype::f32, some), right, c.n);
      }
    }
  }
}

TEST_CASE("what is not finite is not hidden by packed matrices") {
  auto random = seeded(976);
  for (const auto stored : quantised_types()) {
    const packed_case c(stored, 16, 128, random);
    auto x = rounded(random.floats(3 * c.k), dtype::bf16);
    x[static_cast<std::size_t>(c.k + 5)] = INFINITY;
    x[static_cast<std::size_t>(2 * c.k + 77)] = NAN;
    const auto got = multiplied(c, dtype::bf16, dtype::f32, x);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::isfinite(got[i]) == (i < 16));
  }
}

TEST_CASE("embed picks rows of packed tables, and adds positions of either kind") {
  auto random = seeded(977);
  constexpr std::int64_t k = 96, words = 37, places = 20;
  const std::vector<std::int32_t> ids{7, 3, 43, 44, 2, 7, 20}, positions{0, 19, 3, 4, 20, 1, 5};
  for (const auto stored : quantised_types()) {
    for (const auto type : activation_types()) {
      const packed_case table(stored, words, k, random);
      const packed_case packed_places(dtype::q8_0, places, k, random);
      const auto plain = rounded(random.floats(places * k), type);
      const auto plain_places = operand(type, plain);
      for (const int kind : {0, 1, 2}) {  // without positions, with plain and with packed ones
        const output out(type, std::ssize(ids) * k);
        cuda::embed_job job;
        job.ids = ids.data();
        job.table = table.matrix.data;
        job.packed = table.matrix.kind;
        job.rows = words;
        job.first_row = 7;
        if (kind > 0) job.position_table = plain_places.data();
        if (kind == 2) job.position_table = packed_places.matrix.data;
        if (kind == 2) job.position_packed = packed_places.matrix.kind;
        job.position_rows = places;
        job.positions = positions.data();
        job.out = out.memory.data();
        job.tokens = std::ssize(ids);
        job.columns = k;
        cuda::embed(job, type, nullptr);
        const auto word = rounded(table.values, type);
        const auto place = kind == 2 ? rounded(packed_places.values, type) : plain;
        std::vector<float> right;
        for (std::size_t t = 0; t < ids.size(); ++t) {
          const std::int64_t row = ids[t] - 7, at = positions[t];
          for (std::int64_t c = 0; c < k; ++c) {
            float v = 0;
            if (row >= 0 && row < words) v = word[static_cast<std::size_t>(row * k + c)];
            if (kind > 0 && at < places) v += place[static_cast<std::size_t>(at * k + c)];
            right.push_back(v);
          }
        }
        check_values("embed", out.values(), rounded(right, type), k);
      }
    }
  }
}
