// SPDX-License-Identifier: Apache-2.0
// The words of kernels/cuda/sm90.cuh and wgmma.cuh on the host, included by them in place of PTX
// (tests/support/cuda_on_cpu.hpp). Operands of a product are found by the descriptors' bits alone,
// as the PTX ISA has them. What a GPU does at some later time is done here as late as it may be,
// and until then its destination is NaN:
// - load_box fills its part of shared memory with 0xFF, and copies once a thread waits for the
//   barrier;
// - a product takes the sums out of their registers, leaving NaN, and reads its operands, registers
//   and shared memory, when a thread of the warpgroup waits for it.
// So what is read too early, or overwritten too early, shows. Fences do nothing here.
#pragma once

#include "tests/support/cuda_on_cpu.hpp"

#include <cuda.h>

#include <map>
#include <string>
#include <vector>

namespace dinfer::tests::cuda_on_cpu {

constexpr std::uint32_t shared_begin = 1024;  // shared memory's first byte has this address

// Of the block that runs, since it asked for an address: conditions are asked outside of its
// threads.
inline std::byte* shared_base = nullptr;

inline std::byte* shared_at(std::uint32_t address) {
  if (address < shared_begin || address >= shared_begin + 227 * 1024)
    throw emulation_error("shared address " + std::to_string(address));
  return shared_base + (address - shared_begin);
}
inline std::uint32_t address_of(const void* shared) {
  shared_base = static_cast<std::byte*>(shared_memory());
  return static_cast<std::uint32_t>(static_cast<const std::byte*>(shared) - shared_base) +
         shared_begin;
}
// 128-byte swizzling of an address.
inline std::uint32_t swizzle(std::uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// ---- tensor maps

struct tiled_map {
  std::byte* base;
  std::int64_t sizes[4], strides[3];
  std::uint32_t box_rows, element_bytes;
};
static_assert(sizeof(tiled_map) <= sizeof(CUtensorMap));

// Stands in for cuTensorMapEncodeTiled: boxes of rows of 128 bytes, of 2 or 4 dimensions.
inline CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                             void* base, const cuuint64_t* sizes, const cuuint64_t* strides,
                             const cuuint32_t* box, const cuuint32_t*, CUtensorMapInterleave,
                             CUtensorMapSwizzle swizzling, CUtensorMapL2promotion,
                             CUtensorMapFloatOOBfill) {
  tiled_map tiled{static_cast<std::byte*>(base),
                  {1, 1, 1, 1},
                  {},
                  box[1],
                  type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1U : 2U};
  if ((rank != 2 && rank != 4) || box[0] * tiled.element_bytes != 128 || box[1] > 256 ||
      (rank == 4 && (box[2] != 1 || box[3] != 1)) || swizzling != CU_TENSOR_MAP_SWIZZLE_128B ||
      reinterpret_cast<std::uintptr_t>(base) % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (sizes[i] == 0 || sizes[i] > std::uint64_t{1} << 32) return CUDA_ERROR_INVALID_VALUE;
    tiled.sizes[i] = static_cast<std::int64_t>(sizes[i]);
    if (i + 1 == rank) continue;
    if (strides[i] % 16 != 0 || strides[i] >= std::uint64_t{1} << 40)
      return CUDA_ERROR_INVALID_VALUE;
    tiled.strides[i] = static_cast<std::int64_t>(strides[i]);
  }
  std::memcpy(static_cast<void*>(map), &tiled, sizeof tiled);
  return CUDA_SUCCESS;
}

struct box_copy {
  tiled_map map;
  std::uint32_t to;
  std::int64_t at[4];

