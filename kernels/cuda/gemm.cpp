// SPDX-License-Identifier: Apache-2.0
// gemm: descriptors for cuBLASLt, and who may compute what. Measurements are in gemm_measure.cpp.
//
// cuBLASLt counts in columns: our row-major [rows, k] is its column-major [k, rows]. So it computes
// out^T = w x^T, with the first operand transposed, and n is its number of rows. Split-k is welcome
// where the parts are added in f32; in the type of `out` they would be rounded again and again.
#include "kernels/cuda/gemm.hpp"

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/gemm_exact.hpp"
#include "kernels/cuda/gemm_fp8.hpp"
#include "kernels/cuda/gemm_skinny.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace dinfer::kernels::cuda {

namespace {

constexpr std::size_t smallest_space = std::size_t{32} << 20;
constexpr std::uintptr_t alignment = 16;  // of every row, for cuBLASLt's good kernels

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw device_error(status == CUBLAS_STATUS_ALLOC_FAILED ? errc::out_of_memory : errc::internal,
                     std::string(what) + ": " + cublasLtGetStatusName(status));
}

cudaDataType_t type_of(dtype type) {
  switch (type) {
    case dtype::bf16:
      return CUDA_R_16BF;
    case dtype::f16:
      return CUDA_R_16F;
    case dtype::f8_e4m3:
      return CUDA_R_8F_E4M3;
    default:
      return CUDA_R_32F;
  }
}

struct descriptors {
  cublasLtMatmulDescOpaque_t operation{};
  cublasLtMatrixLayoutOpaque_t w{}, x{}, out{};

  descriptors(const product& p, gemm_way way) {
    const auto rows = static_cast<std::uint64_t>(way == gemm_way::padded ? padded_rows : p.rows);
    const auto n = static_cast<std::uint64_t>(p.n), k = static_cast<std::uint64_t>(p.k);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDesc");
    set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    if (p.type == dtype::f8_e4m3) {
      const std::int32_t of_rows = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
      // Rounding to three bits of mantissa costs far more than sums that the tensor cores keep.
      const std::int8_t in_tensor_cores = 1;
      set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, in_tensor_cores);
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, of_rows);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, of_rows);
      set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.w_scales);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.x_scales);
    }
    check(cublasLtMatrixLayoutInit(&w, type_of(p.type), k, n, p.ldw), "cublasLtMatrixLayout");
    check(cublasLtMatrixLayoutInit(&x, type_of(p.type), k, rows, p.ldx), "cublasLtMatrixLayout");
    check(cublasLtMatrixLayoutInit(&out, type_of(p.out_type), n, rows, p.ldo),
          "cublasLtMatrixLayout");
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }
};

template <class Value>
void prefer(cublasLtMatmulPreferenceOpaque_t& preference,
            cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
  check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

cublasLtMatmulAlgo_t algorithm_of(const gemm_choice& choice) {
  cublasLtMatmulAlgo_t algorithm;
  static_assert(sizeof algorithm == sizeof choice.algorithm);
  std::memcpy(&algorithm, choice.algorithm.data(), sizeof algorithm);
  return algorithm;
}

bool aligned(const void* data, std::int64_t stride, dtype type) {
  return (reinterpret_cast<std::uintptr_t>(data) |
          static_cast<std::uintptr_t>(stride * info(type).block_bytes)) %
             alignment ==
         0;
}

// By our own kernels, for any product.
void multiply_ourselves(const product& p, cudaStream_t stream) {
  p.type == dtype::f8_e4m3 ? multiply_fp8(p, stream) : multiply_exact(p, stream);
}

swapped_plan plan_of(const gemm_choice& choice) {
  const auto number = [](std::uint64_t v) {
    return static_cast<std::int32_t>(std::min<std::uint64_t>(v, 1 << 30));
  };
  return {number(choice.algorithm[0]), number(choice.algorithm[1])};
}

}  // namespace

std::size_t gemm::wanted_space_bytes() {
  int device = 0, cache = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "size of the cache");
  return std::max(smallest_space, static_cast<std::size_t>(cache) / 2 * 3);
}

gemm::gemm(cudaStream_t stream, void* space, std::size_t space_bytes, gemm_options options)
    : stream_(stream), space_(space), space_bytes_(space_bytes), options_(std::move(options)) {
  if (options_.exact) return;
  constexpr std::size_t counter_bytes = swapped_counters * sizeof(std::uint32_t);
  if (options_.hopper_multiprocessors > 0 && space_bytes > 2 * counter_bytes) {
    space_bytes_ = (space_bytes - counter_bytes) / 256 * 256;
    counters_ = reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(space) + space_bytes_);
  }
  check(cublasLtCreate(&library_), "cublasLtCreate");
  if (!options_.tuning_directory.empty()) {
    path_ = tuning_path(options_.tuning_directory, options_.device_name, cublasLtGetVersion());
    load();
  }
}

gemm::~gemm() {
  if (start_ != nullptr) cudaEventDestroy(start_);
  if (stop_ != nullptr) cudaEventDestroy(stop_);
  if (library_ != nullptr) cublasLtDestroy(library_);
}

bool gemm::library_takes(const product& p) const noexcept {
  if (p.type == dtype::f8_e4m3 && p.out_type != dtype::bf16) return false;
  return library_ != nullptr && p.type != dtype::f32 && p.k > 0 && aligned(p.x, p.ldx, p.type) &&
         aligned(p.w, p.ldw, p.type) && aligned(p.out, p.ldo, p.out_type);
}

bool gemm::skinny_plays(const product& p) const noexcept {
  return library_ != nullptr && (p.type == dtype::f8_e4m3 || skinny_takes(p));
}

