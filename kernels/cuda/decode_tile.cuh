// SPDX-License-Identifier: Apache-2.0
// Shared memory of the decode kernels: a ring of tiles of keys and values, the queries of the runs
// in it, and notes that say what each tile is. Rows lie so that eight rows' 16 bytes at one column
// fall into different banks. Included by .cu files alone.
#pragma once

#include "kernels/cuda/decode_walk.cuh"
#include "kernels/cuda/ptx.cuh"

namespace dinfer::kernels::cuda {

// Rows of `count` pieces of 16 bytes: by eights they are swapped by the row, else padded.
template <int Count>
struct fixed_rows {
  static constexpr int count = Count;
  static constexpr int stride = Count % 8 == 0 ? Count : Count | 1;
  __host__ __device__ explicit fixed_rows(int /*count*/) {}
  static __device__ __forceinline__ int at(int row, int piece) {
    return row * stride + (Count % 8 == 0 ? piece ^ (row & 7) : piece);
  }
};

// The same for rows of which a lane reads 8 bytes: four rows' 32 bytes at one column fall into
// different banks. `Count` is even.
template <int Count>
struct paired_rows {
  static constexpr int count = Count;
  static constexpr int stride = Count | 2;
  __host__ __device__ explicit paired_rows(int /*count*/) {}
  static __device__ __forceinline__ int at(int row, int piece) { return row * stride + piece; }
};

struct any_rows {
  int count, stride;
  __host__ __device__ explicit any_rows(int n) : count(n), stride(n | 1) {}
  __device__ __forceinline__ int at(int row, int piece) const { return row * stride + piece; }
};

enum decode_flags : std::int32_t {
  run_is_whole = 1,
  chunk_begins = 2,
  chunk_ends = 4,
  run_ends = 8,
  work_ends = 16,  // no tile at all
};

struct alignas(16) tile_note {
  std::int32_t flags, sequence, bundle, query_slot;
  std::int32_t first_tile_key;      // key of row 0
  std::int32_t first_key, context;  // keys that are seen: [first_key, context)
  std::int32_t chunk, chunks;       // of the run, from 0
  std::int32_t run_begin;           // see decode_walk
  std::int32_t pad[2];
};

// Engine: how a tile is computed (decode_mma.cuh, decode_plain.cuh). It has rows of `stored`
// elements of pages, and of queries of its `element`s.
template <class Engine>
struct decode_memory {
  using rows_type = typename Engine::rows_type;

  rows_type rows;  // of keys and values
  unsigned char* base;
  int stages;

  __host__ __device__ decode_memory(unsigned char* shared, int head_dim, int ring_stages)
      : rows(head_dim / Engine::stored_piece), base(shared), stages(ring_stages) {}

  __host__ __device__ int part_bytes() const { return Engine::tile_keys * rows.stride * 16; }
  __host__ __device__ int query_bytes() const {
    return Engine::query_rows * Engine::rows_of_queries(rows).stride * 16;
  }
  __host__ __device__ int bytes() const {
    return stages * (2 * part_bytes() + query_bytes()) + peak_bytes + scratch_bytes +
           stages * static_cast<int>(sizeof(tile_note));
  }
  __device__ unsigned char* keys(int stage) const { return base + stage * 2 * part_bytes(); }
  __device__ unsigned char* values(int stage) const { return keys(stage) + part_bytes(); }
  __device__ unsigned char* queries(int slot) const {
    return base + stages * 2 * part_bytes() + slot * query_bytes();
  }
  // [warps][most_rows]: largest score and mass of each warp's part of a chunk.
  __device__ float2* peaks() const { return reinterpret_cast<float2*>(queries(stages)); }
  __device__ int* scratch() const { return reinterpret_cast<int*>(queries(stages) + peak_bytes); }
  __device__ tile_note* notes() const {
    return reinterpret_cast<tile_note*>(queries(stages) + peak_bytes + scratch_bytes);
  }

 private:
  static constexpr int peak_bytes = decode_warps * Engine::most_rows * 8;
  static constexpr int scratch_bytes = 8 * 4;
};

// Walks ahead of the computation and fills the ring.
template <class Engine>
struct tile_feed {
  using T = typename Engine::element;
  using stored = typename Engine::stored;

  decode_walk<Engine::tile_shift> walk;
  int query_slot = 0;
  int page = 0;  // lane l holds the page of the tile's l-th block, read a tile before it is needed

  __device__ void read_page(const attention_shape& shape) {
    if (!walk.running) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first = walk.tile * Engine::tile_keys, end = first + Engine::tile_keys;
    const int block = (first >> shape.block_shift) + lane;
    const int last = (min(end, walk.context) - 1) >> shape.block_shift;
    page = block <= last ? shape.block_table[walk.row * shape.table_width + block] : 0;
  }

