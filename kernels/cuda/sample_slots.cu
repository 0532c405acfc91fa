// SPDX-License-Identifier: Apache-2.0
// Slots on the device: what the host says of them is written down, and last tokens are read.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample.hpp"

namespace dinfer::kernels::cuda {

namespace {

constexpr std::int32_t threads = 256;

__device__ void start_slot(const slot_arrays& slots, const slot_update& update,
                           const std::uint32_t* words) {
  const auto slot = static_cast<std::int64_t>(update.slot);
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  if (thread == 0) {
    slots.params[slot] = update.params;
    slots.last[slot] = 0;
    slots.drawn[slot] = 0;
  }
  token_bias* biases = slots.biases + slot * most_biases;
  for (std::int32_t i = thread; i < update.params.biases; i += threads) {
    biases[i] = {static_cast<std::int32_t>(words[2 * i]),
                 __int_as_float(static_cast<int>(words[2 * i + 1]))};
  }
  const std::uint32_t* stop_words = words + 2 * update.params.biases;
  std::int32_t* stops = slots.stops + slot * most_stop_tokens;
  for (std::int32_t i = thread; i < update.params.stops; i += threads) {
    stops[i] = static_cast<std::int32_t>(stop_words[i]);
  }
  if (!update.params.penalised) return;
  auto* counts = reinterpret_cast<uint4*>(slots.counts + slot * slots.counts_width);
  for (std::int64_t i = thread; i < slots.counts_width / 8; i += threads) counts[i] = {0, 0, 0, 0};
}

// Counts share 32-bit words, the smallest that atomics know, two by two.
__device__ void count_token(std::uint32_t* words, std::int32_t token, bool output) {
  std::uint32_t* word = words + token / 2;
  const int shift = token % 2 * 16;
  if (!output) {
    atomicOr(word, seen_in_prompt << shift);
    return;
  }
  std::uint32_t before = *word;
  for (;;) {
    if ((before >> shift & most_counted) == most_counted) return;
    const std::uint32_t found = atomicCAS(word, before, before + (1U << shift));
    if (found == before) return;
    before = found;
  }
}

__global__ void __launch_bounds__(threads)
    update_kernel(slot_arrays slots, const slot_update* updates, const std::uint32_t* payload) {
  const slot_update& update = updates[blockIdx.x];
  const std::uint32_t* words = payload + update.payload;
  if (update.started) {
    start_slot(slots, update, words);
    words += 2 * update.params.biases + update.params.stops;
    __syncthreads();  // tokens are counted from zero
  }
  const auto slot = static_cast<std::int64_t>(update.slot);
  auto* counts = reinterpret_cast<std::uint32_t*>(slots.counts + slot * slots.counts_width);
  for (std::uint32_t i = threadIdx.x; i < update.prompts + update.outputs; i += threads) {
    const auto token = static_cast<std::int32_t>(words[i]);
    if (token >= 0 && token < slots.vocabulary) count_token(counts, token, i >= update.prompts);
  }
  if (threadIdx.x > 0) return;
  slots.drawn[slot] += update.drawn;
  if (update.has_last) slots.last[slot] = update.last;
}

__global__ void __launch_bounds__(threads)
    fill_kernel(slot_arrays slots, std::int32_t* ids, const std::int32_t* row_slots,
                std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < count && ids[i] < 0) ids[i] = slots.last[row_slots[i]];
}

}  // namespace

void apply_updates(const slot_arrays& slots, const slot_update* updates,
                   const std::uint32_t* payload, std::int32_t count, cudaStream_t stream) {
  launch(update_kernel, dim3(static_cast<unsigned>(count)), dim3(threads), 0, stream, slots,
         updates, payload);
}

void fill_last(const slot_arrays& slots, std::int32_t* ids, const std::int32_t* row_slots,
               std::int64_t count, cudaStream_t stream) {
  launch(fill_kernel, dim3(static_cast<unsigned>((count + threads - 1) / threads)), dim3(threads),
         0, stream, slots, ids, row_slots, count);
}

}  // namespace dinfer::kernels::cuda