bool gemm::skinny_races(const product& p) const noexcept {
  return skinny_plays(p) && (p.type != dtype::f8_e4m3 || p.rows <= few_fp8_rows);
}

bool gemm::swapped_races(const product& p) const noexcept {
  return counters_ != nullptr && swapped_takes(p);
}

swapped_space gemm::shared_tiles() const noexcept { return {space_, space_bytes_, counters_}; }

bool gemm::capturing() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

void gemm::multiply(const product& p) {
  if (p.rows <= 0 || p.n <= 0) return;
  const gemm_choice* choice = library_takes(p) || swapped_races(p) ? choose(p) : nullptr;
  if (choice == nullptr) return multiply_ourselves(p, stream_);
  check(static_cast<cublasStatus_t>(try_run(p, *choice)), "cublasLtMatmul");
}

bool gemm::multiply_swiglu(const product& p, void* gated) {
  if (library_ == nullptr) return false;
  product fused = p;
  fused.out = gated;
  fused.ldo = p.n / 2;
  if (skinny_takes(p)) {
    multiply_skinny_swiglu(fused, stream_);
    return true;
  }
  if (!swapped_races(p) || p.type == dtype::f8_e4m3 || p.n % 16 != 0 ||
      !aligned(gated, fused.ldo, p.out_type)) {
    return false;
  }
  const gemm_choice* choice = choose(p);
  if (choice == nullptr || choice->way != gemm_way::swapped) return false;
  multiply_swapped_swiglu(fused, plan_of(*choice), shared_tiles(), stream_);
  return true;
}

// Null: nobody but multiply_ourselves can.
const gemm_choice* gemm::choose(const product& p) {
  const auto bucket = tuning_bucket(p.rows);
  const auto found = table_.find(shape_of(p, bucket));
  const gemm_choice* choice = found == table_.end() ? nullptr : &found->second;
  // What is fastest for 232 rows may compute 256 in two goes, and whole buckets are what recorded
  // steps and full chunks hold: they have the last word.
  const bool partial = choice != nullptr && p.rows == bucket && choice->measured_rows < bucket;
  if ((choice == nullptr || partial) && !capturing())
    if (const auto* measured = measure(p)) choice = measured;
  if (choice != nullptr && (choice->measured_rows == p.rows || fits(p, *choice))) return choice;
  return guess(p);
}

const gemm_choice* gemm::guess(const product& p) {
  const auto shape = shape_of(p, p.rows);
  auto found = guesses_.find(shape);
  if (found == guesses_.end()) {
    auto first = skinny_races(p) ? std::vector{choice_of(p, gemm_way::skinny)}
                                 : suggestions(p, gemm_way::library, 1);
    if (first.empty() && skinny_plays(p)) first.push_back(choice_of(p, gemm_way::skinny));
    if (first.empty()) return nullptr;
    found = guesses_.emplace(shape, first[0]).first;
  }
  return &found->second;
}

std::vector<gemm_choice> gemm::suggestions(const product& p, gemm_way way, int most) const {
  if (!library_takes(p)) return {};
  descriptors d(p, way);
  cublasLtMatmulPreferenceOpaque_t preference{};
  check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
  prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{space_bytes_});
  prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(preference, operand, std::uint32_t{alignment});
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(most));
  int count = 0;
  const auto status =
      cublasLtMatmulAlgoGetHeuristic(library_, &d.operation, &d.w, &d.x, &d.out, &d.out,
                                     &preference, most, results.data(), &count);
  // Scales of rows are of Hopper alone so far; how others refuse them is not written down.
  const bool refused = p.type == dtype::f8_e4m3 && status == CUBLAS_STATUS_INVALID_VALUE;
  if (refused || status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  std::vector<gemm_choice> choices;
  for (int i = 0; i < count; ++i) {
    const auto& result = results[static_cast<std::size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS || result.workspaceSize > space_bytes_) continue;
    gemm_choice choice = choice_of(p, way);
    std::memcpy(choice.algorithm.data(), &result.algo, sizeof result.algo);
    choices.push_back(choice);
  }
  return choices;
}

bool gemm::fits(const product& p, const gemm_choice& choice) const {
  if (choice.way == gemm_way::skinny) return skinny_plays(p);
  if (choice.way == gemm_way::swapped) {
    return swapped_races(p) &&
           swapped_fits(p, plan_of(choice), options_.hopper_multiprocessors, space_bytes_);
  }
  if (choice.way == gemm_way::padded && (!p.spare_rows || p.rows > padded_rows)) return false;
  descriptors d(p, choice.way);
  const auto algorithm = algorithm_of(choice);
  cublasLtMatmulHeuristicResult_t result{};
  const auto status = cublasLtMatmulAlgoCheck(library_, &d.operation, &d.w, &d.x, &d.out, &d.out,
                                              &algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= space_bytes_;
}

int gemm::try_run(const product& p, const gemm_choice& choice) {
  if (choice.way == gemm_way::skinny) {
    p.type == dtype::f8_e4m3 ? multiply_fp8(p, stream_) : multiply_skinny(p, stream_);
    return CUBLAS_STATUS_SUCCESS;
  }
  if (choice.way == gemm_way::swapped) {
    multiply_swapped(p, plan_of(choice), shared_tiles(), stream_);
    return CUBLAS_STATUS_SUCCESS;
  }
  descriptors d(p, choice.way);
  const auto algorithm = algorithm_of(choice);
  const float one = 1, zero = 0;
  return cublasLtMatmul(library_, &d.operation, &one, p.w, &d.w, p.x, &d.x, &zero, p.out, &d.out,
                        p.out, &d.out, &algorithm, space_, space_bytes_, stream_);
}

}  // namespace dinfer::kernels::cuda
