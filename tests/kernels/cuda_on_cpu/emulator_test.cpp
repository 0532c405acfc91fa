// SPDX-License-Identifier: Apache-2.0
// The host's stand-in for a GPU (tests/support/cuda_on_cpu.hpp): small kernels against plain loops,
// and that it notices the mistakes it says it does.
#include "kernels/cuda/ptx.cuh"
#include "tests/support/catch.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

namespace dinfer::tests {
namespace {

namespace emulator = cuda_on_cpu;
using emulator::emulation_error;
using kernels::cuda::bf16;
using kernels::cuda::f16;
using kernels::cuda::launch;

constexpr std::uint64_t seeds = 24;

// What the launch's error says.
template <class Fn>
std::string error_of(Fn&& fn) {
  try {
    fn();
  } catch (const emulation_error& e) {
    return e.what();
  }
  return "no error";
}

bool has(const std::string& text, const char* part) { return text.find(part) != text.npos; }

__device__ float warp_sum(float v) {
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, lanes);
  return v;
}

template <bool Synchronised>
__global__ void __launch_bounds__(256) sum_rows(const float* in, float* out, int columns) {
  DINFER_SHARED(float, sums);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += static_cast<int>(blockDim.x))
    sum += in[blockIdx.x * columns + i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  if (Synchronised) __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = warp_sum(threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : 0.0f);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

TEST_CASE("emulated blocks add up rows with shuffles") {
  const int rows = 5, columns = 1000;
  std::vector<float> in(rows * columns), out(rows);
  std::iota(in.begin(), in.end(), 0.0f);
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    emulator::set_order(seed);
    launch(sum_rows<true>, dim3(rows), dim3(256), 8 * sizeof(float), nullptr, in.data(), out.data(),
           columns);
    for (int row = 0; row < rows; ++row) {
      const auto first = in.begin() + row * columns;
      CHECK(out[row] == Approx(std::accumulate(first, first + columns, 0.0)));
    }
  }
}

TEST_CASE("a missing __syncthreads shows under some order") {
  std::vector<float> in(1000, 1.0f);
  int wrong = 0;
  for (std::uint64_t seed = 1; seed < seeds; ++seed) {
    emulator::set_order(seed);
    float out = 0;
    launch(sum_rows<false>, dim3(1), dim3(256), 8 * sizeof(float), nullptr, in.data(), &out, 1000);
    wrong += out != 1000.0f;
  }
  CHECK(wrong > static_cast<int>(seeds) / 2);
}

__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  out[lane] = __shfl_up_sync(0xFFFFFFFFu, lane, 3);
  out[32 + lane] = __shfl_down_sync(0xFFFFFFFFu, lane, 3, 8);
  out[64 + lane] = __shfl_xor_sync(0xFFFFFFFFu, lane, 5);
  out[96 + lane] = __shfl_sync(0xFFFFFFFFu, lane, 9, 8);
  out[128 + lane] = static_cast<int>(__ballot_sync(0xFFFFFFFFu, lane % 3 == 0));
  out[160 + lane] = __any_sync(0xFFFFFFFFu, lane == 7) + 2 * __all_sync(0xFFFFFFFFu, lane != 7);
  out[192 + lane] = __reduce_max_sync(0xFFFFFFFFu, (lane * 7) % 32);
  if (lane < 16) {  // two halves with masks of their own, in different operations
    out[224 + lane] = __shfl_xor_sync(0x0000FFFFu, lane, 1);
  } else {
    out[224 + lane] = __reduce_add_sync(0xFFFF0000u, 1);
  }
}

TEST_CASE("emulated lanes exchange values") {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    emulator::set_order(seed);
    std::vector<int> out(256, -1);
    launch(shuffles, dim3(1), dim3(32), 0, nullptr, out.data());
    for (int lane = 0; lane < 32; ++lane) {
      CHECK(out[lane] == (lane < 3 ? lane : lane - 3));
      CHECK(out[32 + lane] == (lane % 8 + 3 < 8 ? lane + 3 : lane));
      CHECK(out[64 + lane] == (lane ^ 5));
      CHECK(out[96 + lane] == lane / 8 * 8 + 1);
      CHECK(static_cast<unsigned>(out[128 + lane]) == 0x49249249u);
      CHECK(out[160 + lane] == 1);
      CHECK(out[192 + lane] == 31);
      CHECK(out[224 + lane] == (lane < 16 ? (lane ^ 1) : 16));
    }
  }
}

