// SPDX-License-Identifier: Apache-2.0
// read_through: a grid that reads 16 bytes a thread and keeps nothing.
#include "kernels/cuda/read_through.hpp"

#include "kernels/cuda/launch.cuh"

#include <algorithm>
#include <cstdint>

namespace dinfer::kernels::cuda {

namespace {

__global__ void read_words(const uint4* data, std::int64_t words, std::uint32_t* sink) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  std::uint32_t all = 0;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < words;
       i += step) {
    const uint4 word = data[i];
    all ^= word.x ^ word.y ^ word.z ^ word.w;
  }
  if (all == 0x5EED5EEDU) *sink = all;
}

}  // namespace

void read_through(const void* data, std::size_t bytes, void* sink, cudaStream_t stream) {
  constexpr std::int64_t threads = 256, most_blocks = 1024;
  const auto words = static_cast<std::int64_t>(bytes / sizeof(uint4));
  const auto blocks = std::min((words + threads - 1) / threads, most_blocks);
  launch(read_words, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, stream,
         static_cast<const uint4*>(data), words, static_cast<std::uint32_t*>(sink));
}

}  // namespace dinfer::kernels::cuda
