// SPDX-License-Identifier: Apache-2.0
// Matrix products over panels. An output is one chain of multiply-adds over k = 0, 1, 2, ...,
// whichever of the two ways computes it: for one row weights are expanded in registers on their way
// from memory; for more, a stretch of two panels is expanded once into scratch memory and a block
// of rows runs over it. So results depend neither on the number of rows nor on how rows of the
// weight are spread over threads or ranks, and a quantised weight gives what its expansion would
// give.
#include "kernels/cpu/vector/epilogue.hpp"
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"
#include "kernels/cpu/vector/readers.hpp"
#include "kernels/cpu/vector/tile.hpp"
#include "kernels/cpu/vector/variant.inc"

namespace dinfer::kernels::cpu::DINFER_ISA {

namespace {

static_assert(linear_group == 4);
constexpr int group = static_cast<int>(linear_group);

template <class F>
auto with_reader(dtype type, F&& f) {
  switch (type) {
    case dtype::f16:
      return f.template operator()<f16_reader>();
    case dtype::bf16:
      return f.template operator()<bf16_reader>();
    case dtype::q4_0:
      return f.template operator()<nibble_reader<false, false, 288>>();
    case dtype::q4_1:
      return f.template operator()<nibble_reader<false, true, 320>>();
    case dtype::q5_0:
      return f.template operator()<nibble_reader<true, false, 352>>();
    case dtype::q5_1:
      return f.template operator()<nibble_reader<true, true, 384>>();
    case dtype::q8_0:
      return f.template operator()<q8_0_reader>();
    case dtype::q4_k:
      return f.template operator()<k_nibble_reader<false, 288>>();
    case dtype::q5_k:
      return f.template operator()<k_nibble_reader<true, 352>>();
    case dtype::q6_k:
      return f.template operator()<q6_k_reader>();
    default:
      return f.template operator()<f32_reader>();
  }
}

// One row: sums[p][lane] over all k, the weights expanded on their way from memory.
template <class Reader, int Panels>
void direct(const panel* panels, const float* x, std::int64_t k, float* sums) {
  lanes acc[Panels];
  Reader readers[Panels];
  for (auto& a : acc) a = splat(0.0F);
  const std::int64_t blocks = k / block;
  for (std::int64_t b = 0; b < blocks; ++b, x += block) {
    for (int p = 0; p < Panels; ++p) {
      readers[p].start(panels[p].data, b);
      fetch_ahead(readers[p]);
    }
    for (int j = 0; j < block / 8; ++j) {
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p) {
        lanes w[8];
        read_eight(readers[p], j, w);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) acc[p] = fma(w[i], splat(x[8 * j + i]), acc[p]);
      }
    }
  }
  if constexpr (Reader::plain) {
    for (int p = 0; p < Panels; ++p) readers[p].start(panels[p].data, blocks);
    for (int i = 0; i < static_cast<int>(k % block); ++i) {
      for (int p = 0; p < Panels; ++p) acc[p] = fma(readers[p].one(i), splat(x[i]), acc[p]);
    }
  }
  for (int p = 0; p < Panels; ++p) store(sums + 16 * p, acc[p]);
}

// Expands k_begin .. k_end (k_begin a multiple of the block) to out[k - k_begin][16].
template <class Reader>
void expand(const panel& from, std::int64_t k_begin, std::int64_t k_end, float* out) {
  Reader reader;
  std::int64_t k = k_begin;
  for (; k + block <= k_end; k += block) {
    reader.start(from.data, k / block);
    fetch_ahead(reader);
    for (int j = 0; j < block / 8; ++j, out += 128) {
      lanes w[8];
      read_eight(reader, j, w);
      for (int i = 0; i < 8; ++i) store(out + 16 * i, w[i]);
    }
  }
  if constexpr (Reader::plain) {
    reader.start(from.data, k / block);
    for (int i = 0; k < k_end; ++k, ++i, out += 16) store(out, reader.one(i));
  }
}

template <class Reader>
void direct_some(const panel* panels, int count, const float* x, std::int64_t k, float* sums) {
  switch (count) {
    case 1:
      return direct<Reader, 1>(panels, x, k, sums);
    case 2:
      return direct<Reader, 2>(panels, x, k, sums);
    case 3:
      return direct<Reader, 3>(panels, x, k, sums);
    default:
      return direct<Reader, 4>(panels, x, k, sums);
  }
}

void one_row(const linear_job& job, const panel* panels, int count, std::int64_t row) {
  alignas(64) float sums[16 * group];
  const float* x = job.x + row * job.x_stride;
  for (int p = 0; p < count;) {  // neighbours of one type run together: more sums in flight
    int end = p + 1;
    while (end < count && panels[end].type == panels[p].type) ++end;
    with_reader(panels[p].type, [&]<class Reader>() {
      direct_some<Reader>(panels + p, end - p, x, job.k, sums + 16 * p);
    });
    p = end;
  }
  finish(job, panels, count, row, 1, sums, 16 * group);
}

// Two panels (or one) over many rows.
void many_rows(const linear_job& job, const panel* panels, int count, std::int64_t row_begin,
               std::int64_t rows, float* scratch) {
  float* sums = scratch;  // [rows][2][16]
  float* expanded = scratch + linear_row_chunk * 32;
  for (std::int64_t k = 0; k < job.k || k == 0; k += linear_k_chunk) {
    const std::int64_t k_end = k + linear_k_chunk < job.k ? k + linear_k_chunk : job.k;
    const float* w[2] = {nullptr, nullptr};
    for (int p = 0; p < count; ++p) {
      if (panels[p].type == dtype::f32) {
        w[p] = reinterpret_cast<const float*>(panels[p].data) + 16 * k;
        continue;
      }
      float* out = expanded + p * linear_k_chunk * 16;
      with_reader(panels[p].type,
                  [&]<class Reader>() { expand<Reader>(panels[p], k, k_end, out); });
      w[p] = out;
    }
    const float* x = job.x + row_begin * job.x_stride + k;
    if (count == 2) {
      two_panels(w, x, job.x_stride, rows, k_end - k, k == 0, sums);
    } else {
      tiles<1>(w, x, job.x_stride, rows, k_end - k, k == 0, sums);
    }
  }
  finish(job, panels, count, row_begin, rows, sums, 32);
}

}  // namespace

void linear(const linear_job& job, const panel* panels, std::int64_t count, std::int64_t row_begin,
            std::int64_t rows, float* scratch) {
  if (rows == 1) return one_row(job, panels, static_cast<int>(count), row_begin);
  for (std::int64_t p = 0; p < count; p += 2) {
    const auto taken = static_cast<int>(count - p < 2 ? count - p : 2);
    many_rows(job, panels + p, taken, row_begin, rows, scratch);
  }
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
