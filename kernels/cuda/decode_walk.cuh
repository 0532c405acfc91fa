// SPDX-License-Identifier: Apache-2.0
// Which tiles of keys a block of the decode kernels computes. All tiles of all sequences stand in
// one line, ordered by sequence, bundle of query heads, and key; block b of G owns the chunks that
// begin in its G-th of the line. Chunks of one (sequence, bundle), a run, that all fall to one
// block are summed there, others are merged through memory. Every thread walks along, so all of
// them know the same. Included by .cu files alone.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/launch.cuh"

#include <limits>

namespace dinfer::kernels::cuda {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
inline constexpr int decode_threads = 128, decode_warps = 4;
// Blocks that run at a time on a multiprocessor of an H100 or H200, whose 228 KB of shared memory
// bound them.
constexpr int most_decode_blocks(int head_dim) {
  return head_dim > 128 ? 1 : head_dim > 64 ? 2 : 4;
}
inline constexpr int most_bundles = 256;
inline constexpr int most_chunks = 65;  // of a sequence: more tiles make longer chunks

// Query heads of one KV head that are computed together; the largest groups make several.
struct head_bundles {
  std::int32_t count = 0;
  std::int16_t first_head[most_bundles + 1] = {};
  std::uint8_t kv_head[most_bundles] = {};
};

struct decode_job {
  float* sums = nullptr;            // [blocks, most_chunks, rows, head_dim]
  float2* peaks = nullptr;          // [blocks, most_chunks, rows]: largest score and mass
  std::int32_t* tickets = nullptr;  // [blocks]
  std::uint32_t page_bytes = 0;
  std::int32_t rows = 0;         // of the largest bundle
  std::int32_t chunk_shift = 0;  // tiles of the shortest chunk, as a logarithm
  std::int32_t multiprocessors = 0;
  head_bundles bundles;
};

template <int TileShift>
struct decode_walk {
  // The tile it stands on.
  bool running = false;
  bool fresh = false;  // the first tile of a run that this block sees
  bool whole = false;  // the run is this block's alone
  int tile = 0, chunk = 0, bundle = 0, sequence = 0;
  int piece = -1;  // counts `fresh`
  // Its sequence.
  int context = 0, row = 0, first_key = 0, first_tile = 0, last_tile = 0, shift = 0;
  int run_begin = 0;  // where the run begins in the line

  __device__ int first_chunk() const { return first_tile >> shift; }
  __device__ int last_chunk() const { return last_tile >> shift; }
  __device__ bool begins_chunk() const { return tile == first_tile || tile == chunk << shift; }
  __device__ bool ends_chunk() const { return tile == last_tile || (tile + 1) >> shift != chunk; }

  // The block, counted along the line, to which the first chunk of a run falls.
  __device__ int owner(int begin) const {
    return static_cast<int>(((begin + std::int64_t{1}) * gridDim.x - 1) / line);
  }

  // Collective; `scratch` is 8 ints of shared memory.
  __device__ void start(const attention_shape& shape, const decode_job& job, int* scratch);
  __device__ void next(const attention_shape& shape, const decode_job& job);

 private:
  int next_context = 0, next_row = 0;  // of the sequence after this one: read before it is needed
  int base = 0;                        // tiles of a bundle in earlier sequences
  int line = 0, line_end = 0;          // tiles in all; where the next block's part begins

  static __device__ int first_key_of(int context, int window) {
    return window > 0 && context > window ? context - window : 0;
  }
  static __device__ int tiles_of(int context, int window) {
    if (context <= 0) return 0;
    return ((context - 1) >> TileShift) - (first_key_of(context, window) >> TileShift) + 1;
  }
  __device__ int tiles() const { return last_tile - first_tile + 1; }

