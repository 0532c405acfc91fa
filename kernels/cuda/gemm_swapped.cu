// SPDX-License-Identifier: Apache-2.0
// Products of 9 to 128 rows on Hopper, as fast as their weights come from memory: wgmma has at
// least 64 rows of its first operand, so that operand is w, and x's rows are the columns. A block
// stays on its multiprocessor for the whole product. One warp keeps a ring of stages full by TMA,
// each 128 bytes along k of a tile of w and of all rows of x, whose tiles come from the cache; the
// first weights are asked for before the kernel ahead has written x. What lies past the ends of w
// and x arrives as zeros.
//
// Tiles seldom divide by multiprocessors. So units of all tiles are dealt out as one line
// (stream-K, Osama et al. 2023); a tile that is cut goes through memory as f32 parts, and whoever
// comes last adds them in the order of k.
//
// The tensor cores add 8-bit floats with fewer bits than f32 has, so sums of a unit, 128 elements,
// are added up outside of them.
#include "kernels/cuda/gemm_swapped.hpp"

#include "kernels/cuda/overlap.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/swapped_tile.cuh"
#include "kernels/cuda/tensor_map.hpp"

#include <algorithm>

namespace dinfer::kernels::cuda {

namespace {

// By one warp.
template <class Shape>
__device__ __forceinline__ void produce(const swapped_args& a, const CUtensorMap* w,
                                        const CUtensorMap* x, const block_units& units,
                                        unsigned char* shared, ring_barriers& barriers) {
  const std::int32_t ahead = min(units.count(), std::int32_t{Shape::stages});
  const bool speaker = threadIdx.x % 32 == 0;
  const auto fetch_w = [&](std::int32_t unit, int stage) {
    barrier_arrive_expect(barriers.full + stage, Shape::stage_bytes);
    load_box(shared + stage * Shape::stage_bytes, w, unit % a.depth * Shape::elements,
             unit / a.depth * Shape::height, barriers.full + stage);
  };
  const auto fetch_x = [&](std::int32_t unit, int stage) {
    load_box(shared + stage * Shape::stage_bytes + Shape::x_at, x, unit % a.depth * Shape::elements,
             0, barriers.full + stage);
  };
  if (speaker) {
    for (int i = 0; i < ahead; ++i) fetch_w(units.at(i), i);
  }
  wait_for_previous();
  if (!speaker) return;
  for (int i = 0; i < ahead; ++i) fetch_x(units.at(i), i);
  ring_place<Shape::stages> place;
  for (std::int32_t i = ahead; i < units.count();) {
    const std::int32_t some = min(units.count() - i, std::int32_t{Shape::burst});
    ring_place<Shape::stages> to[Shape::burst + 1];
    to[0] = place;
#pragma unroll
    for (int j = 0; j < Shape::burst; ++j) {
      to[j + 1] = to[j];
      if (j < some) to[j + 1].step();
      if (j + 1 == some) barrier_wait(barriers.empty + to[j].stage, to[j].parity);  // the last free
    }
#pragma unroll
    for (int j = 0; j < Shape::burst; ++j) {
      if (j < some) fetch_w(units.at(i + j), to[j].stage);
    }
#pragma unroll
    for (int j = 0; j < Shape::burst; ++j) {
      if (j < some) fetch_x(units.at(i + j), to[j].stage);
    }
    place = to[Shape::burst];
    i += some;
  }
}

// By warpgroup `group`.
template <class Shape>
__device__ __forceinline__ void consume(const swapped_args& a, const unit_shares& shares,
                                        const block_units& units, int group, unsigned char* shared,
                                        ring_barriers& barriers) {
  const int thread = static_cast<int>(threadIdx.x % group_threads);
  const std::uint32_t base = shared_address(shared);
  const std::uint64_t w =
      matrix_words(base + group * Shape::blocks * 64 * unit_bytes, 0, 8 * unit_bytes);
  const std::uint64_t x = matrix_words(base + Shape::x_at, 0, 8 * unit_bytes);
  float* const space =
      reinterpret_cast<float*>(shared + Shape::strips_at) + group * Shape::strip_floats;
  volatile int* const flag = reinterpret_cast<int*>(shared + Shape::flags_at) + group;
  wait_for_previous();  // it may still read what this one writes
  ring_place<Shape::stages> place;
  tile_sums<Shape> sums;
  for (std::int32_t i = 0; i < units.count();) {
    const std::int32_t unit = units.at(i), tile = unit / a.depth;
    const std::int32_t count = units.together(unit, a.depth);
    add_units<Shape>(sums, count, w, x, barriers, place);
    i += count;
    if (count < a.depth) {
      const tile_parts<Shape> parts(a, shares, tile, group, thread);
      if (!share_tile<Shape>(a, parts, tile, group, thread, sums, flag)) continue;
    }
    store_tile<Shape>(a, tile, group, thread, sums, space);
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    swapped_kernel(const __grid_constant__ swapped_args a, const __grid_constant__ CUtensorMap w,
                   const __grid_constant__ CUtensorMap x) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(DINFER_CUDA_ON_CPU)
  DINFER_SHARED(unsigned char, shared);
  auto& barriers = *reinterpret_cast<ring_barriers*>(shared + Shape::barriers_at);
  let_next_begin();
  if (threadIdx.x == 0) {
    prefetch_map(&w);
    prefetch_map(&x);
    for (int i = 0; i < Shape::stages; ++i) {
      barrier_init(barriers.full + i, 1);
      barrier_init(barriers.empty + i, Shape::groups * group_threads / 32);
    }
    barrier_init_done();
  }
  __syncthreads();
  const unit_shares shares{std::int64_t{a.tiles} * a.depth, gridDim.x};
  const block_units units(shares, static_cast<std::int32_t>(blockIdx.x), a.depth);
  const int group = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x / group_threads), 0);
  if (group == Shape::groups) {
    produce<Shape>(a, &w, &x, units, shared, barriers);
  } else {
    consume<Shape>(a, shares, units, group, shared, barriers);
  }
#endif
}

// ---- host

constexpr std::int64_t largest = std::int64_t{1} << 20;  // n and k

int columns_of(const product& p) { return p.rows <= 32 ? 32 : p.rows <= 64 ? 64 : 128; }
std::int64_t depth_of(const product& p) { return divide_up(row_bytes(p.type, p.k), unit_bytes); }

template <class Shape>
void launch_swapped(const product& p, const swapped_plan& plan, const swapped_space& space,
                    bool swiglu, cudaStream_t stream) {
  swapped_args a{};
  a.out = p.out;
  if (p.type == dtype::f8_e4m3) a.x_scales = p.x_scales, a.w_scales = p.w_scales;
  a.parts = static_cast<float4*>(space.parts);
  a.counters = space.counters;
  a.ldo = p.ldo;
  a.rows = static_cast<std::int32_t>(p.rows);
  a.outputs = static_cast<std::int32_t>(swiglu ? p.n / 2 : p.n);
  a.tiles = static_cast<std::int32_t>(divide_up(p.n, Shape::height));
  a.depth = static_cast<std::int32_t>(depth_of(p));
  a.out_type = p.out_type;
  a.swiglu = swiglu;
  const dim3 grid(static_cast<unsigned>(plan.blocks)), block(Shape::threads);
  const auto w = matrix_map({p.w, p.n, p.k, p.ldw, p.type}, Shape::height);
  const auto x = matrix_map({p.x, p.rows, p.k, p.ldx, p.type}, Shape::columns);
  if (p.w_is_new) {
    launch(swapped_kernel<Shape>, grid, block, Shape::shared_bytes, stream, a, w, x);
  } else {
    launch_overlapped(swapped_kernel<Shape>, grid, block, Shape::shared_bytes, stream, a, w, x);
  }
}

template <class T, int Columns>
void launch_columns(const product& p, const swapped_plan& plan, const swapped_space& space,
                    bool swiglu, cudaStream_t stream) {
  const auto run = [&](auto shape) {
    launch_swapped<decltype(shape)>(p, plan, space, swiglu, stream);
  };
  if (plan.height == 64) return run(swapped_shape<T, Columns, 1, 1>{});
  if (plan.height == 128) return run(swapped_shape<T, Columns, 2, 1>{});
  if constexpr (sizeof(T) > 1 || Columns < 128) return run(swapped_shape<T, Columns, 2, 2>{});
  throw device_error(errc::internal, "no such tile of a matrix product");
}

template <class T>
void launch_type(const product& p, const swapped_plan& plan, const swapped_space& space,
                 bool swiglu, cudaStream_t stream) {
  const int columns = columns_of(p);
  if (columns == 32) return launch_columns<T, 32>(p, plan, space, swiglu, stream);
  if (columns == 64) return launch_columns<T, 64>(p, plan, space, swiglu, stream);
  launch_columns<T, 128>(p, plan, space, swiglu, stream);
}

void multiply(const product& p, const swapped_plan& plan, const swapped_space& space, bool swiglu,
              cudaStream_t stream) {
  if (p.type == dtype::bf16) return launch_type<bf16>(p, plan, space, swiglu, stream);
  if (p.type == dtype::f16) return launch_type<f16>(p, plan, space, swiglu, stream);
  launch_type<f8>(p, plan, space, swiglu, stream);
}

bool aligned(const void* data, std::int64_t stride, dtype type) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && row_bytes(type, stride) % 16 == 0;
}

