// SPDX-License-Identifier: Apache-2.0
// Where a row of candidates is to be cut, found by one block without sorting the row: a histogram
// of candidates tells in which of its bins the cut lies, the bin becomes the next histogram's
// range, and once a bin is small its candidates are sorted. All sums are of whole numbers, so that
// results depend neither on the order of threads nor on anything beside the row. Included by .cu
// files alone.
#pragma once

#include "kernels/cuda/sample_block.cuh"

#include <type_traits>

namespace dinfer::kernels::cuda {

inline constexpr std::int32_t most_sorted = 2 * row_threads;  // candidates; bins of a histogram too
inline constexpr int bin_bits = 11;
static_assert(most_sorted == 1 << bin_bits);

// Weights as whole numbers: 1 is 2^40, of 2^22 tokens at most.
inline constexpr float weight_one = 0x1p40F;

struct row_shared {
  word64 sorted[most_sorted];   // candidates, best first; while a histogram is made, bin sizes
  word64 amounts[most_sorted];  // of a candidate or bin; after a scan, up to and with it
  block_words words;
  std::uint32_t found, filled;
};

// Turns amounts into inclusive sums and returns their total.
__device__ inline word64 scan_amounts(row_shared& s) {
  const auto at = 2 * threadIdx.x;
  const word64 second = s.amounts[at + 1];
  word64 total;
  const word64 sum = block_scan(s.words, s.amounts[at] + second, total);
  s.amounts[at] = sum - second;
  s.amounts[at + 1] = sum;
  __syncthreads();
  return total;
}

// The first of the scanned amounts that reaches `wanted`, 1 <= wanted <= total.
__device__ inline std::uint32_t first_to_reach(row_shared& s, word64 wanted) {
  for (auto i = threadIdx.x; i < most_sorted; i += row_threads) {
    if (s.amounts[i] >= wanted && (i == 0 || s.amounts[i - 1] < wanted)) s.found = i;
  }
  __syncthreads();
  return s.found;
}

// Candidates low .. high, both included.
struct candidate_range {
  word64 low, high;
};

// The range's candidates, which must be few, into s.sorted, best first; how many there are.
__device__ inline std::uint32_t gather(row_shared& s, const row_view& row,
                                       const candidate_range& range) {
  if (threadIdx.x == 0) s.filled = 0;
  __syncthreads();
  row.each([&](float v, std::int32_t id) {
    const word64 c = candidate(v, id);
    if (c < range.low || c > range.high) return;
    const std::uint32_t at = atomicAdd(&s.filled, 1U);
    if (at < most_sorted) s.sorted[at] = c;
  });
  __syncthreads();
  const std::uint32_t count = s.filled;
  std::uint32_t padded = 2;
  while (padded < count) padded *= 2;
  for (auto i = count + threadIdx.x; i < padded; i += row_threads) s.sorted[i] = 0;
  __syncthreads();
  for (std::uint32_t run = 2; run <= padded; run *= 2) {  // bitonic (Batcher 1968)
    for (std::uint32_t apart = run / 2; apart > 0; apart /= 2) {
      if (threadIdx.x < padded / 2) {
        const std::uint32_t i = 2 * threadIdx.x - (threadIdx.x & (apart - 1));
        const word64 a = s.sorted[i], b = s.sorted[i + apart];
        if ((a < b) == ((i & run) == 0)) s.sorted[i] = b, s.sorted[i + apart] = a;
      }
      __syncthreads();
    }
  }
  return count;
}

// Adds to a word of shared memory by halves, which the hardware does at once.
__device__ __forceinline__ void add_amount(word64* sum, word64 amount) {
  auto* halves = reinterpret_cast<std::uint32_t*>(sum);
  const auto low = static_cast<std::uint32_t>(amount);
  const std::uint32_t before = atomicAdd(&halves[0], low);
  const std::uint32_t carry = before + low < before ? 1 : 0;
  const std::uint32_t high = static_cast<std::uint32_t>(amount >> 32) + carry;
  if (high > 0) atomicAdd(&halves[1], high);
}

// What candidates of a floor_of weigh when they are only counted.
struct one_each {
  __device__ __forceinline__ word64 operator()(float) const { return 1; }
};

// Sizes and amounts of the range's bins, the best candidates in bin 0.
template <class Amount>
__device__ void make_histogram(row_shared& s, const row_view& row, const candidate_range& range,
                               int shift, Amount amount) {
  constexpr bool counted = std::is_same_v<Amount, one_each>;
  auto* sizes = reinterpret_cast<std::uint32_t*>(s.sorted);
  for (auto i = threadIdx.x; i < most_sorted; i += row_threads) sizes[i] = 0, s.amounts[i] = 0;
  __syncthreads();
  row.each([&](float v, std::int32_t id) {
    const word64 c = candidate(v, id);
    if (c < range.low || c > range.high) return;
    const auto bin = static_cast<std::uint32_t>((range.high - c) >> shift);
    atomicAdd(&sizes[bin], 1U);
    if constexpr (!counted) add_amount(&s.amounts[bin], amount(v));
  });
  if constexpr (!counted) return;
  __syncthreads();
  for (auto i = threadIdx.x; i < most_sorted; i += row_threads) s.amounts[i] = sizes[i];
}

// The worst candidate that must stay so that the best of the range, together, reach goal(total of
// all amounts). amount(value) is a whole number; `most` is at least the range's size.
template <class Amount, class Goal>
__device__ word64 floor_of(row_shared& s, const row_view& row, candidate_range range,
                           std::uint32_t most, Amount amount, Goal goal) {
  word64 wanted = 0;  // known once the total is
  for (;;) {
    __syncthreads();  // all are done with what lies in s
    const bool few = most <= most_sorted;
    const int bits = 64 - __clzll(static_cast<long long>(range.high - range.low));
    const int shift = bits > bin_bits ? bits - bin_bits : 0;
    if (few) {
      const std::uint32_t count = gather(s, row, range);
      for (auto i = threadIdx.x; i < most_sorted; i += row_threads) {
        s.amounts[i] = i < count ? amount(value_of(s.sorted[i])) : 0;
      }
    } else {
      make_histogram(s, row, range, shift, amount);
    }
    __syncthreads();
    const word64 total = scan_amounts(s);
    if (wanted == 0) wanted = goal(total);
    const std::uint32_t at = first_to_reach(s, wanted);
    if (few) return s.sorted[at];
    if (at > 0) wanted -= s.amounts[at - 1];
    most = reinterpret_cast<const std::uint32_t*>(s.sorted)[at];
    range.high -= static_cast<word64>(at) << shift;
    const word64 width = (word64{1} << shift) - 1;
    if (range.high - range.low > width) range.low = range.high - width;
  }
}

}  // namespace dinfer::kernels::cuda