  __device__ void enter(const attention_shape& shape, const decode_job& job) {
    first_key = first_key_of(context, shape.window);
    first_tile = first_key >> TileShift;
    last_tile = (context - 1) >> TileShift;
    shift = job.chunk_shift;
    while ((last_tile - first_tile) >> shift >= most_chunks - 1) ++shift;
  }
  __device__ void look_ahead(const attention_shape& shape) {
    if (sequence + 1 >= shape.decodes) return;
    next_context = shape.context[sequence + 1];
    next_row = shape.table_rows[sequence + 1];
  }
  __device__ void begin_piece(int first) {
    chunk = first;
    tile = first == first_chunk() ? first_tile : first << shift;
    fresh = true;
    ++piece;
    const int last_begin = last_chunk() == first_chunk() ? first_tile : last_chunk() << shift;
    whole = first == first_chunk() && run_begin + last_begin - first_tile < line_end;
    running = run_begin + tile - first_tile < line_end;
  }
  __device__ void next_run(const attention_shape& shape, const decode_job& job);
};

template <int TileShift>
__device__ void decode_walk<TileShift>::next_run(const attention_shape& shape,
                                                 const decode_job& job) {
  running = false;
  run_begin += tiles();
  if (run_begin >= line_end) return;
  if (++bundle == job.bundles.count) {
    bundle = 0;
    base += tiles();
    do {
      if (++sequence == shape.decodes) return;
      context = next_context;
      row = next_row;
      look_ahead(shape);
    } while (context <= 0);
    enter(shape, job);
  }
  begin_piece(first_chunk());
}

template <int TileShift>
__device__ void decode_walk<TileShift>::next(const attention_shape& shape, const decode_job& job) {
  fresh = false;
  if (tile == last_tile) return next_run(shape, job);
  ++tile;
  if (tile >> shift == chunk) return;
  ++chunk;
  running = whole || run_begin + tile - first_tile < line_end;
}

template <int TileShift>
__device__ void decode_walk<TileShift>::start(const attention_shape& shape, const decode_job& job,
                                              int* scratch) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int each = (shape.decodes + decode_threads - 1) / decode_threads;
  const int mine = min(thread * each, shape.decodes), end = min(mine + each, shape.decodes);
  const int mine_row = mine < end ? shape.table_rows[mine] : 0;  // the likely one, read early
  int sum = 0;
  for (int s = mine; s < end; ++s) sum += tiles_of(shape.context[s], shape.window);
  int up_to = sum;
  for (int step = 1; step < 32; step *= 2) {
    const int below = __shfl_up_sync(0xFFFFFFFFU, up_to, step);
    if (lane >= step) up_to += below;
  }
  if (lane == 31) scratch[thread / 32] = up_to;
  __syncthreads();
  int before = up_to - sum, total = 0;
  for (int w = 0; w < decode_warps; ++w) {
    if (w < thread / 32) before += scratch[w];
    total += scratch[w];
  }
  // Blocks that share a multiprocessor are neighbours in the line: little work spreads over many.
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  const int place =
      block % job.multiprocessors * (blocks / job.multiprocessors) + block / job.multiprocessors;
  line = total * job.bundles.count;
  const int share = line / blocks, rest = line % blocks;
  const int begin = place * share + place * rest / blocks;
  line_end = (place + 1) * share + (place + 1) * rest / blocks;
  if (begin >= line_end) return;
  if (before * job.bundles.count <= begin && begin < (before + sum) * job.bundles.count) {
    int s = mine;
    for (int n;
         begin >= (before + (n = tiles_of(shape.context[s], shape.window))) * job.bundles.count;
         ++s) {
      before += n;
    }
    scratch[4] = s;
    scratch[5] = before;
    scratch[6] = s == mine ? mine_row : shape.table_rows[s];
    scratch[7] = shape.context[s];
  }
  __syncthreads();
  sequence = scratch[4];
  base = scratch[5];
  row = scratch[6];
  context = scratch[7];
  enter(shape, job);
  look_ahead(shape);
  bundle = (begin - base * job.bundles.count) / tiles();
  run_begin = base * job.bundles.count + bundle * tiles();
  const int inside = begin - run_begin;
  const int first = inside == 0 ? first_chunk() : ((first_tile + inside - 1) >> shift) + 1;
  if (inside > 0 && first > last_chunk()) return next_run(shape, job);
  begin_piece(first);
}

}  // namespace dinfer::kernels::cuda
