// SPDX-License-Identifier: Apache-2.0
// Matrix products of a device, by whoever was fastest here: one of cuBLASLt's algorithms, for few
// rows multiply_skinny, or for a decoding step's multiply_swapped; and by multiply_exact where rows
// must not know of each other or the others do not apply. Of 8-bit floats multiply_fp8 is in the
// place of multiply_skinny and multiply_exact. One object for a device, used by its thread; calls
// are asynchronous on the stream, but for those that measure.
#pragma once

#include "kernels/cuda/gemm_swapped.hpp"
#include "kernels/cuda/gemm_tuning.hpp"
#include "kernels/cuda/product.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

struct cublasLtContext;  // of cublasLt.h

namespace dinfer::kernels::cuda {

struct gemm_options {
  std::string tuning_directory;  // empty: what is measured is not kept
  std::string device_name;       // goes into the file's name
  bool exact = false;            // every product by multiply_exact; cuBLASLt is not even opened
  std::int32_t hopper_multiprocessors = 0;  // of compute capability 9.0; 0: of any other
};

class gemm {
 public:
  // What `space` should have on the current device: cuBLASLt's workspace, which is also read from
  // end to end before every measurement to drive weights out of the L2 cache.
  static std::size_t wanted_space_bytes();

  // `space` is device memory, 256-byte aligned, zeros at first, used by this object alone and only
  // in stream order. A damaged tuning file is ignored, with a line on stderr. Throws
  // device_error.
  gemm(cudaStream_t stream, void* space, std::size_t space_bytes, gemm_options options);
  ~gemm();
  gemm(const gemm&) = delete;
  gemm& operator=(const gemm&) = delete;

  // Any of bf16, f16 and f32, any shape; f8_e4m3 as multiply_fp8 takes it. The first product of a
  // shape and tuning bucket (outside of stream capture) is used to measure up to two dozen ways, on
  // its own operands: it writes the same `out` again and again and waits for the stream, for about
  // 10 ms, or 50 ms above 512 rows.
  void multiply(const product& p);
  // silu(gate) * up of p's columns, as multiply_skinny_swiglu, to `gated` [rows, n / 2], where a
  // kernel can; else false. p is measured as multiply() does.
  bool multiply_swiglu(const product& p, void* gated);

  const tuning_table& tunings() const noexcept { return table_; }

 private:
  struct candidate;

  bool library_takes(const product& p) const noexcept;
  bool skinny_plays(const product& p) const noexcept;  // our kernel for few rows can have it
  bool skinny_races(const product& p) const noexcept;  // and may be the fastest
  bool swapped_races(const product& p) const noexcept;
  swapped_space shared_tiles() const noexcept;
  bool capturing() const;
  const gemm_choice* choose(const product& p);
  const gemm_choice* guess(const product& p);
  std::vector<gemm_choice> suggestions(const product& p, gemm_way way, int most) const;
  bool fits(const product& p, const gemm_choice& choice) const;
  int try_run(const product& p, const gemm_choice& choice);  // cublasStatus_t
  const gemm_choice* measure(const product& p);
  std::optional<float> time_once(const product& p, const gemm_choice& choice);
  void time_all(const product& p, std::vector<candidate>& candidates);
  void load();
  void save();

  cudaStream_t stream_;
  void* space_;
  std::size_t space_bytes_;            // less the counters
  std::uint32_t* counters_ = nullptr;  // at the end of `space`, where there is enough of it
  gemm_options options_;
  std::string path_;
  cublasLtContext* library_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
  tuning_table table_;    // measured, by bucket
  tuning_table guesses_;  // unmeasured, by number of rows
};

}  // namespace dinfer::kernels::cuda
