// SPDX-License-Identifier: Apache-2.0
// Times prefill attention with mma.sync on a GPU, alone, and compares it with the kernel that does
// without: no library of ours, no Catch2.
//
//   nvcc -std=c++20 -O3 -I. -Iinclude -gencode arch=compute_90a,code=sm_90a
//       tests/kernels/cuda/attention_prefill_check.cu kernels/cuda/attention_prefill.cu
//       kernels/cuda/attention_prefill_generic.cu -o prefill_mma_check
//
// Exits 1 on a wrong result.
#include "kernels/cuda/attention_tiles.cuh"
#include "tests/kernels/cuda/prefill_case.hpp"

#include <cstdio>
#include <string>

namespace dinfer::tests {

using kernels::cuda::attention_shape;
using kernels::cuda::bf16;
using kernels::cuda::check;
using kernels::cuda::f16;

bool failed = false;

template <class T>
struct on_device {
  explicit on_device(const std::vector<T>& from) : size(from.size()) {
    check(cudaMalloc(&data, size * sizeof(T) + 16), "cudaMalloc");
    check(cudaMemcpy(data, from.data(), size * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  ~on_device() { cudaFree(data); }
  on_device(const on_device&) = delete;
  on_device& operator=(const on_device&) = delete;
  std::vector<T> values() const {
    std::vector<T> v(size);
    check(cudaDeviceSynchronize(), "a kernel");
    check(cudaMemcpy(v.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return v;
  }
  T* data = nullptr;
  std::size_t size;
};

// The largest difference, relative to the largest value of a token's head.
template <class T>
double difference(const std::vector<T>& got, const std::vector<T>& right, std::size_t columns) {
  double worst = 0;
  for (std::size_t row = 0; row < got.size(); row += columns) {
    double most = 0, off = 0;
    for (std::size_t i = row; i < row + columns; ++i) {
      const double e = std::abs(double{float_of(got[i])} - double{float_of(right[i])});
      off = std::isnan(e) ? HUGE_VAL : std::max(off, e);
      most = std::max(most, std::abs(double{float_of(right[i])}));
    }
    if (off > 0) worst = std::max(worst, off / most);
  }
  return worst;
}

template <class Fn>
float milliseconds(Fn&& fn) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  float best = 1e30F;
  for (int i = -3; i < 20; ++i) {
    check(cudaEventRecord(begin), "event");
    fn();
    check(cudaEventRecord(end), "event");
    check(cudaEventSynchronize(end), "a kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= 0) best = std::min(best, ms);
  }
  return best;
}

template <class T>
void run(const char* name, const prefill_case& of) {
  const prefill_step<T> step(of, 3);
  const on_device<T> qkv(step.qkv), pages(step.pages), out(step.out), plain(step.out);
  const on_device<std::int32_t> begin(step.query_begin), context(step.context),
      rows(step.table_rows), table(step.table);
  attention_shape shape = step.shape;
  shape.qkv = qkv.data;
  shape.pages = pages.data + shape.page_elements / 2;
  shape.query_begin = begin.data;
  shape.context = context.data;
  shape.table_rows = rows.data;
  shape.block_table = table.data;
  shape.out = plain.data;
  kernels::cuda::attend_prefill_generic(shape, 0, step.tokens, dtype_of<T>, nullptr);
  shape.out = out.data;
  const float best = milliseconds(
      [&] { kernels::cuda::attend_prefill(shape, 0, step.tokens, dtype_of<T>, nullptr); });
  const double error =
      difference(out.values(), plain.values(), static_cast<std::size_t>(of.head_dim));
  double keys = 0;
  for (const auto& s : of.sequences)
    keys += double{1} * s.queries * (s.context - s.queries) + 0.5 * s.queries * (s.queries + 1.0);
  const bool right = error <= (std::is_same_v<T, f16> ? 4e-3 : 2e-2);
  std::printf("%-24s %s head_dim %-3d block %-3d: best %9.1f us %6.1f TFLOP/s, off by %.1e%s\n",
              name, std::is_same_v<T, f16> ? "f16 " : "bf16", of.head_dim, of.block_size,
              best * 1e3, 4.0 * of.head_dim * step.query_heads * keys / best * 1e-9, error,
              right ? "" : "  WRONG");
  if (!right) failed = true;
}

void run_all() {
  const std::vector<int> heads(8, 4);
  for (const int tokens : {64, 512, 2048, 8192}) {
    const std::string name = std::to_string(tokens) + " tokens";
    run<bf16>(name.c_str(), {heads, 128, 32, 0, {{1, tokens, tokens}}});
  }
  run<bf16>("8192 tokens", {heads, 128, 16, 0, {{1, 8192, 8192}}});
  run<bf16>("8192 tokens", {heads, 128, 128, 0, {{1, 8192, 8192}}});
  run<f16>("8192 tokens", {heads, 128, 32, 0, {{1, 8192, 8192}}});
  run<bf16>("8192 tokens", {heads, 64, 32, 0, {{1, 8192, 8192}}});
  run<bf16>("8192 tokens, group 1", {std::vector<int>(16, 1), 128, 32, 0, {{1, 8192, 8192}}});
  run<bf16>("1024 after 15360", {heads, 128, 32, 0, {{1, 16384, 1024}}});
  prefill_case many{heads, 128, 32, 0, {}};
  for (int s = 0; s < 64; ++s) many.sequences.push_back({s, 128, 128});
  run<bf16>("64 of 128 tokens", many);
  for (auto& s : many.sequences) s = {s.name, 1024, 1};
  run<bf16>("64 of 1 after 1023", many);
}

}  // namespace dinfer::tests

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    dinfer::tests::run_all();
  } catch (const std::exception& e) {
    std::printf("%s\n", e.what());
    return 1;
  }
  std::printf(dinfer::tests::failed ? "WRONG\n" : "all right\n");
  return dinfer::tests::failed ? 1 : 0;
}
