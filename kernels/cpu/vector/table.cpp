// SPDX-License-Identifier: Apache-2.0
// Lists the variants that were compiled and that this machine can run. This file is compiled once,
// for the baseline.
#include "kernels/cpu/vector/kernels.hpp"

#include <vector>

#define DINFER_ISA portable
#include "kernels/cpu/vector/variant.inc"
#undef DINFER_ISA
#if defined(__x86_64__)
#define DINFER_ISA avx2
#include "kernels/cpu/vector/variant.inc"
#undef DINFER_ISA
#define DINFER_ISA avx512
#include "kernels/cpu/vector/variant.inc"
#undef DINFER_ISA
#endif

namespace dinfer::kernels::cpu {

namespace {

constexpr kernel_table portable_table = DINFER_VARIANT_TABLE("baseline", portable, portable);

std::vector<const kernel_table*> detect() {
  std::vector<const kernel_table*> tables;
#if defined(__x86_64__)
  static constexpr kernel_table avx512_table = DINFER_VARIANT_TABLE("AVX-512", avx512, avx2);
  static constexpr kernel_table avx2_table = DINFER_VARIANT_TABLE("AVX2", avx2, avx2);
  __builtin_cpu_init();
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if !defined(__clang__)  // clang 14 knows no such name; whatever has AVX2 has these conversions
  has_avx2 = has_avx2 && __builtin_cpu_supports("f16c");
#endif
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    tables.push_back(&avx512_table);
  }
  if (has_avx2) tables.push_back(&avx2_table);
#endif
  tables.push_back(&portable_table);
  return tables;
}

}  // namespace

std::span<const kernel_table* const> kernel_tables() {
  static const auto tables = detect();
  return tables;
}

const kernel_table& best_kernels() { return *kernel_tables().front(); }

}  // namespace dinfer::kernels::cpu
