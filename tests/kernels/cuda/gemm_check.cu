// SPDX-License-Identifier: Apache-2.0
// A program of its own: checks the matrix products of kernels/cuda on a GPU against sums in double,
// and prints what they take for the shapes of Llama 3.1 8B, with weights that come from memory.
//
//   nvcc -std=c++20 -O3 -I. -Iinclude -gencode arch=compute_90a,code=sm_90a
//     tests/kernels/cuda/gemm_check.cu kernels/cuda/gemm.cpp kernels/cuda/gemm_tuning.cpp
//     kernels/cuda/gemm_exact.cu kernels/cuda/gemm_skinny.cu kernels/cuda/read_through.cu
//     -lcublasLt -o gemm_check
//   ./gemm_check [tuning directory]
//
// Exit status 1 when anything is wrong. Takes about 20 s and 3.5 GB of device memory.
#include "kernels/cuda/gemm.hpp"
#include "kernels/cuda/gemm_exact.hpp"
#include "kernels/cuda/gemm_skinny.hpp"
#include "kernels/cuda/types.cuh"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

using namespace dinfer::kernels;
using namespace dinfer::kernels::cuda;

namespace {

constexpr std::int64_t pool_bytes = std::int64_t{128256} * 4096 * 2;
constexpr int samples = 4096;
constexpr double longest_replay_ms = 12;

cudaStream_t stream;
char *weights, *x_memory, *out_memory;
float* worst_on_device;
bool all_right = true;

__device__ std::uint32_t hashed(std::uint64_t z) {
  z = (z + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 32);
}

template <class T>
__global__ void fill(T* to, std::int64_t n, float scale) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += step) {
    const auto unit = static_cast<float>(hashed(static_cast<std::uint64_t>(i)) >> 8) * 0x1p-23F - 1;
    to[i] = from_float<T>(scale * unit);
  }
}

template <class T>
__device__ double dot(const product& p, std::int64_t row, std::int64_t i, double* size) {
  const T* x = static_cast<const T*>(p.x) + row * p.ldx;
  const T* w = static_cast<const T*>(p.w) + i * p.ldw;
  double sum = 0, all = 0;
  for (std::int64_t k = threadIdx.x; k < p.k; k += 32) {
    const double term = static_cast<double>(to_float(x[k])) * static_cast<double>(to_float(w[k]));
    sum += term;
    all += fabs(term);
  }
  for (int d = 16; d > 0; d /= 2) {
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, d);
    all += __shfl_xor_sync(0xFFFFFFFFU, all, d);
  }
  *size = all;
  return sum;
}

// One warp a sample; the largest error as a share of what is allowed.
template <class T>
__global__ void check_samples(product p, bool swiglu, float* worst) {
  const std::int64_t width = swiglu ? p.n / 2 : p.n;
  const std::int64_t at = hashed(blockIdx.x) % (p.rows * width);
  const std::int64_t row = at / width, i = at % width;
  double size = 0, right = 0;
  if (swiglu) {
    double up_size = 0;
    const double gate = dot<T>(p, row, i / 8 * 16 + i % 8, &size);
    const double up = dot<T>(p, row, i / 8 * 16 + i % 8 + 8, &up_size);
    right = gate / (1 + exp(-gate)) * up;
    size = size * fabs(up) * 1.1 + up_size * fabs(gate);
  } else {
    right = dot<T>(p, row, i, &size);
  }
  if (threadIdx.x != 0) return;
  const bool wide = p.out_type == dtype::f32;
  const double got = wide ? static_cast<const float*>(p.out)[row * p.ldo + i]
                          : to_float(static_cast<const T*>(p.out)[row * p.ldo + i]);
  const double rounding = wide ? 0 : p.type == dtype::bf16 ? 0x1p-8 : 0x1p-11;
  const double share = fabs(got - right) / (2e-6 * size + rounding * fabs(right));
  // Shares are not negative, so that their bits are in their order; a NaN is above them all.
  const float bits = share == share ? static_cast<float>(share) : 1e30F;
  atomicMax(reinterpret_cast<int*>(worst), __float_as_int(bits));
}

double worst_of(const product& p, bool swiglu) {
  check(cudaMemsetAsync(worst_on_device, 0, 4, stream), "cudaMemset");
  with_type(p.type, [&](auto t) {
    launch(check_samples<decltype(t)>, dim3(samples), dim3(32), 0, stream, p, swiglu,
           worst_on_device);
  });
  float worst = 0;
  check(cudaMemcpyAsync(&worst, worst_on_device, 4, cudaMemcpyDeviceToHost, stream), "cudaMemcpy");
  check(cudaStreamSynchronize(stream), "a check");
  return worst;
}

struct shape {
  const char* name;
  std::int64_t n, k;
  dtype out;
  bool gate_up;
};
const shape shapes[] = {{"qkv", 6144, 4096, dtype::bf16, false},
                        {"o", 4096, 4096, dtype::bf16, false},
                        {"gate-up", 28672, 4096, dtype::bf16, true},
                        {"down", 4096, 14336, dtype::bf16, false},
                        {"head", 128256, 4096, dtype::f32, false}};

