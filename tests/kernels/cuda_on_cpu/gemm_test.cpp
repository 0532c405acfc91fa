// SPDX-License-Identifier: Apache-2.0
// How gemm chooses, over a stand-in for cuBLASLt whose algorithms take as long as the test says:
// that the fastest is taken and kept, that nothing is measured during capture, and what happens
// when an algorithm fails or a file is damaged. Kernels of ours run on the host.
#include "kernels/cuda/gemm.hpp"

#include "kernels/cuda/read_through.hpp"
#include "kernels/cuda/types.cuh"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

#include <cublasLt.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace dinfer::tests {
namespace {

using namespace kernels;
using namespace kernels::cuda;

// Algorithm i is {i, padded, rows it was suggested for}.
struct fake_library {
  std::vector<float> ms{0.4F, 0.2F, 0.1F, 0.3F};  // by algorithm
  std::vector<float> padded_ms;                   // when there are 8 rows and more were asked for
  std::set<std::uint64_t> broken;                 // fail when run
  float skinny_ms = 1;
  std::uint64_t most_rows = 1 << 30;  // that any algorithm takes, when it is checked
  bool capturing = false;
  int asked = 0;                    // for suggestions
  std::vector<std::uint64_t> runs;  // algorithms
  std::vector<std::uint64_t> run_rows;
  const float* scales[2] = {};  // of rows, of the operands of the product to come
  double clock = 0;
  std::map<cudaEvent_t, double> events;
};
fake_library fake;

struct fake_layout {
  std::uint64_t type, rows, columns, stride;
};
const fake_layout& layout(cublasLtMatrixLayout_t l) {
  return *reinterpret_cast<const fake_layout*>(l);
}

float f8_at(const void* data, std::uint64_t i) {
  const auto code = static_cast<const __nv_fp8_storage_t*>(data)[i];
  return to_float(f16(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
}

// The same of 8-bit floats, whose out is bf16.
void fake_f8_product(const void* a, const fake_layout& la, const void* b, const fake_layout& lb,
                     void* d, const fake_layout& ld) {
  for (std::uint64_t column = 0; column < ld.columns; ++column) {
    for (std::uint64_t row = 0; row < ld.rows; ++row) {
      float sum = 0;
      for (std::uint64_t k = 0; k < la.rows; ++k)
        sum += f8_at(a, row * la.stride + k) * f8_at(b, column * lb.stride + k);
      static_cast<bf16*>(d)[column * ld.stride + row] =
          from_float<bf16>(sum * fake.scales[0][row] * fake.scales[1][column]);
    }
  }
}

// Column-major, first operand transposed, as gemm promises to ask for.
void fake_product(const void* a, const fake_layout& la, const void* b, const fake_layout& lb,
                  void* d, const fake_layout& ld) {
  if (la.type == CUDA_R_8F_E4M3) return fake_f8_product(a, la, b, lb, d, ld);
  for (std::uint64_t column = 0; column < ld.columns; ++column) {
    for (std::uint64_t row = 0; row < ld.rows; ++row) {
      float sum = 0;
      for (std::uint64_t k = 0; k < la.rows; ++k) {
        sum += to_float(static_cast<const bf16*>(a)[row * la.stride + k]) *
               to_float(static_cast<const bf16*>(b)[column * lb.stride + k]);
      }
      const std::uint64_t at = column * ld.stride + row;
      if (ld.type == CUDA_R_32F) static_cast<float*>(d)[at] = sum;
      else static_cast<bf16*>(d)[at] = from_float<bf16>(sum);
    }
  }
}

}  // namespace
}  // namespace dinfer::tests

using dinfer::tests::fake;
using dinfer::tests::layout;

extern "C" {
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(&fake);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
std::size_t cublasLtGetVersion() { return 1; }
const char* cublasLtGetStatusName(cublasStatus_t) { return "CUBLAS_STATUS_OF_THE_TEST"; }
cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t, std::size_t,
                                               cublasComputeType_t, cudaDataType_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t) {
  const bool first = attribute == CUBLASLT_MATMUL_DESC_A_SCALE_POINTER;
  if (first || attribute == CUBLASLT_MATMUL_DESC_B_SCALE_POINTER)
    fake.scales[first ? 0 : 1] = *static_cast<const float* const*>(value);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t, std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, std::size_t,
                                                 cudaDataType type, std::uint64_t rows,
                                                 std::uint64_t columns, std::int64_t stride) {
  l->data[0] = static_cast<std::uint64_t>(type);
  l->data[1] = rows;
  l->data[2] = columns;
  l->data[3] = static_cast<std::uint64_t>(stride);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int most,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  ++fake.asked;
  const bool padded = !fake.padded_ms.empty() && layout(d).columns == 8;
  const auto& ms = padded ? fake.padded_ms : fake.ms;
  *count = std::min(most, static_cast<int>(ms.size()));
  for (int i = 0; i < *count; ++i) {
    results[i] = {};
    results[i].algo = {{static_cast<std::uint64_t>(i), padded, layout(d).columns}};
  }
  return ms.empty() ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t*,
                                       cublasLtMatmulHeuristicResult_t* result) {
  result->workspaceSize = 0;
  return layout(d).columns <= fake.most_rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void* a,
                              cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb,
                              const void*, const void*, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t* algo, void*,
                              std::size_t, cudaStream_t) {
  if (fake.broken.contains(algo->data[0])) return CUBLAS_STATUS_NOT_SUPPORTED;
  dinfer::tests::fake_product(a, layout(la), b, layout(lb), d, layout(ld));
  fake.runs.push_back(algo->data[0]);
  fake.run_rows.push_back(layout(ld).columns);
  fake.clock += static_cast<double>((algo->data[1] ? fake.padded_ms : fake.ms)[algo->data[0]]);
  return CUBLAS_STATUS_SUCCESS;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  static std::uintptr_t made = 0;
  *event = reinterpret_cast<cudaEvent_t>(++made);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  fake.events[event] = fake.clock;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  const double passed = fake.events[to] - fake.events[from];
  *ms = passed == 0 ? fake.skinny_ms : static_cast<float>(passed);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = fake.capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 50 << 20;
  return cudaSuccess;
}
}  // extern "C"

