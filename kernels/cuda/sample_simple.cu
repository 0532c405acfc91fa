// SPDX-License-Identifier: Apache-2.0
// Rows that need no more than their best candidate. A row is cut over blocks, which meet in one
// word: the maximum of candidates does not depend on the order in which they come. The last block
// to come hands the token out, or a shard's best candidate, and leaves the meeting as it was found.
#include "kernels/cuda/sample.cuh"

#include <algorithm>

namespace dinfer::kernels::cuda {

namespace {

constexpr std::int32_t threads = 256;
constexpr std::int32_t least_span = 8 * threads;  // logits of a block, at least
constexpr std::int32_t step = 8 * threads;        // logits that a block reads at a time
constexpr std::int32_t wanted_blocks = 2048;      // two rounds of a large GPU

__device__ __forceinline__ float warp_best(float v) {
  return value_of(static_cast<word64>(__reduce_max_sync(0xFFFFFFFFU, ordered(v))) << 32);
}

// take(logit, id) for a block's part of a row, 8 a thread at a time; before(), of all threads
// together, comes first each time. Past the end logits are -infinity.
template <class Before, class Take>
__device__ __forceinline__ void for_span(const float* row, std::int32_t begin, std::int32_t end,
                                         bool aligned, Before before, Take take) {
  for (std::int32_t at = begin; at < end; at += step) {
    const std::int32_t i = at + 4 * static_cast<std::int32_t>(threadIdx.x), j = i + step / 2;
    const float4 a = load_four(row, i, end, aligned);
    const float4 b = load_four(row, j, end, aligned);
    before();
    take(finite(a.x), i);
    take(finite(a.y), i + 1);
    take(finite(a.z), i + 2);
    take(finite(a.w), i + 3);
    take(finite(b.x), j);
    take(finite(b.y), j + 1);
    take(finite(b.z), j + 2);
    take(finite(b.w), j + 3);
  }
}

__global__ void __launch_bounds__(threads)
    simple_kernel(slot_arrays slots, draw_rows rows, draw_meeting meeting, vocabulary_shard shard,
                  word64* found, std::int32_t span, bool aligned) {
  DINFER_SHARED(word64, warps);
  const auto row = static_cast<std::int32_t>(blockIdx.y);
  const std::int32_t slot = rows.slots[row];
  if (slot == slots.slots) {  // padding
    if (blockIdx.x > 0 || threadIdx.x > 0) return;
    if (found == nullptr) rows.tokens[row] = 0;
    else found[row] = 0;
    return;
  }
  const slot_params& params = slots.params[slot];
  const std::int32_t target = rows.targets == nullptr ? -1 : rows.targets[row];
  if (!simple_row(params, slots.drawn[slot], target)) return;

  const float* logits = rows.logits + static_cast<std::int64_t>(row) * shard.width;
  const std::int32_t begin = static_cast<std::int32_t>(blockIdx.x) * span;
  const std::int32_t end = min(shard.width, begin + span);
  thread_best mine;
  if (params.greedy) {
    for_span(
        logits, begin, end, aligned, [] {},
        [&](float v, std::int32_t i) { mine.take(v, shard.first + i); });
  } else {
    const row_noise noise{params.scale, static_cast<std::uint32_t>(rows.positions[row]),
                          params.seed};
    float bar = minus_infinity();
    for_span(
        logits, begin, end, aligned, [&] { bar = warp_best(mine.value); },
        [&](float v, std::int32_t i) { mine.take_noisy(v, shard.first + i, noise, bar); });
  }
  word64 best = warp_max(mine.word());
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best = warp_max(threadIdx.x < threads / 32 ? warps[threadIdx.x] : 0);
  if (threadIdx.x > 0) return;
  atomicMax(&meeting.best[row], best);
  __threadfence();
  if (atomicAdd(&meeting.tickets[row], 1U) + 1 < gridDim.x) return;
  __threadfence();
  best = atomicExch(&meeting.best[row], word64{0});
  meeting.tickets[row] = 0;
  if (found == nullptr) take_token(slots, rows, row, best);
  else found[row] = best;
}

void find_best(const slot_arrays& slots, const draw_rows& rows, const draw_meeting& meeting,
               vocabulary_shard shard, word64* found, cudaStream_t stream) {
  const std::int32_t width = std::max(shard.width, 1);  // of no columns nothing is found
  const std::int32_t most = (width + least_span - 1) / least_span;
  const std::int32_t blocks = std::clamp(wanted_blocks / std::max(rows.rows, 1), 1, most);
  const std::int32_t steps = (width + blocks * step - 1) / (blocks * step);
  const std::int32_t span = steps * step;
  const dim3 grid(static_cast<unsigned>((width + span - 1) / span),
                  static_cast<unsigned>(rows.rows));
  launch(simple_kernel, grid, dim3(threads), threads / 32 * sizeof(word64), stream, slots, rows,
         meeting, shard, found, span, rows_aligned(rows, shard.width));
}

}  // namespace

void draw_simple(const slot_arrays& slots, const draw_rows& rows, const draw_meeting& meeting,
                 cudaStream_t stream) {
  find_best(slots, rows, meeting, {0, slots.vocabulary}, nullptr, stream);
}

void best_of_shard(const slot_arrays& slots, const draw_rows& rows, const draw_meeting& meeting,
                   vocabulary_shard shard, unsigned long long* best, cudaStream_t stream) {
  find_best(slots, rows, meeting, shard, best, stream);
}

}  // namespace dinfer::kernels::cuda