  std::uint32_t bytes() const { return map.box_rows * 128; }
  // What lies outside of the tensor is zero.
  void run() const {
    for (std::uint32_t row = 0; row < map.box_rows; ++row) {
      const std::int64_t place[4] = {at[0], at[1] + row, at[2], at[3]};
      const std::byte* from = map.base + place[0] * map.element_bytes;
      bool inside = place[0] >= 0;
      for (int i = 1; i < 4; ++i) {
        from += place[i] * map.strides[i - 1];
        inside = inside && place[i] >= 0 && place[i] < map.sizes[i];
      }
      const std::int64_t left = inside ? (map.sizes[0] - place[0]) * map.element_bytes : 0;
      for (std::uint32_t chunk = 0; chunk < 8; ++chunk) {
        std::byte* dest = shared_at(swizzle(to + row * 128 + chunk * 16));
        const auto some = std::clamp<std::int64_t>(left - chunk * 16, 0, 16);
        std::memset(dest, 0, 16);
        std::memcpy(dest, from + chunk * 16, static_cast<std::size_t>(some));
      }
    }
  }
};

// ---- barriers in shared memory

struct memory_barrier {
  std::uint32_t count = 0, pending = 0, phases = 0;
  std::int64_t bytes = 0;
  std::vector<box_copy> copies;

  void end_phase() {
    if (pending != 0 || bytes != 0) return;
    ++phases;
    pending = count;
  }
  void arrive() {
    if (pending == 0) throw emulation_error("more arrivals at a barrier than it was made for");
    --pending;
    end_phase();
  }
  bool passed(std::uint32_t parity) {
    for (const box_copy& copy : copies) {
      copy.run();
      bytes -= copy.bytes();
    }
    if (!copies.empty()) {
      copies.clear();
      end_phase();
    }
    return (phases & 1) != parity;
  }
};

inline memory_barrier& barrier_of(const std::uint64_t* p) {
  static std::map<const std::uint64_t*, memory_barrier> barriers;
  return barriers[p];
}

// ---- products

struct operand {
  std::uint32_t start, leading, stride;