// Sums tiles of 4 floats a thread, two buffers in turn.
template <bool Waits, bool Synchronised>
__global__ void stream_tiles(const float* in, float* out, int tiles) {
  DINFER_SHARED(float, buffers);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int tile = 4 * threads;
  auto fetch = [&](int t) {
    if (t < tiles)
      kernels::cuda::copy_async_16(buffers + t % 2 * tile + 4 * thread, in + t * tile + 4 * thread,
                                   t != 1);
    kernels::cuda::copy_async_commit();
  };
  float sum = 0;
  fetch(0);
  for (int t = 0; t < tiles; ++t) {
    fetch(t + 1);
    if (Waits) kernels::cuda::copy_async_wait<1>();
    __syncthreads();
    const int other = threads - 1 - thread;
    for (int i = 0; i < 4; ++i) sum += buffers[t % 2 * tile + 4 * other + i];
    if (Synchronised) __syncthreads();
  }
  out[thread] = sum;
}

TEST_CASE("emulated copies arrive when they are waited for") {
  const int threads = 64, tiles = 5, count = 4 * threads * tiles;
  const emulator::guarded<float> in(count);
  std::iota(in.begin(), in.end(), 0.0f);
  int wrong = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    emulator::set_order(seed);
    std::vector<float> out(threads), hasty(threads), racing(threads);
    const std::size_t shared = 2 * 4 * threads * sizeof(float);
    launch(stream_tiles<true, true>, dim3(1), dim3(threads), shared, nullptr, in.data(), out.data(),
           tiles);
    launch(stream_tiles<false, true>, dim3(1), dim3(threads), shared, nullptr, in.data(),
           hasty.data(), tiles);
    launch(stream_tiles<true, false>, dim3(1), dim3(threads), shared, nullptr, in.data(),
           racing.data(), tiles);
    for (int thread = 0; thread < threads; ++thread) {
      float sum = 0;
      for (int t = 0; t < tiles; ++t) {
        for (int i = 0; i < 4 && t != 1; ++i)
          sum += in[4 * threads * t + 4 * (threads - 1 - thread) + i];
      }
      CHECK(out[thread] == sum);
      CHECK(std::isnan(hasty[thread]));
    }
    wrong += racing != out;
  }
  CHECK(wrong > static_cast<int>(seeds) / 2);
}

template <class T>
__global__ void multiply_tile(const T* a, const T* b, float* d, bool b_is_k_by_n) {
  const int lane = static_cast<int>(threadIdx.x);
  __shared__ __align__(16) T shared_a[16 * 16];
  __shared__ __align__(16) T shared_b[16 * 16];
  for (int i = lane; i < 256; i += 32) {
    shared_a[i] = a[i];
    shared_b[i] = b[i];
  }
  __syncwarp();
  std::uint32_t fa[4], fb[4];
  const int row = lane % 8, matrix = lane / 8;
  kernels::cuda::load_matrix_x4(fa, shared_a + (row + matrix % 2 * 8) * 16 + matrix / 2 * 8);
  float sums[2][4]{};
  if (b_is_k_by_n) {  // [k, n]: matrices k 0, n 0; k 8, n 0; k 0, n 8; k 8, n 8
    kernels::cuda::load_matrix_x4_transposed(
        fb, shared_b + (row + matrix % 2 * 8) * 16 + matrix / 2 * 8);
  } else {  // [n, k]
    kernels::cuda::load_matrix_x4(fb, shared_b + (row + matrix / 2 * 8) * 16 + matrix % 2 * 8);
  }
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t two[2] = {fb[2 * half], fb[2 * half + 1]};
    kernels::cuda::mma_16x8x16<T>(sums[half], fa, two);
    for (int i = 0; i < 4; ++i)
      d[(lane / 4 + i / 2 * 8) * 16 + 8 * half + lane % 4 * 2 + i % 2] = sums[half][i];
  }
}