namespace dinfer::tests {
namespace {

// x = 1, w[i] = i + 1: every out[r][i] is k (i + 1), where k is small enough to be exact.
struct problem {
  std::int64_t n, k;
  std::vector<bf16> x, w;
  std::vector<float> out;

  problem(std::int64_t rows, std::int64_t outputs, std::int64_t depth) : n(outputs), k(depth) {
    x.assign(static_cast<std::size_t>(rows * k), from_float<bf16>(1));
    for (std::int64_t i = 0; i < n * k; ++i) {
      w.push_back(from_float<bf16>(static_cast<float>(i / k + 1)));
    }
    out.resize(static_cast<std::size_t>(rows * n));
  }
  product over(std::int64_t rows) {
    std::fill(out.begin(), out.end(), NAN);
    auto p = dense_product(view(x.data(), dtype::bf16, rows, k), w.data(), n,
                           view(out.data(), dtype::f32, rows, n));
    return p;
  }
  bool right(std::int64_t rows) const {
    for (std::int64_t i = 0; i < rows * n; ++i) {
      if (out[static_cast<std::size_t>(i)] != static_cast<float>(k * (i % n + 1))) return false;
    }
    return true;
  }
};

constexpr std::size_t space_bytes = 1024;
alignas(256) unsigned char space[space_bytes];

gemm_options options_in(const std::string& directory) {
  gemm_options options;
  options.tuning_directory = directory;
  options.device_name = "test";
  return options;
}

TEST_CASE("the fastest algorithm is found once and used from then on") {
  fake = {};
  problem it(20, 24, 40);
  gemm g(nullptr, space, space_bytes, {});
  g.multiply(it.over(16));
  CHECK(it.right(16));
  CHECK(fake.runs.back() == 2);
  REQUIRE(g.tunings().size() == 1);
  CHECK(g.tunings().begin()->second.microseconds == Approx(100));
  fake.runs.clear();
  g.multiply(it.over(16));
  g.multiply(it.over(13));  // the same bucket
  CHECK(it.right(13));
  CHECK(fake.runs == std::vector<std::uint64_t>{2, 2});
  CHECK(fake.run_rows.back() == 13);
  CHECK(fake.asked == 1);
  g.multiply(it.over(20));  // another
  CHECK(fake.asked == 2);
}

TEST_CASE("measuring ends when its time is spent, and every candidate's first run is for nothing") {
  fake = {};
  fake.ms.assign(16, 3);  // budget 12 ms, 7.2 of them for the first round
  fake.ms[1] = 2;
  problem it(16, 8, 40);
  gemm g(nullptr, space, space_bytes, {});
  g.multiply(it.over(16));
  CHECK(fake.runs.back() == 1);
  CHECK(fake.runs.size() < 12);
}

TEST_CASE("nothing is measured during capture: the library's first suggestion is taken") {
  fake = {};
  problem it(16, 24, 40);
  gemm g(nullptr, space, space_bytes, {});
  fake.capturing = true;
  g.multiply(it.over(16));
  g.multiply(it.over(16));
  CHECK(it.right(16));
  CHECK(fake.runs == std::vector<std::uint64_t>{0, 0});
  CHECK(fake.asked == 1);
  CHECK(g.tunings().empty());
  fake.capturing = false;
  g.multiply(it.over(16));
  CHECK(fake.runs.back() == 2);
  fake.capturing = true;
  g.multiply(it.over(16));
  CHECK(fake.runs.back() == 2);
}

TEST_CASE("an algorithm that does not take as many rows as its bucket has is replaced") {
  fake = {};
  problem it(16, 24, 40);
  gemm g(nullptr, space, space_bytes, {});
  g.multiply(it.over(13));
  fake.most_rows = 14;
  g.multiply(it.over(15));
  CHECK(it.right(15));
  CHECK(fake.runs.back() == 0);
  g.multiply(it.over(14));
  CHECK(fake.runs.back() == 2);
}

TEST_CASE("algorithms that fail are passed over; without any the product is ours") {
  fake = {};
  fake.broken = {2, 1};
  problem it(16, 24, 40);
  gemm g(nullptr, space, space_bytes, {});
  g.multiply(it.over(16));
  CHECK(it.right(16));
  CHECK(fake.runs.back() == 3);
  fake = {};
  fake.ms.clear();
  gemm none(nullptr, space, space_bytes, {});
  none.multiply(it.over(16));
  CHECK(it.right(16));
  CHECK(fake.runs.empty());
}

TEST_CASE("few rows: the skinny kernel and eight rows for one take part") {
  fake = {};
  problem it(8, 32, 64);
  gemm g(nullptr, space, space_bytes, {});
  fake.skinny_ms = 0.05F;
  g.multiply(it.over(4));
  CHECK(it.right(4));
  CHECK(g.tunings().begin()->second.way == gemm_way::skinny);
  fake.runs.clear();
  g.multiply(it.over(3));
  CHECK(it.right(3));
  CHECK(fake.runs.empty());

  fake.skinny_ms = 1;
  fake.padded_ms = {0.05F};
  auto p = it.over(1);
  p.spare_rows = true;
  g.multiply(p);
  CHECK(it.right(1));
  CHECK(fake.run_rows.back() == 8);
  p = it.over(1);
  g.multiply(p);  // nothing may be written past its row
  CHECK(it.right(1));
  CHECK(fake.run_rows.back() == 1);
}

// Zeros at first, and enough for what swapped products share.
alignas(256) unsigned char large_space[4 << 20];

gemm_options hopper(const std::string& directory = "") {
  gemm_options options = options_in(directory);
  options.hopper_multiprocessors = 3;
  return options;
}

TEST_CASE("rows of a decoding step: swapped products take part on Hopper, and are kept") {
  fake = {};
  const temporary_folder folder;
  problem it(129, 160, 72);
  fake.skinny_ms = 0.05F;  // of any kernel of ours
  gemm g(nullptr, large_space, sizeof large_space, hopper(folder.path("")));
  for (const std::int64_t rows : {9, 40, 128}) {
    g.multiply(it.over(rows));
    CHECK(it.right(rows));
    REQUIRE(g.tunings().contains(shape_of(it.over(rows), tuning_bucket(rows))));
    CHECK(g.tunings().at(shape_of(it.over(rows), tuning_bucket(rows))).way == gemm_way::swapped);
  }
  fake.runs.clear();
  g.multiply(it.over(33));  // of 40's bucket
  CHECK(it.right(33));
  gemm again(nullptr, large_space, sizeof large_space, hopper(folder.path("")));
  CHECK(again.tunings().size() == 3);
  again.multiply(it.over(128));
  CHECK(it.right(128));
  CHECK(fake.runs.empty());
  g.multiply(it.over(129));  // too many
  CHECK(it.right(129));
  CHECK(!fake.runs.empty());
  gemm other(nullptr, large_space, sizeof large_space, options_in(folder.path("")));
  CHECK(other.tunings().size() == 1);  // the rest is of no use to another GPU
  gemm narrow(nullptr, space, space_bytes, hopper());
  narrow.multiply(it.over(40));  // no space to share tiles in
  CHECK(narrow.tunings().begin()->second.way == gemm_way::library);
}

TEST_CASE("a whole bucket is measured again when fewer of its rows were measured first") {
  fake = {};
  problem it(64, 40, 72);
  gemm g(nullptr, space, space_bytes, options_in(""));
  const auto measured = [&] { return g.tunings().begin()->second.measured_rows; };
  g.multiply(it.over(36));
  CHECK(measured() == 36);
  fake.runs.clear();
  g.multiply(it.over(40));
  CHECK(it.right(40));
  CHECK(fake.runs.size() == 1);  // more rows, not all
  CHECK(measured() == 36);
  g.multiply(it.over(48));
  CHECK(it.right(48));
  CHECK(measured() == 48);
  CHECK(g.tunings().size() == 1);
  fake.runs.clear();
  g.multiply(it.over(48));
  g.multiply(it.over(36));
  CHECK(it.right(36));
  CHECK(fake.runs.size() == 2);
}

TEST_CASE("gate and up become one product where a swapped one was the fastest") {
  fake = {};
  fake.skinny_ms = 0.05F;
  constexpr std::int64_t n = 64, k = 40, rows = 20;
  std::vector<bf16> x(rows * k, from_float<bf16>(0.125F)), w(n * k, from_float<bf16>(0.25F)),
      both(rows * n), out(rows * n / 2);
  const auto p = dense_product(view(x.data(), dtype::bf16, rows, k), w.data(), n,
                               view(both.data(), dtype::bf16, rows, n));
  gemm g(nullptr, large_space, sizeof large_space, hopper());
  REQUIRE(g.multiply_swiglu(p, out.data()));
  const float each = 40 * 0.125F * 0.25F, right = each / (1 + std::exp(-each)) * each;
  for (const bf16 v : out) CHECK(to_float(v) == Approx(right).epsilon(0x1p-8));
  fake.skinny_ms = 1;
  gemm slow(nullptr, large_space, sizeof large_space, hopper());
  CHECK(!slow.multiply_swiglu(p, out.data()));
  gemm other(nullptr, space, space_bytes, {});
  CHECK(!other.multiply_swiglu(p, out.data()));
}

TEST_CASE("what cuBLASLt is not asked for") {
  fake = {};
  problem it(3, 9, 7);  // rows of 14 bytes
  gemm g(nullptr, space, space_bytes, {});
  g.multiply(it.over(3));
  CHECK(it.right(3));
  gemm_options exact;
  exact.exact = true;
  exact.hopper_multiprocessors = 3;
  problem even(16, 24, 40);
  gemm e(nullptr, space, space_bytes, exact);
  e.multiply(even.over(16));
  CHECK(even.right(16));
  CHECK(!e.multiply_swiglu(even.over(2), even.out.data()));
  CHECK(fake.asked == 0);
}

TEST_CASE("8-bit floats go the same ways, with scales of rows on both sides") {
  constexpr std::int64_t n = 32, k = 48, most = 40;
  std::vector<std::uint8_t> x(most * k, 0x38), w(n * k, 0x40);  // ones and twos
  std::vector<float> x_scales, w_scales;
  for (int i = 0; i < most; ++i) x_scales.push_back(static_cast<float>(i % 4 + 1));
  for (int i = 0; i < n; ++i) w_scales.push_back(static_cast<float>(i % 8 + 1));
  std::vector<bf16> out;
  const auto over = [&](std::int64_t rows) {
    out.assign(static_cast<std::size_t>(most * n), from_float<bf16>(NAN));
    auto p = dense_product(view(x.data(), dtype::f8_e4m3, rows, k), w.data(), n,
                           view(out.data(), dtype::bf16, rows, n));
    p.x_scales = x_scales.data();
    p.w_scales = w_scales.data();
    return p;
  };
  const auto right = [&](std::int64_t rows) {
    for (std::int64_t i = 0; i < most * n; ++i) {
      const float got = to_float(out[static_cast<std::size_t>(i)]);
      const auto value = static_cast<float>(2 * k * (i / n % 4 + 1) * (i % n % 8 + 1));
      if (i < rows * n ? got != to_float(from_float<bf16>(value)) : !std::isnan(got)) return false;
    }
    return true;
  };
  fake = {};
  gemm g(nullptr, space, space_bytes, {});
  fake.skinny_ms = 0.05F;
  g.multiply(over(12));  // ours is the fastest
  CHECK(right(12));
  CHECK(g.tunings().begin()->second.way == gemm_way::skinny);
  g.multiply(over(40));  // and does not take part
  CHECK(right(40));
  CHECK(fake.runs.back() == 2);
  CHECK(!g.multiply_swiglu(over(1), out.data()));
  fake = {};
  fake.ms.clear();  // a GPU whose library knows no such scales
  gemm none(nullptr, space, space_bytes, {});
  gemm_options exact;
  exact.exact = true;
  gemm own(nullptr, space, space_bytes, exact);
  for (gemm* each : {&none, &own}) {
    for (const std::int64_t rows : {3, 40}) {
      each->multiply(over(rows));
      CHECK(right(rows));
    }
  }
  CHECK(fake.runs.empty());
}

TEST_CASE("what was measured is kept in a file, beside what others measured") {
  fake = {};
  const temporary_folder folder;
  problem it(32, 24, 40);
  gemm first(nullptr, space, space_bytes, options_in(folder.path("")));
  gemm second(nullptr, space, space_bytes, options_in(folder.path("")));
  first.multiply(it.over(16));
  second.multiply(it.over(32));
  gemm third(nullptr, space, space_bytes, options_in(folder.path("")));
  CHECK(third.tunings().size() == 2);
  fake.asked = 0;
  fake.capturing = true;
  third.multiply(it.over(16));
  CHECK(fake.runs.back() == 2);
  CHECK(fake.asked == 0);
  fake.most_rows = 16;  // another GPU, say
  gemm fourth(nullptr, space, space_bytes, options_in(folder.path("")));
  CHECK(fourth.tunings().size() == 1);

  folder.write("test-cublaslt-1.txt", "damaged");
  gemm fifth(nullptr, space, space_bytes, options_in(folder.path("")));
  CHECK(fifth.tunings().empty());
}

}  // namespace
}  // namespace dinfer::tests
