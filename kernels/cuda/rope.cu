// SPDX-License-Identifier: Apache-2.0
// rope_store: one block a token. Its cosines and sines are computed once, into shared memory; then
// a thread turns `Width` pairs of one head at a time, or copies a head's rest.
#include "kernels/cuda/f8_words.cuh"
#include "kernels/cuda/pointwise.hpp"
#include "kernels/cuda/rows.cuh"

#include <type_traits>

namespace dinfer::kernels::cuda {

namespace {

struct rope_shape {
  void* qkv = nullptr;
  std::int32_t query_heads = 0, kv_heads = 0, head_dim = 0, rotary = 0;
  const float* inverse_frequencies = nullptr;
  const std::int32_t* positions = nullptr;
  const std::int32_t* token_sequence = nullptr;
  const std::int32_t* table_rows = nullptr;
  const std::int32_t* block_table = nullptr;
  std::int64_t table_width = 0;
  void* pages = nullptr;  // of this layer: as attention_shape
  std::int64_t page_elements = 0;
  std::int32_t block_size = 0;
};

template <class T, int Width>
struct alignas(Width * sizeof(T)) piece {
  T v[Width];
};

// As pages hold it.
template <class Stored, class T, int Width>
__device__ __forceinline__ piece<Stored, Width> stored_as(const piece<T, Width>& from) {
  if constexpr (std::is_same_v<Stored, T>) {
    return from;
  } else {
    piece<Stored, Width> to;
#pragma unroll
    for (int e = 0; e < Width; ++e) to.v[e] = to_f8(to_float(from.v[e]));
    return to;
  }
}

// Where position `position` of token t's sequence lies in key head 0: elements from s.pages.
__device__ __forceinline__ std::int64_t line_of(const rope_shape& s, std::int64_t t,
                                                std::int32_t position) {
  const std::int64_t table_row = s.table_rows[s.token_sequence[t]];
  const std::int64_t page = s.block_table[table_row * s.table_width + position / s.block_size];
  return page * s.page_elements + std::int64_t{position % s.block_size} * s.head_dim;
}

// Turns (a, b) by the angle whose cosine and sine are given; one rounding each.
template <class T>
__device__ __forceinline__ void turn(T& a, T& b, float cosine, float sine) {
  const float x = to_float(a), y = to_float(b);
  a = from_float<T>(x * cosine - y * sine);
  b = from_float<T>(y * cosine + x * sine);
}

// A thread's task: one piece of a head, or two that turn together. Half: piece i and the one half a
// rotation further; else neighbours within a piece.
template <class T, int Width, bool Half>
struct head_task {
  using part = piece<T, Width>;
  int head, at;  // dimension of the first element
  bool turns, paired;
  part x, y;

