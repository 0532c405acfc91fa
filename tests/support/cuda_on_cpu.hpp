// SPDX-License-Identifier: Apache-2.0
// Kernels of kernels/cuda on the host, for tests where no GPU is: with DINFER_CUDA_ON_CPU defined
// a .cu file is plain C++, and launch() runs its blocks one after another with one fiber per CUDA
// thread. launch.cuh includes this file in place of CUDA's runtime; of CUDA only headers are
// needed. Launches of several OS threads run one after another. x86-64 alone.
//
//   g++ -std=c++20 -O1 -g -DDINFER_CUDA_ON_CPU -I. -Iinclude -isystem $CUDA_HOME/include
//       -Wall -Wextra -Wno-unknown-pragmas -x c++ my_test.cpp kernels/cuda/my_kernel.cu
//       tests/support/cuda_on_cpu.cpp -o my_test
//
// Mistakes that a GPU hides are made to show:
// - dynamic shared memory is all 0xFF (NaN) before every block; a write past its end is an error
//   (static __shared__ arrays keep what the block before left there, and are zeros at first);
// - copy_async_16 turns its destination into 0xFF at once and copies when its group is waited for,
//   so a read without that wait, or a write over data still being read, gives NaN;
// - threads run in a shuffled order, each as far as it can get before it must wait for others, so a
//   missing __syncthreads or __syncwarp gives a wrong result under some seed: try several
//   (set_order, or DINFER_CUDA_ORDER in the environment; 0 is the plain order);
// - `guarded` arrays end where memory ends;
// - threads that wait for ever, that meet in different operations, in __syncthreads of different
//   lines, or with another mask, end the launch with emulation_error, which says who waits where.
// Threads that returned count as arrived. What a shuffle reads from a lane that is not there is
// 0xFF.
#pragma once

#include "kernels/cuda/check.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <vector>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __grid_constant__
#undef __launch_bounds__
#undef __forceinline__
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __builtin_assume(what) static_cast<void>(0)

inline constexpr int warpSize = 32;
extern uint3 threadIdx, blockIdx;  // of the fiber that runs
extern dim3 blockDim, gridDim;

namespace dinfer::tests::cuda_on_cpu {

class emulation_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The order in which the threads and blocks of the launches to come run: a seed, or 0 for the plain
// one.
void set_order(std::uint64_t seed);

// Runs `thread` once for every thread of the grid. Throws emulation_error.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread);

// Memory for kernels that ends at a page which may not be touched, all 0xFF at first: a thread that
// leaves it is named on stderr and the process ends (up to 15 bytes past the end, where 16 does not
// divide the size, the launch that wrote there throws instead). The start is aligned to 16.
class guarded_memory {
 public:
  explicit guarded_memory(std::size_t bytes);
  guarded_memory(const guarded_memory&) = delete;
  guarded_memory& operator=(const guarded_memory&) = delete;
  ~guarded_memory();
  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* region_;
  std::size_t region_bytes_, bytes_;
  std::byte* data_;
};

// The same as elements.
template <class T>
class guarded {
 public:
  explicit guarded(std::size_t size) : memory_(size * sizeof(T)), size_(size) {}
  explicit guarded(const std::vector<T>& values) : guarded(values.size()) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() const noexcept { return reinterpret_cast<T*>(memory_.data()); }
  std::size_t size() const noexcept { return size_; }
  T& operator[](std::size_t i) const { return data()[i]; }
  T* begin() const noexcept { return data(); }
  T* end() const noexcept { return data() + size_; }
  void poison() const { std::memset(static_cast<void*>(data()), 0xFF, memory_.bytes()); }

 private:
  guarded_memory memory_;
  std::size_t size_;
};

void* shared_memory();  // of the block that runs

// One lane's part in an operation of its warp; it lies on the lane's stack.
struct lane_call {
  const char* name;
  unsigned mask;
  const void* in;
  void* out;
  int argument;
  std::source_location where;
};
using lane_calls = std::array<lane_call*, 32>;  // null where a lane is not there

// Waits for all lanes of the mask; the last to come calls `resolve`, which fills every `out`.
void meet_warp(lane_call& call, void (*resolve)(const lane_calls& lanes));

// Waits for all threads of the block; the number of them whose `value` is not 0.
int meet_block(const char* name, int value, std::source_location where);

// Waits until ready() holds, which other threads bring about; it is asked at any time, on any
// thread, and must not wait itself. For barriers in shared memory and the like.
void wait_until(const char* name, const std::function<bool()>& ready, std::source_location where);

// PTX's bar.sync and bar.arrive: barrier `id` of the block ends when `threads` have come to it.
void meet_named_barrier(int id, int threads, std::source_location where);
void arrive_at_named_barrier(int id, int threads);

void let_others_run();
unsigned live_lanes();
int current_lane();

void copy_later(void* shared, const void* global, bool valid);
void commit_copies();
void wait_for_copies(int groups);

}  // namespace dinfer::tests::cuda_on_cpu

#include "tests/support/cuda_on_cpu_words.hpp"

// See launch.cuh.
#define DINFER_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(::dinfer::tests::cuda_on_cpu::shared_memory())

namespace dinfer::kernels::cuda {

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t /*stream*/, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  tests::cuda_on_cpu::run_grid(grid, block, shared_bytes,
                               [&] { kernel(static_cast<Params>(args)...); });
}

}  // namespace dinfer::kernels::cuda
