// SPDX-License-Identifier: Apache-2.0
// Uploading of weights with its real threads, over a stand-in for CUDA's runtime whose memory is
// the host's and whose calls can be made to fail.
#include "kernels/cuda/weights.hpp"

#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/kernels/cuda/packed_table.hpp"
#include "tests/kernels/cuda_on_cpu/weight_loader.hpp"
#include "tests/support/cuda_on_cpu.hpp"

#include <atomic>
#include <cstdlib>

namespace {

std::atomic<int> allocations{0};  // that are not freed
std::atomic<int> failing{-1};     // this many cudaMallocs from now on succeed; -1: all

cudaError_t take(void** p, std::size_t bytes) {
  if (failing >= 0 && failing-- <= 0) return cudaErrorMemoryAllocation;
  *p = std::malloc(bytes);
  ++allocations;
  return cudaSuccess;
}
cudaError_t give(void* p) {
  std::free(p);
  --allocations;
  return cudaSuccess;
}

}  // namespace

extern "C" {
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  return take(reinterpret_cast<void**>(s), 1);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) { return give(s); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  return take(reinterpret_cast<void**>(e), 1);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) { return give(e); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) { return take(p, bytes); }
cudaError_t cudaFreeHost(void* p) { return give(p); }
cudaError_t cudaMalloc(void** p, std::size_t bytes) { return take(p, bytes); }
cudaError_t cudaFree(void* p) { return give(p); }
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind, cudaStream_t) {
  for (std::size_t r = 0; r < height; ++r) {
    std::memcpy(static_cast<std::byte*>(to) + r * to_pitch,
                static_cast<const std::byte*>(from) + r * from_pitch, width);
  }
  return cudaSuccess;
}
}

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using loader = weight_loader_on_cpu;

weight_slice part(const stored_matrix& m, std::int64_t row_begin, std::int64_t row_end,
                  std::int64_t column_begin, std::int64_t column_end) {
  weight_slice s = m.slice();
  s.row_begin = row_begin;
  s.row_end = row_end;
  s.column_begin = column_begin;
  s.column_end = column_end;
  return s;
}

// The same rectangle of the expanded matrix.
std::vector<float> expanded(const stored_matrix& m, const weight_slice& s) {
  const auto all = m.expanded();
  std::vector<float> out;
  for (auto r = s.row_begin; r < s.row_end; ++r) {
    out.insert(out.end(), all.begin() + r * m.columns + s.column_begin,
               all.begin() + r * m.columns + s.column_end);
  }
  return out;
}

}  // namespace

TEST_CASE("matrices are stacked, columns cut out, whatever was stored") {
  auto random = seeded(631);
  const std::int64_t begin = GENERATE(32, 43);  // where a block of 32 begins, or inside one
  for (const auto type : activation_types()) {
    loader l(type);
    for (const auto stored : weight_types()) {
      const std::int64_t width = whole_blocks(stored, 128);
      const stored_matrix a(stored, 20, width, random), b(stored, 7, width, random);
      const std::int64_t end = begin + 64;
      const std::vector<weight_slice> slices{part(a, 3, 19, begin, end), part(b, 0, 7, begin, end)};
      const auto w = l.uploader.prepare(slices, weight_role::matrix, {true});
      const auto whole = l.uploader.prepare({&slices[1], 1}, weight_role::embedding, {true});
      l.uploader.finish();
      CHECK(w->rows() == 23);
      CHECK(w->columns() == 64);
      CHECK(w->type() == type);
      CHECK(w->bytes() == static_cast<std::uint64_t>(row_bytes(type, 23 * 64)));
      auto right = expanded(a, slices[0]);
      const auto below = expanded(b, slices[1]);
      check_same("embedding", contents(*whole), rounded(below, type), 64);
      right.insert(right.end(), below.begin(), below.end());
      INFO(info(stored).name << " to " << info(type).name);
      check_same("matrix", contents(*w), rounded(right, type), 64);
    }
  }
  CHECK(allocations == 0);
}