  explicit operand(std::uint64_t words)
      : start((words & 0x3FFF) << 4),
        leading((words >> 16 & 0x3FFF) << 4),
        stride((words >> 32 & 0x3FFF) << 4) {
    if (words >> 62 != 1 || (words >> 49 & 7) != 0)
      throw emulation_error("a descriptor of another swizzle or base");
  }
  // Row r (along M or N) and k of a K-major operand of elements of `bytes`; k and column n of an
  // MN-major one.
  std::uint16_t k_major(std::uint32_t r, std::uint32_t k, std::uint32_t bytes) const {
    return load(start + r / 8 * stride + r % 8 * 128 + k * bytes, bytes);
  }
  std::uint16_t n_major(std::uint32_t k, std::uint32_t n) const {
    return load(start + n / 64 * leading + k / 8 * stride + k % 8 * 128 + n % 64 * 2, 2);
  }
  static std::uint16_t load(std::uint32_t address, std::uint32_t bytes) {
    std::uint16_t v = 0;
    std::memcpy(&v, shared_at(swizzle(address)), bytes);
    return v;
  }
};

template <class T>
float value_of_bits(std::uint16_t bits) {
  if constexpr (sizeof(T) == 1) {
    const auto code = static_cast<__nv_fp8_storage_t>(bits);
    return value_of(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
  } else {
    T v;
    std::memcpy(static_cast<void*>(&v), &bits, 2);
    return value_of(v);
  }
}

// One thread's part of a product; `a` null: from shared memory.
struct product_part {
  float* d = nullptr;
  const std::uint32_t* a = nullptr;
  std::uint64_t a_words = 0, b_words = 0;
  bool add = false;
};
struct product {
  std::array<product_part, 128> parts;
  int started = 0, columns = 0, element_bytes = 2;
  float (*value)(std::uint16_t) = nullptr;

  int depth() const { return 32 / element_bytes; }
};
struct taken_sums {
  std::vector<float> values;
  std::size_t last_product = 0;
};

struct warpgroup {
  std::vector<product> products;
  std::size_t done = 0;
  std::array<std::size_t, 128> started{};
  std::array<std::vector<std::size_t>, 128> commits;  // products started before each
  std::array<std::map<float*, taken_sums>, 128> sums;

  void start(int thread, float* d, int registers, const product_part& part, int element_bytes,
             float (*value)(std::uint16_t)) {
    const std::size_t index = started[thread]++;
    if (products.size() == index) products.push_back({{}, 0, 2 * registers, element_bytes, value});
    product& p = products[index];
    const product_part& one = p.parts[p.started == 0 ? thread : first_of(p)];
    if (p.started != 0 && (one.a_words != part.a_words || one.b_words != part.b_words ||
                           one.add != part.add || p.columns != 2 * registers))
      throw emulation_error("threads of a warpgroup start different products");
    p.parts[thread] = part;
    ++p.started;
    auto [place, fresh] = sums[thread].try_emplace(d);
    place->second.last_product = index;
    if (!fresh) return;
    place->second.values.assign(d, d + registers);
    std::memset(static_cast<void*>(d), 0xFF, sizeof(float) * static_cast<std::size_t>(registers));
  }
  static int first_of(const product& p) {
    int i = 0;
    while (p.parts[i].d == nullptr) ++i;
    return i;
  }
  // Products that must be over once at most `groups` groups of the thread's are left.
  std::size_t needed(int thread, std::size_t groups) const {
    const auto& c = commits[thread];
    return c.size() > groups ? c[c.size() - 1 - groups] : 0;
  }
  bool all_started(std::size_t count) const {
    return count <= done || (count <= products.size() && products[count - 1].started == 128);
  }
  void run_until(std::size_t count) {
    for (; done < count; ++done) run(products[done]);
  }
  void give_back(int thread, std::size_t count) {
    std::erase_if(sums[thread], [&](const auto& entry) {
      if (entry.second.last_product >= count) return false;
      std::memcpy(static_cast<void*>(entry.first), entry.second.values.data(),
                  entry.second.values.size() * sizeof(float));
      return true;
    });
  }
  void run(const product& p) {
    const operand b(p.parts[0].b_words);
    const bool from_registers = p.parts[0].a != nullptr;
    const int depth = p.depth(), bytes = p.element_bytes;
    std::vector<float> right(static_cast<std::size_t>(depth * p.columns));
    for (int k = 0; k < depth; ++k) {
      for (int n = 0; n < p.columns; ++n)
        right[static_cast<std::size_t>(k * p.columns + n)] =
            p.value(from_registers ? b.n_major(k, n) : b.k_major(n, k, bytes));
    }
    for (int row = 0; row < 64; ++row) {
      float left[32];
      for (int k = 0; k < depth; ++k) {
        // mma.m16n8k16's fragment: registers 0, 2 of row g, 1, 3 of row g + 8.
        const int lane = row % 8 * 4 + k % 8 / 2, thread = row / 16 * 32 + lane;
        const int which = (k >= 8 ? 2 : 0) + (row % 16 >= 8 ? 1 : 0);
        left[k] = p.value(from_registers
                              ? static_cast<std::uint16_t>(p.parts[thread].a[which] >> 16 * (k % 2))
                              : operand(p.parts[0].a_words).k_major(row, k, bytes));
      }
      for (int n = 0; n < p.columns; ++n) {
        const int thread = row / 16 * 32 + row % 8 * 4 + n % 8 / 2;
        const product_part& part = p.parts[thread];
        float& sum = sums[thread].at(part.d).values[static_cast<std::size_t>(
            n / 8 * 4 + (row % 16 >= 8 ? 2 : 0) + n % 2)];
        double all = part.add ? sum : 0.0;
        for (int k = 0; k < depth; ++k)
          all += static_cast<double>(left[k]) * right[static_cast<std::size_t>(k * p.columns + n)];
        sum = static_cast<float>(all);
      }
    }
  }
};

inline warpgroup& group_of_thread() {
  static std::array<warpgroup, 8> groups;
  static uint3 block{~0U, 0, 0};
  static const void* memory = nullptr;
  if (block.x != blockIdx.x || block.y != blockIdx.y || memory != shared_memory()) groups = {};
  block = blockIdx;
  memory = shared_memory();
  return groups[threadIdx.x / 128];
}

}  // namespace dinfer::tests::cuda_on_cpu

namespace dinfer::kernels::cuda {

namespace emulator = tests::cuda_on_cpu;

inline std::uint32_t shared_address(const void* p) { return emulator::address_of(p); }

inline void barrier_init(std::uint64_t* barrier, std::uint32_t count) {
  emulator::barrier_of(barrier) = {count, count, 0, 0, {}};
}
inline void barrier_init_done() {}
inline void barrier_arrive(std::uint64_t* barrier) { emulator::barrier_of(barrier).arrive(); }
inline void barrier_arrive_expect(std::uint64_t* barrier, std::uint32_t bytes) {
  emulator::barrier_of(barrier).bytes += bytes;
  emulator::barrier_of(barrier).arrive();
}
inline void barrier_wait(std::uint64_t* barrier, std::uint32_t parity,
                         std::source_location where = std::source_location::current()) {
  emulator::wait_until(
      "barrier_wait", [=] { return emulator::barrier_of(barrier).passed(parity); }, where);
}
inline void group_sync(int id, int threads,
                       std::source_location where = std::source_location::current()) {
  emulator::meet_named_barrier(id, threads, where);
}
inline void group_arrive(int id, int threads) { emulator::arrive_at_named_barrier(id, threads); }
inline void fence_async() {}
inline void prefetch_map(const CUtensorMap*) {}
inline void load_box(void* shared, const CUtensorMap* map, int c0, int c1, int c2, int c3,
                     std::uint64_t* barrier) {
  emulator::box_copy copy{{}, emulator::address_of(shared), {c0, c1, c2, c3}};
  std::memcpy(&copy.map, static_cast<const void*>(map), sizeof copy.map);
  if (copy.to % 1024 != 0) throw emulator::emulation_error("load_box to an address off 1024");
  std::memset(shared, 0xFF, copy.bytes());
  emulator::barrier_of(barrier).copies.push_back(copy);
}
inline void load_box(void* shared, const CUtensorMap* map, int c0, int c1, std::uint64_t* barrier) {
  load_box(shared, map, c0, c1, 0, 0, barrier);
}
template <int Registers>
void more_registers() {}
template <int Registers>
void fewer_registers() {}

inline void multiply_fence() {}
inline void multiply_commit() {
  emulator::warpgroup& group = emulator::group_of_thread();
  group.commits[threadIdx.x % 128].push_back(group.started[threadIdx.x % 128]);
}
template <int Groups>
void multiply_wait(std::source_location where = std::source_location::current()) {
  emulator::warpgroup& group = emulator::group_of_thread();
  const int thread = static_cast<int>(threadIdx.x % 128);
  const std::size_t needed = group.needed(thread, Groups);
  emulator::wait_until(
      "multiply_wait", [&] { return group.all_started(needed); }, where);
  group.run_until(needed);
  group.give_back(thread, needed);
}
inline void done_before_wait(float value) {
  if (value < 0) throw emulator::emulation_error("done_before_wait of a negative value");
}
template <int N>
void pin(float (&)[N]) {}

template <class T, int N>
void multiply_shared(float (&d)[N], std::uint64_t a, std::uint64_t b, bool add) {
  emulator::group_of_thread().start(static_cast<int>(threadIdx.x % 128), d, N,
                                    {d, nullptr, a, b, add}, sizeof(T),
                                    &emulator::value_of_bits<T>);
}
template <class T, int N>
void multiply_registers(float (&d)[N], const std::uint32_t* a, std::uint64_t b) {
  emulator::group_of_thread().start(static_cast<int>(threadIdx.x % 128), d, N, {d, a, 0, b, true},
                                    sizeof(T), &emulator::value_of_bits<T>);
}

}  // namespace dinfer::kernels::cuda