product product_of(std::int64_t rows, std::int64_t n, std::int64_t k, dtype type, dtype out) {
  return dense_product(view(x_memory, type, rows, k), weights, n, view(out_memory, out, rows, n));
}

// Microseconds of one product: a recorded round over as many weights as there is room for,
// replayed.
double microseconds(const product& p, const std::function<void(const product&)>& multiply) {
  const std::int64_t bytes = p.n * p.ldw * info(p.type).block_bytes;
  auto time = [&](std::int64_t count, int replays) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (std::int64_t i = 0; i < count; ++i) {
      product q = p;
      q.w = weights + i * bytes;
      multiply(q);
    }
    check(cudaStreamEndCapture(stream, &graph), "capture");
    check(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
    cudaEvent_t from, to;
    check(cudaEventCreate(&from), "cudaEventCreate");
    check(cudaEventCreate(&to), "cudaEventCreate");
    std::vector<float> ms(static_cast<std::size_t>(replays));
    for (auto& one : ms) {
      check(cudaEventRecord(from, stream), "cudaEventRecord");
      check(cudaGraphLaunch(ready, stream), "cudaGraphLaunch");
      check(cudaEventRecord(to, stream), "cudaEventRecord");
      check(cudaEventSynchronize(to), "a replay");
      check(cudaEventElapsedTime(&one, from, to), "cudaEventElapsedTime");
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
    std::sort(ms.begin(), ms.end());
    return static_cast<double>(ms[ms.size() / 2]) / static_cast<double>(count);
  };
  const double rough_ms = time(1, 2);
  const auto most = std::max<std::int64_t>(1, std::min<std::int64_t>(24, pool_bytes / bytes));
  const auto count =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(longest_replay_ms / rough_ms), 1, most);
  return 1000 * time(count, 7);
}

// Runs, checks, times and prints one kernel's column.
void column(const char* name, const product& p, bool swiglu,
            const std::function<void(const product&)>& multiply) {
  const std::int64_t width = swiglu ? p.n / 2 : p.n;
  const auto out_bytes = static_cast<std::size_t>(p.rows * width * info(p.out_type).block_bytes);
  check(cudaMemsetAsync(out_memory, 0xFF, out_bytes, stream), "cudaMemset");
  multiply(p);
  const double worst = worst_of(p, swiglu);
  const double us = microseconds(p, multiply);
  const double size = info(p.type).block_bytes;
  const double tb =
      (static_cast<double>(p.n * p.k + p.rows * p.k) * size + static_cast<double>(out_bytes)) / us *
      1e-6;
  const double tflop =
      2.0 * static_cast<double>(p.rows * p.n) * static_cast<double>(p.k) / us * 1e-6;
  const bool right = worst <= 1;
  all_right = all_right && right;
  std::printf(" | %s %9.1f us %5.2f TB/s %6.1f TF/s %s", name, us, tb, tflop, right ? "ok" : "");
  if (!right) std::printf("WRONG by %.3g of what is allowed", worst);
}