TEST_CASE("gates and ups alternate in groups of eight, filled up with zeros") {
  auto random = seeded(632);
  for (const auto stored : {dtype::bf16, dtype::q4_1}) {
    for (const std::int64_t f : {1, 8, 13, 40}) {
      loader l(dtype::bf16);
      const stored_matrix gate(stored, f, 64, random), up(stored, f, 64, random);
      const std::vector<weight_slice> slices{gate.slice(), up.slice()};
      const auto w = l.uploader.prepare(slices, weight_role::gate_up, {true});
      l.uploader.finish();
      const std::int64_t padded = (f + 7) / 8 * 16;
      CHECK(w->rows() == 2 * f);
      CHECK(w->padded_rows() == padded);
      const auto g = rounded(gate.expanded(), dtype::bf16), u = rounded(up.expanded(), dtype::bf16);
      std::vector<float> right(static_cast<std::size_t>(padded * 64), 0.0F);
      for (std::int64_t r = 0; r < f; ++r) {
        const auto to = right.begin() + (r / 8 * 16 + r % 8) * 64;
        std::copy_n(g.begin() + r * 64, 64, to);
        std::copy_n(u.begin() + r * 64, 64, to + 8 * 64);
      }
      check_same("gate_up", contents(*w), right, 64);
    }
  }
}

namespace {

// Row `at` of a weight of 8-bit floats is what becomes of `values`.
void check_f8_row(const f8_table& table, const cuda::cuda_weight& w, std::int64_t at,
                  std::span<const float> values) {
  const f8_row right = f8_row_of(table, values);
  const auto* codes = static_cast<const std::uint8_t*>(w.data()) + at * w.columns();
  INFO("row " << at);
  CHECK(std::equal(right.codes.begin(), right.codes.end(), codes));
  CHECK(w.scales()[at] == right.scale);
}

}  // namespace

TEST_CASE("8-bit floats: rows with scales of their own, of layers' matrices alone") {
  auto random = seeded(637);
  const f8_table table;
  const prepare_options fp8{false, true};
  for (const auto stored : {dtype::f32, dtype::bf16, dtype::q4_1}) {
    loader l(dtype::bf16);
    const stored_matrix a(stored, 20, 128, random), b(stored, 12, 128, random);
    const std::vector<weight_slice> stacked{part(a, 0, 20, 32, 112), part(b, 0, 12, 32, 112)};
    const auto w = l.uploader.prepare(stacked, weight_role::matrix, fp8);
    const stored_matrix gate(stored, 21, 128, random), up(stored, 21, 128, random);
    const std::vector<weight_slice> pair{gate.slice(), up.slice()};
    const auto both = l.uploader.prepare(pair, weight_role::gate_up, fp8);
    l.uploader.finish();
    INFO(info(stored).name);
    REQUIRE(w->fp8());
    CHECK(w->bytes() == 32 * 80 + 32 * 4);
    auto right = expanded(a, stacked[0]);
    const auto below = expanded(b, stacked[1]);
    right.insert(right.end(), below.begin(), below.end());
    for (std::size_t r = 0; r < 32; ++r)
      check_f8_row(table, *w, static_cast<std::int64_t>(r), std::span(right).subspan(r * 80, 80));
    REQUIRE(both->fp8());
    CHECK(both->padded_rows() == 48);
    const auto g = gate.expanded(), u = up.expanded();
    const std::vector<float> zeros(128, 0.0F);
    for (std::int64_t r = 0; r < 24; ++r) {
      const auto row = [&](const std::vector<float>& of) {
        return r < 21 ? std::span(of).subspan(static_cast<std::size_t>(r * 128), 128)
                      : std::span(zeros);
      };
      check_f8_row(table, *both, cuda::mapped_row(cuda::row_map::gate, r), row(g));
      check_f8_row(table, *both, cuda::mapped_row(cuda::row_map::up, r), row(u));
    }
  }
  loader l(dtype::bf16);
  const stored_matrix m(dtype::bf16, 32, 64, random), odd(dtype::bf16, 30, 64, random),
      narrow(dtype::bf16, 32, 40, random);
  for (const auto role : {weight_role::head, weight_role::embedding, weight_role::vector})
    CHECK(!l.uploader.prepare(std::vector{m.slice()}, role, fp8)->fp8());
  CHECK(!l.uploader.prepare(std::vector{odd.slice()}, weight_role::matrix, fp8)->fp8());
  CHECK(!l.uploader.prepare(std::vector{narrow.slice()}, weight_role::matrix, fp8)->fp8());
  CHECK(l.uploader.prepare(std::vector{m.slice()}, weight_role::matrix, fp8)->fp8());
  CHECK(!l.uploader.prepare(std::vector{m.slice()}, weight_role::matrix, {})->fp8());
  l.uploader.finish();
}