TEMPLATE_TEST_CASE("emulated tensor cores multiply", "", bf16, f16) {
  std::vector<TestType> a(256), b(256);
  for (int i = 0; i < 256; ++i) {
    a[i] = kernels::cuda::from_float<TestType>(static_cast<float>(i * 37 % 101 - 50));
    b[i] = kernels::cuda::from_float<TestType>(static_cast<float>(i * 53 % 89 - 44));
  }
  for (const bool b_is_k_by_n : {false, true}) {
    std::vector<float> d(256);
    launch(multiply_tile<TestType>, dim3(1), dim3(32), 0, nullptr, a.data(), b.data(), d.data(),
           b_is_k_by_n);
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 16; ++column) {
        float sum = 0;
        for (int k = 0; k < 16; ++k)
          sum += kernels::cuda::to_float(a[row * 16 + k]) *
                 kernels::cuda::to_float(b[b_is_k_by_n ? k * 16 + column : column * 16 + k]);
        CHECK(d[row * 16 + column] == sum);
      }
    }
  }
}

// An oracle apart from mma: the instruction's own words in the PTX ISA, lane by lane.
__global__ void load_tile(const std::uint16_t* in, std::uint32_t* out) {
  DINFER_SHARED(std::uint16_t, tile);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) tile[lane * 8 + i] = in[lane * 8 + i];
  __syncwarp();
  std::uint32_t r[4];
  kernels::cuda::load_matrix_x4(r, tile + lane * 8);
  for (int i = 0; i < 4; ++i) out[lane * 8 + i] = r[i];
  kernels::cuda::load_matrix_x4_transposed(r, tile + lane * 8);
  for (int i = 0; i < 4; ++i) out[lane * 8 + 4 + i] = r[i];
}

TEST_CASE("emulated ldmatrix deals out rows and columns") {
  std::vector<std::uint16_t> in(256);
  std::iota(in.begin(), in.end(), std::uint16_t{0});
  std::vector<std::uint32_t> out(256);
  launch(load_tile, dim3(1), dim3(32), 512, nullptr, in.data(), out.data());
  // Lane 6 of matrix 2: row 1, columns 4 and 5; transposed, column 1 of rows 4 and 5.
  CHECK(out[6 * 8 + 2] == ((128u + 8 + 5) << 16 | (128u + 8 + 4)));
  CHECK(out[6 * 8 + 4 + 2] == ((128u + 5 * 8 + 1) << 16 | (128u + 4 * 8 + 1)));
  CHECK(out[0] == (1u << 16 | 0u));
  CHECK(out[4] == (8u << 16 | 0u));
}

__global__ void count_things(int* ints, unsigned* words, unsigned long long* big, float* sum) {
  atomicAdd(&ints[0], 1);
  atomicMax(&ints[1], static_cast<int>(threadIdx.x));
  atomicMin(&ints[2], -static_cast<int>(threadIdx.x));
  atomicOr(&words[0], 1u << threadIdx.x % 32);
  if (atomicInc(&words[1], blockDim.x - 1) == blockDim.x - 1) words[2] = 1;
  atomicAdd(big, 1ull << 33);
  atomicAdd(sum, 0.5f);
  atomicCAS(&ints[3], 0, static_cast<int>(threadIdx.x) + 1);
}

TEST_CASE("emulated atomics count") {
  int ints[4] = {0, -1, 1, 0};
  unsigned words[3] = {};
  unsigned long long big = 0;
  float sum = 0;
  launch(count_things, dim3(3, 2), dim3(10, 10), 0, nullptr, ints, words, &big, &sum);
  CHECK(ints[0] == 600);
  CHECK(ints[1] == 9);
  CHECK(ints[2] == -9);
  CHECK(ints[3] > 0);
  CHECK(words[0] == 0x3FFu);
  CHECK(words[1] == 0);
  CHECK(words[2] == 1);
  CHECK(big == 600ull << 33);
  CHECK(sum == 300.0f);
}