  static __device__ __forceinline__ int turning(const rope_shape& s) {  // tasks of a head
    return (Half ? s.rotary / 2 : s.rotary) / Width;
  }
  static __device__ __forceinline__ int of_head(const rope_shape& s) {
    return s.head_dim / Width - (Half ? turning(s) : 0);
  }
  __device__ __forceinline__ head_task(const rope_shape& s, const T* row, int index) {
    head = index / of_head(s);
    const int task = index % of_head(s);
    paired = Half && task < turning(s);
    turns = task < turning(s) && head < s.query_heads + s.kv_heads;
    at = (Half && !paired ? task + turning(s) : task) * Width;
    const T* from = row + std::int64_t{head} * s.head_dim + at;
    x = *reinterpret_cast<const part*>(from);
    y = paired ? *reinterpret_cast<const part*>(from + s.rotary / 2) : x;
  }
  // A query's rest stays where it is.
  __device__ __forceinline__ bool idle(const rope_shape& s) const {
    return head < s.query_heads && !turns;
  }
  __device__ __forceinline__ void turn_by(const float* cosines, const float* sines) {
#pragma unroll
    for (int e = 0; e < Width; e += Half ? 1 : 2) {
      const int angle = Half ? at + e : (at + e) / 2;
      T& second = Half ? y.v[e] : x.v[(e + 1) % Width];
      turn(x.v[e], second, cosines[angle], sines[angle]);
    }
  }
  template <class Stored>
  __device__ __forceinline__ void store(const rope_shape& s, Stored* to) const {
    using to_part = piece<Stored, Width>;
    *reinterpret_cast<to_part*>(to) = stored_as<Stored>(x);
    if (paired) *reinterpret_cast<to_part*>(to + s.rotary / 2) = stored_as<Stored>(y);
  }
};

template <class T, class Stored, int Width, bool Half>
__global__ void __launch_bounds__(512) rope_store_kernel(rope_shape s) {
  using task = head_task<T, Width, Half>;
  DINFER_SHARED(float, cosines);  // [rotary / 2], and the sines after them
  const std::int64_t t = blockIdx.x;
  float* sines = cosines + s.rotary / 2;
  const int heads = s.query_heads + 2 * s.kv_heads;
  const int tasks = heads * task::of_head(s);
  T* row = static_cast<T*>(s.qkv) + t * heads * s.head_dim;
  const std::int32_t position = s.positions[t];
  Stored* lines = static_cast<Stored*>(s.pages) + line_of(s, t, position);
  // There is a task for every thread but for some of the last warp; its data comes meanwhile.
  const int first = static_cast<int>(threadIdx.x) < tasks ? static_cast<int>(threadIdx.x) : 0;
  task own(s, row, first);
  for (int i = threadIdx.x; i < s.rotary / 2; i += blockDim.x) {
    sincosf(static_cast<float>(position) * s.inverse_frequencies[i], &sines[i], &cosines[i]);
  }
  __syncthreads();

  for (int i = threadIdx.x; i < tasks; i += blockDim.x) {
    if (i != first) own = task(s, row, i);
    if (own.idle(s)) continue;
    if (own.turns) {
      own.turn_by(cosines, sines);
      own.store(s, row + std::int64_t{own.head} * s.head_dim + own.at);
    }
    if (own.head < s.query_heads) continue;
    // Key heads, then value heads: as in a page.
    own.store(s,
              lines + std::int64_t{own.head - s.query_heads} * s.block_size * s.head_dim + own.at);
  }
}

template <class T, class Stored, int Width, bool Half>
void launch_rope(const rope_shape& s, std::int32_t tokens, cudaStream_t stream) {
  const int turning = Half ? s.rotary / 2 / Width : 0;
  const std::int64_t tasks =
      std::int64_t{s.query_heads + 2 * s.kv_heads} * (s.head_dim / Width - turning);
  const std::int64_t threads = tasks < 512 ? divide_up(tasks, 32) * 32 : 512;
  launch(rope_store_kernel<T, Stored, Width, Half>, dim3(static_cast<unsigned>(tokens)),
         dim3(static_cast<unsigned>(threads)), static_cast<std::size_t>(s.rotary) * sizeof(float),
         stream, s);
}

// 16 bytes at a time where heads and what turns of them allow, else as little as can be.
template <class T, class Stored>
void launch_rope(const rope_shape& s, rope_style style, std::int32_t tokens, cudaStream_t stream) {
  constexpr int wide = pack<T>::count;
  const bool aligned = s.head_dim % wide == 0 &&
                       reinterpret_cast<std::uintptr_t>(s.qkv) % 16 == 0 &&
                       reinterpret_cast<std::uintptr_t>(s.pages) % 16 == 0;
  if (style == rope_style::interleaved) {
    if (aligned && s.rotary % wide == 0)
      return launch_rope<T, Stored, wide, false>(s, tokens, stream);
    return launch_rope<T, Stored, 2, false>(s, tokens, stream);
  }
  if (aligned && s.rotary / 2 % wide == 0)
    return launch_rope<T, Stored, wide, true>(s, tokens, stream);
  launch_rope<T, Stored, 1, true>(s, tokens, stream);
}

}  // namespace

void rope_store(const rope_store_args& args, cudaStream_t stream) {
  const auto& pages = args.pages;
  const auto& batch = *args.batch;
  rope_shape s;
  s.qkv = args.qkv.data;
  s.query_heads = args.query_heads;
  s.kv_heads = args.kv_heads;
  s.head_dim = args.head_dim;
  s.rotary = args.rope.style == rope_style::none ? 0 : args.rope.rotary;
  s.inverse_frequencies = args.rope.inverse_frequencies.as<float>();
  s.positions = batch.positions.as<std::int32_t>();
  s.token_sequence = batch.token_sequence.as<std::int32_t>();
  s.table_rows = batch.table_rows.as<std::int32_t>();
  s.block_table = batch.block_table.as<std::int32_t>();
  s.table_width = batch.block_table.columns();
  s.page_elements = pages.page_elements();
  s.block_size = pages.block_size;
  const bool neighbours = args.rope.style == rope_style::interleaved;
  const bool f8_pages = pages.type == dtype::f8_e4m3;
  if ((pages.type != args.qkv.type && !f8_pages) || pages.head_dim != s.head_dim ||
      pages.kv_heads != s.kv_heads || pages.block_size <= 0 || s.rotary % 2 != 0 ||
      s.rotary > s.head_dim || (neighbours && s.head_dim % 2 != 0)) {
    throw device_error(errc::internal, "rope_store: these heads and pages do not fit together");
  }
  s.pages = static_cast<std::byte*>(pages.base) +
            row_bytes(pages.type, args.layer * pages.layer_elements());
  with_type(args.qkv.type, [&](auto zero) {
    using T = decltype(zero);
    if (f8_pages) launch_rope<T, f8>(s, args.rope.style, batch.tokens, stream);
    else launch_rope<T, T>(s, args.rope.style, batch.tokens, stream);
  });
}

}  // namespace dinfer::kernels::cuda
