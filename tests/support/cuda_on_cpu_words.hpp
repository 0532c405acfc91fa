// SPDX-License-Identifier: Apache-2.0
// CUDA's device functions, and the words of kernels/cuda/ptx.cuh, for kernels on the host; included
// by cuda_on_cpu.hpp alone.
#pragma once

#include <bit>
#include <cmath>
#include <limits>

#ifndef CUDART_INF_F
#define CUDART_INF_F (std::numeric_limits<float>::infinity())
#define CUDART_NAN_F (std::numeric_limits<float>::quiet_NaN())
#endif

namespace dinfer::tests::cuda_on_cpu {

// What lane `source` gave, for every lane.
template <class T>
T shuffle(const char* name, unsigned mask, T value, int source, std::source_location where) {
  T result = value;
  lane_call call{name, mask, &value, &result, source, where};
  meet_warp(call, [](const lane_calls& lanes) {
    for (const lane_call* lane : lanes) {
      if (!lane) continue;
      const lane_call* from = lanes[static_cast<std::size_t>(lane->argument)];
      if (from) {
        std::memcpy(lane->out, from->in, sizeof(T));
      } else {
        std::memset(lane->out, 0xFF, sizeof(T));
      }
    }
  });
  return result;
}

// fold(a, b) over the lanes in order; every lane gets it.
template <class T, class Fold>
T fold_lanes(const char* name, unsigned mask, T value, std::source_location where, Fold) {
  T result = value;
  lane_call call{name, mask, &value, &result, 0, where};
  meet_warp(call, [](const lane_calls& lanes) {
    bool first = true;
    T sum{};
    for (const lane_call* lane : lanes) {
      if (!lane) continue;
      const T v = *static_cast<const T*>(lane->in);
      sum = first ? v : Fold{}(sum, v);
      first = false;
    }
    for (const lane_call* lane : lanes) {
      if (lane) *static_cast<T*>(lane->out) = sum;
    }
  });
  return result;
}

template <class T>
unsigned match_lanes(unsigned mask, T value, std::source_location where) {
  unsigned result = 0;
  lane_call call{"__match_any_sync", mask, &value, &result, 0, where};
  meet_warp(call, [](const lane_calls& lanes) {
    for (const lane_call* lane : lanes) {
      if (!lane) continue;
      unsigned same = 0;
      for (int i = 0; i < 32; ++i) {
        if (lanes[i] && std::memcmp(lanes[i]->in, lane->in, sizeof(T)) == 0) same |= 1u << i;
      }
      *static_cast<unsigned*>(lane->out) = same;
    }
  });
  return result;
}

struct bit_or {
  unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};
struct bit_and {
  unsigned operator()(unsigned a, unsigned b) const { return a & b; }
};
struct bit_xor {
  unsigned operator()(unsigned a, unsigned b) const { return a ^ b; }
};
struct plus {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a + b);
  }
};
struct smaller {
  template <class T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct larger {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

template <class T>
concept atomic_word =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;
template <class T>
concept atomic_number = atomic_word<T> || std::is_same_v<T, float> || std::is_same_v<T, double> ||
    std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

template <class T>
T replace(T* p, T value) {
  const T old = *p;
  *p = value;
  return old;
}

template <class I>
I to_integer(double v) {
  if (v != v) return 0;
  if (v <= static_cast<double>(std::numeric_limits<I>::min())) return std::numeric_limits<I>::min();
  if (v >= static_cast<double>(std::numeric_limits<I>::max())) return std::numeric_limits<I>::max();
  return static_cast<I>(v);
}

}  // namespace dinfer::tests::cuda_on_cpu

// ---- waiting for others

#define DINFER_WHERE std::source_location where = std::source_location::current()

inline void __syncthreads(DINFER_WHERE) {
  dinfer::tests::cuda_on_cpu::meet_block("__syncthreads", 0, where);
}
inline int __syncthreads_count(int value, DINFER_WHERE) {
  return dinfer::tests::cuda_on_cpu::meet_block("__syncthreads_count", value, where);
}
inline int __syncthreads_or(int value, DINFER_WHERE) {
  return dinfer::tests::cuda_on_cpu::meet_block("__syncthreads_or", value, where) != 0;
}
inline int __syncthreads_and(int value, DINFER_WHERE) {
  return dinfer::tests::cuda_on_cpu::meet_block("__syncthreads_and", value == 0, where) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, DINFER_WHERE) {
  dinfer::tests::cuda_on_cpu::lane_call call{"__syncwarp", mask, nullptr, nullptr, 0, where};
  dinfer::tests::cuda_on_cpu::meet_warp(call, [](const dinfer::tests::cuda_on_cpu::lane_calls&) {});
}
inline unsigned __activemask() { return dinfer::tests::cuda_on_cpu::live_lanes(); }
inline void __nanosleep(unsigned) { dinfer::tests::cuda_on_cpu::let_others_run(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
[[noreturn]] inline void __trap() {
  throw dinfer::tests::cuda_on_cpu::emulation_error("__trap() in a kernel");
}

// ---- between the lanes of a warp

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, DINFER_WHERE) {
  const int lane = dinfer::tests::cuda_on_cpu::current_lane();
  const int from = (lane & ~(width - 1)) | (source & (width - 1));
  return dinfer::tests::cuda_on_cpu::shuffle("__shfl_sync", mask, value, from, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, DINFER_WHERE) {
  const int lane = dinfer::tests::cuda_on_cpu::current_lane();
  const int last = lane | (width - 1), from = lane ^ lanes;
  return dinfer::tests::cuda_on_cpu::shuffle("__shfl_xor_sync", mask, value,
                                             from <= last ? from : lane, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, DINFER_WHERE) {
  const int lane = dinfer::tests::cuda_on_cpu::current_lane();
  const int last = lane | (width - 1), from = lane + static_cast<int>(by);
  return dinfer::tests::cuda_on_cpu::shuffle("__shfl_down_sync", mask, value,
                                             from <= last ? from : lane, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, DINFER_WHERE) {
  const int lane = dinfer::tests::cuda_on_cpu::current_lane();
  const int first = lane & ~(width - 1), from = lane - static_cast<int>(by);
  return dinfer::tests::cuda_on_cpu::shuffle("__shfl_up_sync", mask, value,
                                             from >= first ? from : lane, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, DINFER_WHERE) {
  const unsigned bit = predicate ? 1u << dinfer::tests::cuda_on_cpu::current_lane() : 0;
  return dinfer::tests::cuda_on_cpu::fold_lanes("__ballot_sync", mask, bit, where,
                                                dinfer::tests::cuda_on_cpu::bit_or{});
}
inline int __any_sync(unsigned mask, int predicate, DINFER_WHERE) {
  return static_cast<int>(dinfer::tests::cuda_on_cpu::fold_lanes(
      "__any_sync", mask, predicate != 0 ? 1u : 0u, where, dinfer::tests::cuda_on_cpu::bit_or{}));
}
inline int __all_sync(unsigned mask, int predicate, DINFER_WHERE) {
  return static_cast<int>(dinfer::tests::cuda_on_cpu::fold_lanes(
      "__all_sync", mask, predicate != 0 ? 1u : 0u, where, dinfer::tests::cuda_on_cpu::bit_and{}));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, DINFER_WHERE) {
  return dinfer::tests::cuda_on_cpu::match_lanes(mask, value, where);
}
#define DINFER_REDUCE(name, type, fold)                                                \
  inline type name(unsigned mask, type value, DINFER_WHERE) {                          \
    return dinfer::tests::cuda_on_cpu::fold_lanes(#name, mask, value, where,           \
                                                  dinfer::tests::cuda_on_cpu::fold{}); \
  }
DINFER_REDUCE(__reduce_add_sync, int, plus)
DINFER_REDUCE(__reduce_add_sync, unsigned, plus)
DINFER_REDUCE(__reduce_min_sync, int, smaller)
DINFER_REDUCE(__reduce_min_sync, unsigned, smaller)
DINFER_REDUCE(__reduce_max_sync, int, larger)
DINFER_REDUCE(__reduce_max_sync, unsigned, larger)
DINFER_REDUCE(__reduce_or_sync, unsigned, bit_or)
DINFER_REDUCE(__reduce_and_sync, unsigned, bit_and)
DINFER_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef DINFER_REDUCE

// ---- atomics

template <dinfer::tests::cuda_on_cpu::atomic_number T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p + v);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicSub(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p - v);
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, v);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, v < *p ? v : *p);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p < v ? v : *p);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p | v);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicAnd(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p & v);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicXor(T* p, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p ^ v);
}
template <dinfer::tests::cuda_on_cpu::atomic_word T>
T atomicCAS(T* p, std::type_identity_t<T> compare, std::type_identity_t<T> v) {
  return dinfer::tests::cuda_on_cpu::replace<T>(p, *p == compare ? v : *p);
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return dinfer::tests::cuda_on_cpu::replace<unsigned>(p, *p >= limit ? 0 : *p + 1);
}
inline unsigned atomicDec(unsigned* p, unsigned limit) {
  return dinfer::tests::cuda_on_cpu::replace<unsigned>(p, *p == 0 || *p > limit ? limit : *p - 1);
}