__global__ void waits_alone(int* out) {
  if (threadIdx.x == 40) return;  // counts as arrived
  if (threadIdx.x < 32) __syncthreads();
  if (threadIdx.x >= 32) __shfl_sync(0xFFFFFFFFu, 1, 0);
  __syncthreads();
  *out = 1;
}
__global__ void lanes_apart() {
  if (threadIdx.x < 16) {
    __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
  } else {
    __ballot_sync(0xFFFFFFFFu, 1);
  }
}
__global__ void half_a_mask() {
  if (threadIdx.x < 16) __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
  __syncthreads();
}
__global__ void wrong_mask() { __syncwarp(0x0000FFFFu); }
__global__ void past_the_end() {
  DINFER_SHARED(char, bytes);
  bytes[100] = 1;
}
__global__ void odd_address(const char* in) {
  DINFER_SHARED(char, bytes);
  kernels::cuda::copy_async_16(bytes + 8, in, true);
}
__global__ void launches() { launch(wrong_mask, dim3(1), dim3(1), 0, nullptr); }

TEST_CASE("emulation says what is wrong") {
  int out = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    emulator::set_order(seed);
    CHECK(has(error_of([&] { launch(waits_alone, dim3(1), dim3(64), 0, nullptr, &out); }),
              "different barriers"));
    CHECK(has(error_of([] { launch(lanes_apart, dim3(1), dim3(32), 0, nullptr); }),
              "different operations"));
    const auto deadlock = error_of([] { launch(half_a_mask, dim3(1), dim3(32), 0, nullptr); });
    CHECK(has(deadlock, "deadlock"));
    CHECK(has(deadlock, "16 wait in __syncthreads at "));
    CHECK(has(deadlock, "16 wait in __shfl_xor_sync at "));
    CHECK(has(error_of([] { launch(wrong_mask, dim3(1), dim3(32), 0, nullptr); }),
              "a mask it is not in"));
    CHECK(has(error_of([] { launch(past_the_end, dim3(1), dim3(1), 100, nullptr); }),
              "byte 100 of shared memory"));
    CHECK(has(error_of([] { launch(odd_address, dim3(1), dim3(1), 100, nullptr, ""); }),
              "16 does not divide"));
  }
  CHECK(has(error_of([] { launch(launches, dim3(1), dim3(2), 0, nullptr); }),
            "a launch inside of a kernel"));
  CHECK(has(error_of([] { launch(wrong_mask, dim3(1), dim3(1025), 0, nullptr); }), "1025 threads"));
  CHECK(has(error_of([] { launch(wrong_mask, dim3(1), dim3(1), 1 << 18, nullptr); }), "bytes"));
}

__global__ void leaves_early(int* out) {
  if (threadIdx.x % 2) return;
  __syncthreads();
  const unsigned sum = __reduce_add_sync(0xFFFFFFFFu, 1u);
  __syncwarp();
  out[threadIdx.x] = static_cast<int>(sum);
}

TEST_CASE("emulated threads that returned count as arrived") {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    emulator::set_order(seed);
    std::vector<int> out(1000);
    launch(leaves_early, dim3(1), dim3(1000), 0, nullptr, out.data());
    for (int i = 0; i < 1000; ++i) CHECK(out[i] == (i % 2 ? 0 : i < 992 ? 16 : 4));
  }
}

// Warp 0 fills what warps 1 and 2 read: the two barriers of a producer and its consumers.
template <bool Frees>
__global__ void hand_over(int* out, int rounds) {
  DINFER_SHARED(int, slot);
  const auto here = std::source_location::current();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x < 32) {
    for (int i = 0; i < rounds; ++i) {
      if (i > 0) emulator::meet_named_barrier(2, 96, here);
      slot[lane] = i;
      emulator::arrive_at_named_barrier(1, 96);
    }
    return;
  }
  int sum = 0;
  for (int i = 0; i < rounds; ++i) {
    emulator::meet_named_barrier(1, 96, here);
    sum += slot[31 - lane];
    if (Frees && i + 1 < rounds) emulator::arrive_at_named_barrier(2, 96);
  }
  out[threadIdx.x - 32] = sum;
}