// Of 8-bit floats both sums have to fit into registers.
bool has_height(const product& p, std::int32_t height) {
  return height == 64 || height == 128 ||
         (height == 256 && (p.type != dtype::f8_e4m3 || columns_of(p) < 128));
}

}  // namespace

bool swapped_takes(const product& p) noexcept {
  const bool f8 = p.type == dtype::f8_e4m3;
  if (!f8 && p.type != dtype::bf16 && p.type != dtype::f16) return false;
  const bool out = f8 ? p.out_type == dtype::bf16 || p.out_type == dtype::f16
                      : p.out_type == p.type || p.out_type == dtype::f32;
  return out && p.rows >= least_swapped_rows && p.rows <= most_swapped_rows && p.n > 0 &&
         p.n <= largest && p.n % 8 == 0 && p.k > 0 && p.k <= largest &&
         row_bytes(p.type, p.k) % 16 == 0 && aligned(p.x, p.ldx, p.type) &&
         aligned(p.w, p.ldw, p.type) && aligned(p.out, p.ldo, p.out_type);
}

bool swapped_fits(const product& p, const swapped_plan& plan, std::int32_t multiprocessors,
                  std::size_t parts_bytes) noexcept {
  if (!has_height(p, plan.height) || plan.blocks < 1 || plan.blocks > multiprocessors) return false;
  const std::int64_t tiles = divide_up(p.n, plan.height);
  const std::int64_t part = std::int64_t{plan.height} * columns_of(p) * 4;
  return plan.blocks <= tiles * depth_of(p) &&
         static_cast<std::uint64_t>(2 * part * plan.blocks) <= parts_bytes;
}