// ---- memory with hints

#define DINFER_LOAD(name) \
  template <class T>      \
  T name(const T* p) {    \
    return *p;            \
  }
#define DINFER_STORE(name)                     \
  template <class T>                           \
  void name(T* p, std::type_identity_t<T> v) { \
    *p = v;                                    \
  }
DINFER_LOAD(__ldg)
DINFER_LOAD(__ldca)
DINFER_LOAD(__ldcg)
DINFER_LOAD(__ldcs)
DINFER_LOAD(__ldlu)
DINFER_LOAD(__ldcv)
DINFER_STORE(__stwb)
DINFER_STORE(__stcg)
DINFER_STORE(__stcs)
DINFER_STORE(__stwt)
#undef DINFER_LOAD
#undef DINFER_STORE
inline void __prefetch_global_l2(const void*) {}

// ---- bits

inline int __popc(unsigned v) { return std::popcount(v); }
inline int __popcll(unsigned long long v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline int __clzll(long long v) { return std::countl_zero(static_cast<unsigned long long>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned long long __brevll(unsigned long long v) {
  unsigned long long r = 0;
  for (int i = 0; i < 64; ++i) r |= (v >> i & 1) << (63 - i);
  return r;
}
inline unsigned __brev(unsigned v) { return static_cast<unsigned>(__brevll(v) >> 32); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline long long __double_as_longlong(double v) { return std::bit_cast<long long>(v); }
inline double __longlong_as_double(long long v) { return std::bit_cast<double>(v); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(std::int64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<wide>(a) * b >> 64);
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned select) {
  const std::uint64_t bytes = std::uint64_t{y} << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned s = select >> 4 * i & 0xF;
    unsigned byte = static_cast<unsigned>(bytes >> 8 * (s & 7) & 0xFF);
    if (s & 8) byte = byte & 0x80 ? 0xFF : 0;
    r |= byte << 8 * i;
  }
  return r;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) << (by & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (by & 31));
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i)
    c += static_cast<std::int8_t>(a >> 8 * i) * static_cast<std::int8_t>(b >> 8 * i);
  return c;
}

// ---- arithmetic

#define DINFER_MIN_MAX(type)                                          \
  inline constexpr type min(type a, type b) { return b < a ? b : a; } \
  inline constexpr type max(type a, type b) { return a < b ? b : a; }
DINFER_MIN_MAX(int)
DINFER_MIN_MAX(unsigned)
DINFER_MIN_MAX(long)
DINFER_MIN_MAX(unsigned long)
DINFER_MIN_MAX(long long)
DINFER_MIN_MAX(unsigned long long)
#undef DINFER_MIN_MAX
// CUDA's overloads of mixed signs turn the signed one into an unsigned.
inline constexpr unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
inline constexpr unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline constexpr unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
inline constexpr unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

inline float rsqrtf(float v) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(v))); }
inline float __expf(float v) { return std::exp(v); }
inline float __exp10f(float v) { return std::pow(10.0f, v); }
inline float __logf(float v) { return std::log(v); }
inline float __log2f(float v) { return std::log2(v); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __sinf(float v) { return std::sin(v); }
inline float __cosf(float v) { return std::cos(v); }
inline void __sincosf(float v, float* s, float* c) {
  *s = std::sin(v);
  *c = std::cos(v);
}
inline float __tanhf(float v) { return std::tanh(v); }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1) : 0; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __frsqrt_rn(float v) { return rsqrtf(v); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }

inline int __float2int_rn(float v) {
  return dinfer::tests::cuda_on_cpu::to_integer<int>(std::nearbyint(v));
}
inline int __float2int_rz(float v) { return dinfer::tests::cuda_on_cpu::to_integer<int>(v); }
inline int __float2int_rd(float v) {
  return dinfer::tests::cuda_on_cpu::to_integer<int>(std::floor(v));
}
inline int __float2int_ru(float v) {
  return dinfer::tests::cuda_on_cpu::to_integer<int>(std::ceil(v));
}
inline unsigned __float2uint_rn(float v) {
  return dinfer::tests::cuda_on_cpu::to_integer<unsigned>(std::nearbyint(v));
}
inline unsigned __float2uint_rz(float v) {
  return dinfer::tests::cuda_on_cpu::to_integer<unsigned>(v);
}
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline float __uint2float_rn(unsigned v) { return static_cast<float>(v); }
inline float __ull2float_rn(unsigned long long v) { return static_cast<float>(v); }
inline float __double2float_rn(double v) { return static_cast<float>(v); }

// CUDA's headers have the rest of these for the host.
inline __half __hfma(__half a, __half b, __half c) {
  return __double2half(static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __double2bfloat16(static_cast<double>(__bfloat162float(a)) * __bfloat162float(b) +
                           __bfloat162float(c));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

inline long long clock64() {
  static long long ticks = 0;
  return ++ticks;
}

// ---- the words of ptx.cuh

namespace dinfer::tests::cuda_on_cpu {

inline void load_matrices(const char* name, std::uint32_t (&registers)[4], const void* shared_row,
                          bool transposed, std::source_location where) {
  lane_call call{name, 0xFFFFFFFFu, shared_row, &registers, transposed, where};
  meet_warp(call, [](const lane_calls& lanes) {
    for (int i = 0; i < 32; ++i) {
      if (!lanes[i]) throw emulation_error(std::string(lanes[0]->name) + " of a part of a warp");
      if (reinterpret_cast<std::uintptr_t>(lanes[i]->in) % 16 != 0)
        throw emulation_error("load_matrix_x4 at " + std::string(lanes[i]->where.file_name()) +
                              ":" + std::to_string(lanes[i]->where.line()) +
                              ": an address that 16 does not divide, of lane " + std::to_string(i));
    }
    for (int lane = 0; lane < 32; ++lane) {
      auto& r = *static_cast<std::uint32_t(*)[4]>(lanes[lane]->out);
      for (int matrix = 0; matrix < 4; ++matrix) {
        std::uint16_t two[2];
        for (int i = 0; i < 2; ++i) {
          int row = lane / 4, column = 2 * (lane % 4) + i;
          if (lanes[lane]->argument) std::swap(row, column);
          std::memcpy(&two[i],
                      static_cast<const std::byte*>(lanes[8 * matrix + row]->in) + 2 * column, 2);
        }
        r[matrix] = two[0] | static_cast<std::uint32_t>(two[1]) << 16;
      }
    }
  });
}

struct mma_registers {
  float (*d)[4];
  const std::uint32_t (*a)[4];
  const std::uint32_t (*b)[2];
};

inline float value_of(__nv_bfloat16 v) { return __bfloat162float(v); }
inline float value_of(__half v) { return __half2float(v); }

template <class T>
double half_of(std::uint32_t two, int which) {
  const auto bits = static_cast<std::uint16_t>(two >> 16 * which);
  T v;
  std::memcpy(static_cast<void*>(&v), &bits, 2);
  return value_of(v);
}

// PTX ISA, fragments of mma.m16n8k16: lane = 4 * group + t.
template <class T>
void multiply(const lane_calls& lanes) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    if (!lanes[lane]) throw emulation_error("mma_16x8x16 of a part of a warp");
    const auto& regs = *static_cast<const mma_registers*>(lanes[lane]->in);
    const int group = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; ++i) {
      a[group][2 * t + i] = half_of<T>((*regs.a)[0], i);
      a[group + 8][2 * t + i] = half_of<T>((*regs.a)[1], i);
      a[group][2 * t + i + 8] = half_of<T>((*regs.a)[2], i);
      a[group + 8][2 * t + i + 8] = half_of<T>((*regs.a)[3], i);
      b[2 * t + i][group] = half_of<T>((*regs.b)[0], i);
      b[2 * t + i + 8][group] = half_of<T>((*regs.b)[1], i);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& regs = *static_cast<const mma_registers*>(lanes[lane]->in);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = (*regs.d)[i];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      (*regs.d)[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace dinfer::tests::cuda_on_cpu

namespace dinfer::kernels::cuda {

inline void copy_async_16(void* shared, const void* global, bool valid) {
  tests::cuda_on_cpu::copy_later(shared, global, valid);
}
inline void copy_async_commit() { tests::cuda_on_cpu::commit_copies(); }
template <int Groups>
void copy_async_wait() {
  tests::cuda_on_cpu::wait_for_copies(Groups);
}

inline void load_matrix_x4(std::uint32_t (&r)[4], const void* shared_row, DINFER_WHERE) {
  tests::cuda_on_cpu::load_matrices("load_matrix_x4", r, shared_row, false, where);
}
inline void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* shared_row, DINFER_WHERE) {
  tests::cuda_on_cpu::load_matrices("load_matrix_x4_transposed", r, shared_row, true, where);
}

// Sums in double, rounded once: a tensor core's sum differs in the last bits.
template <class T>
void mma_16x8x16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                 DINFER_WHERE) {
  const tests::cuda_on_cpu::mma_registers registers{&d, &a, &b};
  tests::cuda_on_cpu::lane_call call{"mma_16x8x16", 0xFFFFFFFFu, &registers, nullptr, 0, where};
  tests::cuda_on_cpu::meet_warp(call, &tests::cuda_on_cpu::multiply<T>);
}

// One launch at a time: what others store is there when a launch begins.
inline uint4 load_system_16(const void* p) {
  uint4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store_system_16(void* p, const uint4& v) { std::memcpy(p, &v, sizeof v); }
inline std::uint32_t load_system(const std::uint32_t* p) { return *p; }
inline void store_system(std::uint32_t* p, std::uint32_t v) { *p = v; }
inline std::uint32_t acquire_system(const std::uint32_t* p) { return *p; }
inline void release_system(std::uint32_t* p, std::uint32_t v) { *p = v; }
inline std::uint64_t nanoseconds() { return static_cast<std::uint64_t>(clock64()); }

inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return std::fpclassify(y) == FP_SUBNORMAL ? 0.0f : y;
}

}  // namespace dinfer::kernels::cuda

#undef DINFER_WHERE
