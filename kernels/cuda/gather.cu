// SPDX-License-Identifier: Apache-2.0
// Rows picked by an index array (embedding, also of a packed table; gather_rows), entries put into
// a table, rows of zeros.
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/pointwise.hpp"
#include "kernels/cuda/rows.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int packs_per_thread = 2;

// Row `row` of a table, or null when it has none.
template <class T>
__device__ __forceinline__ const T* row_of(const void* table, std::int64_t row, std::int64_t rows,
                                           std::int64_t columns) {
  return row >= 0 && row < rows ? static_cast<const T*>(table) + row * columns : nullptr;
}

template <class T, bool Whole>
__global__ void __launch_bounds__(256) embed_kernel(embed_job job) {
  const std::int64_t t = blockIdx.x;
  const auto columns = static_cast<int>(job.columns);
  const T* words = row_of<T>(job.table, job.ids[t] - job.first_row, job.rows, job.columns);
  const T* places = job.position_table == nullptr ? nullptr
                                                  : row_of<T>(job.position_table, job.positions[t],
                                                              job.position_rows, job.columns);
  T* out = static_cast<T*>(job.out) + t * job.columns;
  pack<T> x[packs_per_thread];
#pragma unroll
  for (int i = 0; i < packs_per_thread; ++i) {
    const auto c = column_of<T, packs_per_thread>(i);
    const bool read = words != nullptr && c < columns;
    x[i] = read ? load_part<Whole>(words, static_cast<int>(c), columns) : zero_pack<T>();
  }
#pragma unroll
  for (int i = 0; i < packs_per_thread; ++i) {
    const auto c = column_of<T, packs_per_thread>(i);
    if (c >= columns) continue;
    if (places != nullptr) {
      const auto place = load_part<Whole>(places, static_cast<int>(c), columns);
#pragma unroll
      for (int e = 0; e < pack<T>::count; ++e) {
        x[i].v[e] = from_float<T>(to_float(x[i].v[e]) + to_float(place.v[e]));
      }
    }
    store_part<Whole>(out, static_cast<int>(c), columns, x[i]);
  }
}

template <class T>
void launch_embed(const embed_job& job, cudaStream_t stream) {
  const auto [grid, block] = grid_over<T>(job.tokens, job.columns, packs_per_thread);
  with_whole<T>(job.columns, {job.table, job.position_table, job.out}, [&](auto whole) {
    launch(embed_kernel<T, decltype(whole)::value>, grid, block, 0, stream, job);
  });
}

// Columns c .. c + 3 of a row of either kind of table, as T; zeros for a row that it does not have.
template <class T>
__device__ __forceinline__ void table_four(float (&out)[4], const void* table, packed_kind packed,
                                           std::int64_t row, std::int64_t rows,
                                           std::int64_t columns, std::int64_t c) {
  const bool there = row >= 0 && row < rows;
  if (there && packed != packed_kind::none) {
    packed_four(out, {static_cast<const std::byte*>(table), packed, rows, columns}, row, c);
  } else {
    const T* in = static_cast<const T*>(table) + row * columns + c;
    for (int i = 0; i < 4; ++i) out[i] = there ? to_float(in[i]) : 0;
  }
  for (float& v : out) v = to_float(from_float<T>(v));
}

// A thread has four columns.
template <class T>
__global__ void __launch_bounds__(256) embed_packed_kernel(embed_job job) {
  const std::int64_t t = blockIdx.x;
  const std::int64_t c = 4 * (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x);
  if (c >= job.columns) return;
  float word[4], place[4] = {};
  table_four<T>(word, job.table, job.packed, job.ids[t] - job.first_row, job.rows, job.columns, c);
  if (job.position_table != nullptr) {
    table_four<T>(place, job.position_table, job.position_packed, job.positions[t],
                  job.position_rows, job.columns, c);
  }
  T* out = static_cast<T*>(job.out) + t * job.columns + c;
  for (int i = 0; i < 4; ++i) out[i] = from_float<T>(word[i] + place[i]);
}

template <class T>
void launch_embed_packed(const embed_job& job, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(job.tokens),
                  static_cast<unsigned>(divide_up(job.columns / 4, 256)));
  launch(embed_packed_kernel<T>, grid, dim3(256), 0, stream, job);
}

__global__ void put_entries_kernel(std::int32_t* table, std::int64_t size,
                                   const std::int32_t* entries, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int32_t at = entries[2 * i];
  if (at >= 0 && at < size) table[at] = entries[2 * i + 1];
}

}  // namespace

void embed(const embed_job& job, dtype type, cudaStream_t stream) {
  const bool packed = job.packed != packed_kind::none || job.position_packed != packed_kind::none;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    packed ? launch_embed_packed<T>(job, stream) : launch_embed<T>(job, stream);
  });
}

void gather_rows(const tensor& in, const tensor& rows, const tensor& out, cudaStream_t stream) {
  embed_job job;
  job.ids = rows.as<std::int32_t>();
  job.table = in.data;
  job.rows = in.rows();
  job.out = out.data;
  job.tokens = rows.elements();
  job.columns = in.columns();
  // Nothing is computed: i32 moves as f32 does.
  embed(job, in.type == dtype::i32 ? dtype::f32 : in.type, stream);
}

void put_entries(const tensor& table, const tensor& entries, cudaStream_t stream) {
  const std::int64_t count = entries.elements() / 2;
  launch(put_entries_kernel, dim3(static_cast<unsigned>(divide_up(count, 256))), dim3(256), 0,
         stream, table.as<std::int32_t>(), table.elements(), entries.as<std::int32_t>(), count);
}

}  // namespace dinfer::kernels::cuda
