// SPDX-License-Identifier: Apache-2.0
// The decode kernel and its launch. Persistent blocks stream the keys and values of their share of
// the work (decode_walk.cuh) through a ring in shared memory (decode_tile.cuh) that never drains
// between sequences, and compute tile after tile, on tensor cores (decode_mma.cuh) or not
// (decode_plain.cuh). Chunks of keys whose bounds depend on the sequence alone are summed by
// themselves and then in order (decode_merge.cuh): a row's bits depend on that row alone. Blocks
// never wait for each other. Included by .cu files alone.
#pragma once

#include "kernels/cuda/decode_merge.cuh"
#include "kernels/cuda/decode_mma.cuh"
#include "kernels/cuda/decode_plain.cuh"
#include "kernels/cuda/overlap.cuh"

#include <algorithm>
#include <cstddef>

namespace dinfer::kernels::cuda {

// In files of their own: they take long to compile.
void attend_decode_bf16(const attention_shape& shape, const decode_plan& plan,
                        std::int32_t multiprocessors, cudaStream_t stream);
void attend_decode_f16(const attention_shape& shape, const decode_plan& plan,
                       std::int32_t multiprocessors, cudaStream_t stream);
void attend_decode_bf16_f8(const attention_shape& shape, const decode_plan& plan,
                           std::int32_t multiprocessors, cudaStream_t stream);
void attend_decode_f16_f8(const attention_shape& shape, const decode_plan& plan,
                          std::int32_t multiprocessors, cudaStream_t stream);

// Sequences of context 0.
template <class T>
__device__ void zero_padding(const attention_shape& shape) {
  const std::int64_t packs = std::int64_t{shape.query_heads} * shape.head_dim / pack<T>::count;
  for (int s = static_cast<int>(blockIdx.x); s < shape.decodes; s += static_cast<int>(gridDim.x)) {
    if (shape.context[s] > 0) continue;
    T* const out = static_cast<T*>(shape.out) + s * packs * pack<T>::count;
    for (std::int64_t i = threadIdx.x; i < packs; i += decode_threads) {
      store_pack(out + i * pack<T>::count, pack<T>{});
    }
  }
}

template <class Engine>
__global__ void __launch_bounds__(decode_threads, Engine::blocks_per_multiprocessor)
    decode_attention(const __grid_constant__ attention_shape shape,
                     const __grid_constant__ decode_job job) {
  DINFER_SHARED(unsigned char, shared);
  let_next_begin();
  const int stages = Engine::most_stages == 2 ? 2 : job.stages;
  const decode_memory<Engine> memory(shared, shape.head_dim, stages);
  tile_feed<Engine> feed;
  feed.walk.start(shape, job, memory.scratch());
  feed.read_page(shape);
  for (int stage = 0; stage < stages - 1; ++stage) feed.bring(shape, job, memory, stage);
  const float scale_log2 = shape.scale * 1.4426950408889634F;  // exp(x) = 2^(x log2 e)
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Engine engine;
  run_sums<Engine> run;
  for (int stage = 0;; stage = stage + 1 == stages ? 0 : stage + 1) {
    if (stages == 2) copy_async_wait<0>();
    else copy_async_wait<1>();
    __syncthreads();  // the tile is there for all, and the one before is done with
    feed.bring(shape, job, memory, stage == 0 ? stages - 1 : stage - 1);
    const tile_note& note = memory.notes()[stage];
    if ((note.flags & work_ends) != 0) break;
    const chunk_end<Engine> end(shape, job, note);
    if ((note.flags & chunk_begins) != 0) engine.clear();
    engine.add_tile(memory.rows, memory.keys(stage), memory.values(stage),
                    memory.queries(note.query_slot), note, scale_log2, end.heads);
    if ((note.flags & chunk_ends) == 0) continue;
    __syncthreads();  // the parts take the tile's place
    float* const parts = reinterpret_cast<float*>(memory.keys(stage));
    engine.put(parts + warp * Engine::most_rows * shape.head_dim,
               memory.peaks() + warp * Engine::most_rows, shape.head_dim, end.heads);
    __syncthreads();
    const int owner = (note.flags & run_is_whole) != 0 ? 0 : feed.walk.owner(note.run_begin);
    end_chunk(end, parts, memory.peaks(), owner, memory.scratch(), run);
  }
  zero_padding<typename Engine::element>(shape);
}

inline int largest_group(const attention_shape& shape) {
  int largest = 0;
  for (std::int32_t k = 0; k < shape.kv_heads; ++k) {
    largest = std::max<int>(largest, shape.first_query[k + 1] - shape.first_query[k]);
  }
  return largest;
}

inline head_bundles bundles_of(const attention_shape& shape, int most_rows) {
  head_bundles bundles;
  for (std::int32_t k = 0; k < shape.kv_heads; ++k) {
    for (int head = shape.first_query[k]; head < shape.first_query[k + 1]; head += most_rows) {
      if (bundles.count == most_bundles) {
        throw device_error(errc::internal, "decode attention: too many query heads");
      }
      bundles.first_head[bundles.count] = static_cast<std::int16_t>(head);
      bundles.kv_head[bundles.count++] = static_cast<std::uint8_t>(k);
    }
  }
  bundles.first_head[bundles.count] = shape.first_query[shape.kv_heads];
  return bundles;
}

// Bytes that `rows` heads at a time need in the merge space.
inline std::size_t merge_bytes(std::int64_t blocks, int rows, int head_dim) {
  return static_cast<std::size_t>(blocks * most_chunks * rows * (head_dim + 2)) * sizeof(float);
}

template <class Engine>
std::size_t block_bytes(const attention_shape& shape, int stages) {
  return static_cast<std::size_t>(decode_memory<Engine>(nullptr, shape.head_dim, stages).bytes());
}

template <class Engine>
void attend(const attention_shape& shape, const decode_plan& plan, std::int32_t multiprocessors,
            cudaStream_t stream) {
  decode_job job;
  job.stages = block_bytes<Engine>(shape, Engine::most_stages) <= plan.shared_bytes
                   ? Engine::most_stages
                   : 2;
  const std::size_t bytes = block_bytes<Engine>(shape, job.stages);
  // A multiprocessor has 1 KB more than a block may have, and keeps 1 KB for each block.
  const auto resident = static_cast<int>((plan.shared_bytes + 1024) / (bytes + 1024));
  const int blocks = multiprocessors * std::clamp(resident, 1, Engine::blocks_per_multiprocessor);
  job.multiprocessors = multiprocessors;
  const auto page_bytes =
      static_cast<std::uint64_t>(shape.page_elements) * sizeof(typename Engine::stored);
  job.page_bytes = static_cast<std::uint32_t>(page_bytes);
  if (job.page_bytes != page_bytes) {
    throw device_error(errc::internal, "decode attention: a page of more than 4 GiB");
  }
  // A merge space for smaller groups is no error: then keys are read once more.
  job.rows = std::min(largest_group(shape), Engine::most_rows);
  while (job.rows > 0 && merge_bytes(blocks, job.rows, shape.head_dim) > plan.partial_bytes) {
    --job.rows;
  }
  if (job.rows == 0) throw device_error(errc::internal, "decode attention: no merge space");
  job.bundles = bundles_of(shape, job.rows);
  while (Engine::tile_keys << job.chunk_shift < plan.chunk) ++job.chunk_shift;
  job.sums = plan.partial;
  job.peaks = reinterpret_cast<float2*>(plan.partial + std::int64_t{blocks} * most_chunks *
                                                           job.rows * shape.head_dim);
  job.tickets = plan.tickets;
  launch(decode_attention<Engine>, dim3(static_cast<unsigned>(blocks)), dim3(decode_threads), bytes,
         stream, shape, job);
}

template <class T, class Stored>
void attend_halves(const attention_shape& shape, const decode_plan& plan,
                   std::int32_t multiprocessors, cudaStream_t stream) {
  switch (shape.head_dim) {
    case 64:
      return attend<decode_mma<T, 64, Stored>>(shape, plan, multiprocessors, stream);
    case 80:
      return attend<decode_mma<T, 80, Stored>>(shape, plan, multiprocessors, stream);
    case 96:
      return attend<decode_mma<T, 96, Stored>>(shape, plan, multiprocessors, stream);
    case 128:
      return attend<decode_mma<T, 128, Stored>>(shape, plan, multiprocessors, stream);
    case 256:
      if (block_bytes<decode_mma<T, 256, Stored>>(shape, 2) > plan.shared_bytes) break;
      return attend<decode_mma<T, 256, Stored>>(shape, plan, multiprocessors, stream);
    default:
      break;
  }
  attend<decode_plain<T, Stored>>(shape, plan, multiprocessors, stream);
}

}  // namespace dinfer::kernels::cuda