  __device__ __forceinline__ void copy_tile(const attention_shape& shape, const decode_job& job,
                                            const decode_memory<Engine>& memory, int stage) const {
    const unsigned first = static_cast<unsigned>(walk.tile) * Engine::tile_keys;
    const unsigned row_bytes = static_cast<unsigned>(shape.head_dim) * sizeof(stored);
    const unsigned head_bytes = static_cast<unsigned>(shape.block_size) * row_bytes;
    const char* head = static_cast<const char*>(shape.pages) +
                       std::int64_t{head_bytes} * job.bundles.kv_head[walk.bundle];
    const std::int64_t value_offset = std::int64_t{head_bytes} * shape.kv_heads;
    unsigned char *const keys = memory.keys(stage), *const values = memory.values(stage);
    const unsigned count = static_cast<unsigned>(memory.rows.count);
    const unsigned pieces = Engine::tile_keys * count;
#pragma unroll 8
    for (unsigned round = 0; round < (pieces + decode_threads - 1) / decode_threads; ++round) {
      const unsigned i = threadIdx.x + round * decode_threads, row = i / count, piece = i % count;
      const unsigned key = first + row;
      const unsigned block = (key >> shape.block_shift) - (first >> shape.block_shift);
      const auto from_page =
          static_cast<unsigned>(__shfl_sync(0xFFFFFFFFU, page, static_cast<int>(block)));
      if (pieces % decode_threads != 0 && i >= pieces) continue;
      const unsigned inside =
          (key & (static_cast<unsigned>(shape.block_size) - 1)) * row_bytes + piece * 16;
      const char* from = head + std::uint64_t{from_page} * job.page_bytes + inside;
      const int k = static_cast<int>(key),
                to = memory.rows.at(static_cast<int>(row), static_cast<int>(piece)) * 16;
      const bool seen = k >= walk.first_key && k < walk.context;  // others become zeros
      copy_async_16(keys + to, from, seen);
      copy_async_16(values + to, from + value_offset, seen);
    }
  }

  __device__ void copy_queries(const attention_shape& shape, const decode_job& job,
                               const decode_memory<Engine>& memory) const {
    const int first = job.bundles.first_head[walk.bundle];
    const int heads = job.bundles.first_head[walk.bundle + 1] - first;
    const T* from = static_cast<const T*>(shape.qkv) + walk.sequence * shape.qkv_columns +
                    std::int64_t{first} * shape.head_dim;
    unsigned char* const to = memory.queries(query_slot);
    const auto rows = Engine::rows_of_queries(memory.rows);
    constexpr int piece_elements = 16 / sizeof(T);
    const int pieces = Engine::query_rows * rows.count;
    for (int round = 0; round < (pieces + decode_threads - 1) / decode_threads; ++round) {
      const int i = static_cast<int>(threadIdx.x) + round * decode_threads;
      if (i >= pieces) break;
      const int row = i / rows.count, piece = i % rows.count;
      const bool valid = row < heads;
      copy_async_16(to + rows.at(row, piece) * 16,
                    from + (valid ? row * shape.head_dim + piece * piece_elements : 0), valid);
    }
  }

  // The next tile, on its way into `stage`; one group of copies, empty when there is none.
  __device__ void bring(const attention_shape& shape, const decode_job& job,
                        const decode_memory<Engine>& memory, int stage) {
    // A slot a run: no more runs than stages are on their way or computed.
    if (walk.running && walk.fresh)
      query_slot = query_slot + 1 < memory.stages ? query_slot + 1 : 0;
    if (threadIdx.x == 0) {
      tile_note& note = memory.notes()[stage];
      note.flags = walk.running ? (walk.whole ? run_is_whole : 0) |
                                      (walk.begins_chunk() ? chunk_begins : 0) |
                                      (walk.ends_chunk() ? chunk_ends : 0) |
                                      (walk.tile == walk.last_tile ? run_ends : 0)
                                : work_ends;
      note.sequence = walk.sequence;
      note.bundle = walk.bundle;
      note.query_slot = query_slot;
      note.first_tile_key = walk.tile * Engine::tile_keys;
      note.first_key = walk.first_key;
      note.context = walk.context;
      note.chunk = walk.chunk - walk.first_chunk();
      note.chunks = walk.last_chunk() - walk.first_chunk() + 1;
      note.run_begin = walk.run_begin;
    }
    if (walk.running) {
      copy_tile(shape, job, memory, stage);
      if (walk.fresh) copy_queries(shape, job, memory);
      walk.next(shape, job);
      read_page(shape);
    }
    copy_async_commit();
  }
};

}  // namespace dinfer::kernels::cuda