void check_llama(gemm& library, gemm& all) {
  for (const auto& s : shapes) {
    for (const std::int64_t rows : {1, 8, 32, 64, 128, 256, 512, 2048, 8192}) {
      if (s.out == dtype::f32 && rows > 512) continue;
      auto p = product_of(rows, s.n, s.k, dtype::bf16, s.out);
      p.spare_rows = rows < padded_rows;
      const auto begin = std::chrono::steady_clock::now();
      library.multiply(p);
      check(cudaStreamSynchronize(stream), "a first product");
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - begin;
      std::printf("%-7s %4lld x %6lld x %5lld measured in %5.1f ms", s.name,
                  static_cast<long long>(rows), static_cast<long long>(s.n),
                  static_cast<long long>(s.k), took.count());
      column("cublas", p, false, [&](const product& q) { library.multiply(q); });
      column("exact", p, false, [&](const product& q) { multiply_exact(q, stream); });
      if (skinny_takes(p)) {
        column("skinny", p, false, [&](const product& q) { multiply_skinny(q, stream); });
        all.multiply(p);
        const auto& choice = all.tunings().at(shape_of(p, tuning_bucket(rows)));
        std::printf(" | chosen: %s", choice.way == gemm_way::skinny   ? "skinny"
                                     : choice.way == gemm_way::padded ? "cublas, padded"
                                                                      : "cublas");
        if (s.gate_up) {
          auto half = p;
          half.ldo = s.n / 2;
          column("swiglu", half, true,
                 [&](const product& q) { multiply_skinny_swiglu(q, stream); });
        }
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}

template <class T>
void fill_all(float x_scale, float w_scale) {
  const auto x_count = static_cast<std::int64_t>(8192) * 14336 * 2 / static_cast<int>(sizeof(T));
  launch(fill<T>, dim3(2048), dim3(256), 0, stream, reinterpret_cast<T*>(x_memory), x_count,
         x_scale);
  launch(fill<T>, dim3(2048), dim3(256), 0, stream, reinterpret_cast<T*>(weights),
         pool_bytes / static_cast<int>(sizeof(T)), w_scale);
}

void check_f32() {
  for (const auto& s : {shapes[0], shapes[3]}) {
    for (const std::int64_t rows : {1, 8, 32, 128, 512, 2048}) {
      const auto p = product_of(rows, s.n, s.k, dtype::f32, dtype::f32);
      std::printf("f32 %-7s %4lld x %6lld x %5lld", s.name, static_cast<long long>(rows),
                  static_cast<long long>(s.n), static_cast<long long>(s.k));
      column("exact", p, false, [&](const product& q) { multiply_exact(q, stream); });
      std::printf("\n");
    }
  }
}

// Shapes with edges, of every type.
template <class T>
void check_odd(dtype type, gemm& all) {
  fill_all<T>(1, 0.05F);
  for (const auto& [n, k] : {std::pair<int, int>{1, 1},
                             {33, 64},
                             {100, 77},
                             {576, 576},
                             {1000, 4104},
                             {49, 1536},
                             {5000, 200}}) {
    for (const std::int64_t rows : {1, 3, 8, 17, 65, 130, 600}) {
      for (const auto out : {type, dtype::f32}) {
        const auto p = product_of(rows, n, k, type, out);
        for (const bool exact : {false, true}) {
          check(cudaMemsetAsync(out_memory, 0xFF, static_cast<std::size_t>(rows * n * 4), stream),
                "cudaMemset");
          exact ? multiply_exact(p, stream) : all.multiply(p);
          const double worst = worst_of(p, false);
          if (worst <= 1) continue;
          all_right = false;
          std::printf("WRONG: %s rows %d n %d k %d out %s exact %d: %.3g of what is allowed\n",
                      info(type).name.data(), static_cast<int>(rows), n, k, info(out).name.data(),
                      exact, worst);
        }
      }
    }
  }
}

// The bits of a row, alone and among others.
void check_rows(dtype type) {
  const std::int64_t n = 4096, k = 1416, most = 600;
  auto run = [&](std::int64_t first, std::int64_t rows) {
    auto p = product_of(rows, n, k, type, dtype::f32);
    p.x = x_memory + first * k * info(type).block_bytes;
    multiply_exact(p, stream);
    std::vector<float> out(static_cast<std::size_t>(rows * n));
    check(cudaMemcpyAsync(out.data(), out_memory, out.size() * 4, cudaMemcpyDeviceToHost, stream),
          "cudaMemcpy");
    check(cudaStreamSynchronize(stream), "a check");
    return out;
  };
  const auto all = run(0, most);
  for (const std::int64_t rows : {1, 7, 8, 9, 16, 17, 33, 64, 65, 129, 300}) {
    for (const std::int64_t first : {std::int64_t{0}, most - rows}) {
      const auto some = run(first, rows);
      if (std::memcmp(some.data(), all.data() + first * n, some.size() * 4) == 0) continue;
      all_right = false;
      std::printf("WRONG: %s rows %d.. and %d more have other bits than among %d\n",
                  info(type).name.data(), static_cast<int>(first), static_cast<int>(rows),
                  static_cast<int>(most));
    }
  }
}

void run(const std::string& directory) {
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  const auto allocate = [](std::int64_t bytes) {
    void* p = nullptr;
    check(cudaMalloc(&p, static_cast<std::size_t>(bytes)), "cudaMalloc");
    return static_cast<char*>(p);
  };
  weights = allocate(pool_bytes);
  x_memory = allocate(std::int64_t{8192} * 14336 * 2);
  out_memory = allocate(std::int64_t{8192} * 28672 * 4);
  worst_on_device = reinterpret_cast<float*>(allocate(4));
  const auto space_bytes = gemm::wanted_space_bytes();
  char* space = allocate(static_cast<std::int64_t>(space_bytes));
  std::printf("%s, %d multiprocessors, L2 %d MB, space %zu MB\n", device.name,
              device.multiProcessorCount, device.l2CacheSize >> 20, space_bytes >> 20);
  gemm_options options;
  options.device_name = device.name;
  gemm all(stream, space, space_bytes, options);
  options.tuning_directory = directory;
  options.skinny = false;
  gemm library(stream, space, space_bytes, options);
  check_odd<float>(dtype::f32, all);
  check_rows(dtype::f32);
  check_odd<f16>(dtype::f16, all);
  check_rows(dtype::f16);
  check_odd<bf16>(dtype::bf16, all);
  check_rows(dtype::bf16);
  std::printf("odd shapes and bits of rows: %s\n", all_right ? "ok" : "WRONG");
  fill_all<bf16>(1, 0.02F);
  check_llama(library, all);
  fill_all<float>(1, 0.02F);
  check_f32();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : "");
  } catch (const std::exception& e) {
    std::printf("%s\n", e.what());
    return 1;
  }
  std::printf("%s\n", all_right ? "all right" : "SOMETHING IS WRONG");
  return all_right ? 0 : 1;
}