std::vector<swapped_plan> swapped_plans(const product& p, std::int32_t multiprocessors) {
  std::vector<swapped_plan> plans;
  const auto add = [&](std::int32_t height, std::int64_t blocks) {
    const swapped_plan plan{height, static_cast<std::int32_t>(blocks)};
    if (std::find(plans.begin(), plans.end(), plan) == plans.end()) plans.push_back(plan);
  };
  for (const std::int32_t height : {128, 64, 256}) {
    if (!has_height(p, height)) continue;
    const std::int64_t tiles = divide_up(p.n, height), depth = depth_of(p);
    add(height, std::min<std::int64_t>(multiprocessors, tiles * depth));
    if (tiles > 4 * multiprocessors) continue;
    // Cuts that fall together with the ends of tiles, and none.
    if (tiles <= multiprocessors) add(height, tiles * std::min(multiprocessors / tiles, depth));
    const std::int64_t turns = divide_up(tiles, multiprocessors);
    if (3 * tiles > multiprocessors) add(height, divide_up(tiles, turns));
  }
  return plans;
}

void multiply_swapped(const product& p, const swapped_plan& plan, const swapped_space& space,
                      cudaStream_t stream) {
  multiply(p, plan, space, false, stream);
}

void multiply_swapped_swiglu(const product& p, const swapped_plan& plan, const swapped_space& space,
                             cudaStream_t stream) {
  multiply(p, plan, space, true, stream);
}

}  // namespace dinfer::kernels::cuda