namespace {

// Of all parts, in order.
std::vector<float> packed_contents(const cuda::cuda_weight& w) {
  std::vector<float> out;
  for (const auto& part : w.parts()) {
    CHECK(part.first_row * w.columns() == std::ssize(out));
    const auto values = packed_values(w.matrix(part));
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

std::vector<float> packed_part(const stored_matrix& m, const weight_slice& s) {
  const packed_numbers numbers(m);
  return numbers.part(s.row_begin, s.row_end, s.column_begin, s.column_end, numbers.values);
}

}  // namespace

TEST_CASE("quantised matrices are packed, in parts where they are of several kinds") {
  auto random = seeded(638);
  loader l(dtype::bf16);
  for (const auto first : quantised_types()) {
    for (const auto second : quantised_types()) {
      const std::int64_t width = std::max(whole_blocks(first, 128), whole_blocks(second, 128));
      const stored_matrix a(first, 20, width, random), b(second, 7, width, random);
      const std::vector<weight_slice> slices{part(a, 3, 19, 32, 128), part(b, 5, 5, 32, 128),
                                             part(b, 0, 7, 32, 128)};
      const auto w = l.uploader.prepare(slices, weight_role::matrix, {});
      l.uploader.finish();
      const auto kind = cuda::packed_kind_of(first), below = cuda::packed_kind_of(second);
      INFO(info(first).name << " above " << info(second).name);
      REQUIRE(w->packed());
      CHECK(w->parts().size() == (kind == below ? 1 : 2));
      CHECK(w->rows() == 23);
      CHECK(w->columns() == 96);
      auto right = packed_part(a, slices[0]);
      const auto rest = packed_part(b, slices[2]);
      right.insert(right.end(), rest.begin(), rest.end());
      check_values("packed", packed_contents(*w), right, 96);
      const auto whole = [](std::int64_t bytes) { return (bytes + 255) / 256 * 256; };
      const auto bytes = kind == below ? whole(cuda::packed_bytes(kind, 23, 96))
                                       : whole(cuda::packed_bytes(kind, 16, 96)) +
                                             whole(cuda::packed_bytes(below, 7, 96));
      CHECK(w->bytes() == static_cast<std::uint64_t>(bytes));
    }
  }
}

TEST_CASE("packed gates and ups alternate as others do, and come in many uploads") {
  auto random = seeded(639);
  loader l(dtype::f16);
  for (const auto& [stored, f, k] : {std::tuple{dtype::q4_0, 13, 64},
                                     {dtype::q6_k, 40, 256},
                                     {dtype::q8_0, 1100, 16384}}) {  // 19 MB each
    const stored_matrix gate(stored, f, k, random), up(stored, f, k, random);
    const std::vector<weight_slice> slices{gate.slice(), up.slice()};
    const auto w = l.uploader.prepare(slices, weight_role::gate_up, {});
    l.uploader.finish();
    REQUIRE(w->packed());
    REQUIRE(w->parts().size() == 1);
    CHECK(w->padded_rows() == (f + 7) / 8 * 16);
    CHECK(w->parts()[0].rows == w->padded_rows());
    const packed_numbers g(gate), u(up);
    std::vector<float> right(static_cast<std::size_t>(w->padded_rows() * k), 0.0F);
    for (std::int64_t r = 0; r < f; ++r) {
      const auto to = right.begin() + (r / 8 * 16 + r % 8) * k;
      std::copy_n(g.values.begin() + r * k, k, to);
      std::copy_n(u.values.begin() + r * k, k, to + 8 * k);
    }
    check_values("gate_up", packed_contents(*w), right, k);
  }
}

TEST_CASE("what cannot be packed, or is not to be, is expanded") {
  auto random = seeded(640);
  loader sixteen(dtype::bf16), single(dtype::f32);
  const stored_matrix four(dtype::q4_0, 16, 128, random), eight(dtype::q8_0, 16, 128, random),
      plain(dtype::bf16, 16, 128, random);
  const auto packed = [](loader& l, std::vector<weight_slice> slices, weight_role role,
                         const prepare_options& options = {}) {
    const auto w = l.uploader.prepare(slices, role, options);
    l.uploader.finish();
    return w->packed();
  };
  const auto a = four.slice(), b = eight.slice(), c = plain.slice();
  for (const auto role : {weight_role::matrix, weight_role::head, weight_role::embedding}) {
    CHECK(packed(sixteen, {a}, role));
    CHECK(!packed(sixteen, {c}, role));
    CHECK(!packed(sixteen, {a, c}, role));
    CHECK(!packed(sixteen, {a}, role, {true}));
    CHECK(!packed(sixteen, {a}, role, {false, true}));
    CHECK(!packed(single, {a}, role));
    CHECK(packed(sixteen, {part(four, 1, 9, 32, 64)}, role));
    CHECK(!packed(sixteen, {part(four, 0, 16, 16, 80)}, role));
    CHECK(!packed(sixteen, {part(four, 0, 16, 32, 80)}, role));
    CHECK(packed(sixteen, {a, b}, role) == (role != weight_role::embedding));
  }
  CHECK(packed(sixteen, {a, a}, weight_role::gate_up));
  CHECK(!packed(sixteen, {a, b}, weight_role::gate_up));
  CHECK(!packed(sixteen, {part(four, 0, 1, 0, 128)}, weight_role::vector));
}

TEST_CASE("vectors are f32, made-up slices are made up, and empty ones are nothing") {
  auto random = seeded(633);
  loader l(dtype::f16);
  const stored_matrix a(dtype::bf16, 1, 77, random), b(dtype::f32, 2, 5, random);
  const std::vector<weight_slice> vectors{a.slice(), b.slice()};
  const auto v = l.uploader.prepare(vectors, weight_role::vector, {});
  weight_slice made;
  made.stored_columns = 100;
  made.row_begin = 4;
  made.row_end = 9;
  made.column_begin = 20;
  made.column_end = 90;
  made.made_up = {5, 0x1p-8F, 0};
  const auto m = l.uploader.prepare({&made, 1}, weight_role::matrix, {});
  made.row_end = 4;
  const auto none = l.uploader.prepare({&made, 1}, weight_role::matrix, {});
  l.uploader.finish();
  auto right = a.expanded();
  const auto rest = b.expanded();
  right.insert(right.end(), rest.begin(), rest.end());
  CHECK(v->rows() == 1);
  CHECK(v->columns() == 87);
  CHECK(v->type() == dtype::f32);
  check_same("vector", contents(*v), right, 87);
  right.clear();
  for (std::uint64_t r = 4; r < 9; ++r) {
    for (std::uint64_t c = 20; c < 90; ++c)
      right.push_back(made_up_value(made.made_up, r * 100 + c));
  }
  check_same("made up", contents(*m), right, 70);
  CHECK(none->rows() == 0);
  CHECK(none->bytes() == 0);
}

TEST_CASE("weights larger than one upload come in pieces, and rows longer than one are cut") {
  auto random = seeded(634);
  loader l(dtype::f32);
  const stored_matrix tall(dtype::f32, 3000, 2048, random);              // 24 MB
  const stored_matrix wide(dtype::f32, 2, 5 * 1024 * 1024 + 3, random);  // 20 MB a row
  const auto cut = part(tall, 1, 3000, 8, 2048);
  const auto a = l.uploader.prepare({&cut, 1}, weight_role::matrix, {});
  const auto slice = wide.slice();
  const auto b = l.uploader.prepare({&slice, 1}, weight_role::vector, {});
  l.uploader.finish();
  CHECK(contents(*a) == expanded(tall, cut));
  CHECK(contents(*b) == wide.expanded());
}

TEST_CASE("a failure on the way is told once, by the next call, and leaves nothing behind") {
  auto random = seeded(635);
  const stored_matrix m(dtype::q8_0, 64, 256, random);
  const auto slice = m.slice();
  for (const int good : {0, 1, 2, 3, 4}) {  // stream, two events, pinned, staged
    {
      loader l(dtype::bf16);
      failing = good;
      const auto w = l.uploader.prepare({&slice, 1}, weight_role::matrix, {});
      CHECK_THROWS_AS(l.uploader.finish(), device_error);
      failing = -1;
      CHECK_NOTHROW(l.uploader.finish());
      const auto again = l.uploader.prepare({&slice, 1}, weight_role::matrix, {true});
      CHECK_NOTHROW(l.uploader.finish());
      check_same("again", contents(*again), rounded(m.expanded(), dtype::bf16), 256);
    }
    CHECK(allocations == 0);
  }
}

TEST_CASE("weights may go before they are there") {
  auto random = seeded(636);
  const stored_matrix m(dtype::f16, 512, 2048, random);
  const auto slice = m.slice();
  loader l(dtype::bf16);
  for (int i = 0; i < 5; ++i) {
    const auto dropped = l.uploader.prepare({&slice, 1}, weight_role::matrix, {});
  }
  const auto kept = l.uploader.prepare({&slice, 1}, weight_role::matrix, {});
  l.uploader.finish();
  check_same("kept", contents(*kept), rounded(m.expanded(), dtype::bf16), 2048);
  CHECK(allocations == 0);
}