TEST_CASE("emulated threads wait at named barriers and for conditions") {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    emulator::set_order(seed);
    std::vector<int> out(64);
    launch(hand_over<true>, dim3(1), dim3(96), 128, nullptr, out.data(), 10);
    CHECK(out == std::vector<int>(64, 45));
    CHECK(has(error_of([&] {
                launch(hand_over<false>, dim3(1), dim3(96), 128, nullptr, out.data(), 10);
              }),
              "wait in a named barrier"));
  }
}

__global__ void store(char* p) { *p = 0; }

TEST_CASE("emulated kernels stay inside of guarded arrays") {
  const emulator::guarded<char> memory(100);
  CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 16 == 0);
  launch(store, dim3(1), dim3(1), 0, nullptr, memory.data() + 99);
  CHECK(memory[99] == 0);
  CHECK(memory[98] == '\xFF');
  CHECK(has(error_of([&] { launch(store, dim3(1), dim3(1), 0, nullptr, memory.data() + 100); }),
            "byte 100 of a guarded array was written; it has 100"));
  memory.data()[100] = '\xFF';
}

TEST_CASE("emulated threads that leave guarded arrays are named") {
  const emulator::guarded<char> memory(100);
  int output[2];
  REQUIRE(pipe(output) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(output[1], STDERR_FILENO);
    signal(SIGSEGV, SIG_DFL);
    launch(store, dim3(1), dim3(1), 0, nullptr, memory.data() + 112);
    _exit(0);
  }
  close(output[1]);
  char text[200] = {};
  CHECK(read(output[0], text, sizeof text - 1) > 0);
  close(output[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status != 0);
  CHECK(has(text, "thread (0,0,0) of block (0,0,0): no access to address 0x"));
}

TEST_CASE("emulated arithmetic follows CUDA's manual") {
  CHECK(__byte_perm(0x33221100u, 0x77665544u, 0x7250u) == 0x77225500u);
  CHECK(__byte_perm(0x33228100u, 0, 0x9998u) == 0xFFFFFF00u);
  CHECK(__brev(0x00000006u) == 0x60000000u);
  CHECK(__clz(1) == 31);
  CHECK(__clz(0) == 32);
  CHECK(__ffs(0x50) == 5);
  CHECK(__umulhi(0xFFFFFFFFu, 0xFFFFFFFFu) == 0xFFFFFFFEu);
  CHECK(__funnelshift_l(0x80000000u, 1u, 1) == 3u);
  CHECK(__funnelshift_r(0x2u, 1u, 1) == 0x80000001u);
  CHECK(__dp4a(0x01FF02FE, 0x03040506, 100) == 100 + 1 * 3 - 4 + 2 * 5 - 2 * 6);
  CHECK(__float2int_rn(2.5f) == 2);
  CHECK(__float2int_rz(-2.9f) == -2);
  CHECK(__float2int_rz(1e20f) == 0x7FFFFFFF);
  CHECK(__float2uint_rz(-1.0f) == 0);
  CHECK(min(-1, 1u) == 1u);
  CHECK(max(1.0f, CUDART_NAN_F) == 1.0f);
  CHECK(kernels::cuda::exp2_fast(-CUDART_INF_F) == 0.0f);
  CHECK(kernels::cuda::exp2_fast(-140.0f) == 0.0f);
  CHECK(kernels::cuda::exp2_fast(10.0f) == 1024.0f);
  CHECK(kernels::cuda::pack_two<bf16>(1.0f, -2.0f) == 0xC0003F80u);
  CHECK(kernels::cuda::pack_two<f16>(1.0f, -2.0f) == 0xC0003C00u);
}

}  // namespace
}  // namespace dinfer::tests
