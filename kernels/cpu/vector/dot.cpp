// SPDX-License-Identifier: Apache-2.0
// Matrix products of quantised weights with activations that are rounded to bytes: in each block of
// 32, x[k] is about scale * byte[k] with scale = max |x| / 127. A block's products are summed in
// whole numbers; the sums of the blocks are added in order, one chain per output, whether for one
// row (the weights unpacked in registers on their way from memory) or for many (a panel unpacked
// once into scratch memory). So an output depends on its own row of x alone.
#include "kernels/cpu/vector/epilogue.hpp"
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"
#include "kernels/cpu/vector/panels.hpp"
#include "kernels/cpu/vector/readers.hpp"
#if defined(__AVX2__)
#include "kernels/cpu/vector/bytes_avx2.hpp"
#else
#include "kernels/cpu/vector/bytes_portable.hpp"
#endif
#include "kernels/cpu/vector/variant.inc"

namespace dinfer::kernels::cpu::DINFER_ISA {

namespace {

constexpr int quads = static_cast<int>(block) / 4;
constexpr std::int64_t unpacked_bytes = 64 * quads + 128;  // of a block: quants, d and m as floats

// How many products of two a sum of 16 bits takes.
template <class Reader>
constexpr int quads_in_halves = Reader::offset ? 32767 / (2 * 127 * Reader::most) / 4 * 4 : 1;

// Adds the whole sums of a block: weight(g) gives quad g.
template <class Reader, int Rows, class Weight>
inline void block_sums(Weight&& weight, const std::int8_t* const (&x)[Rows], quants (&sums)[Rows]) {
  constexpr int together = quads_in_halves<Reader> < quads ? quads_in_halves<Reader> : quads;
  static_assert(together > 0 && quads % together == 0);
#pragma GCC unroll unrolled
  for (int begin = 0; begin < quads; begin += together) {
    half_sums halves[Rows] = {};
#pragma GCC unroll unrolled
    for (int g = begin; g < begin + together; ++g) {
      const quants w = weight(g);
#pragma GCC unroll unrolled
      for (int r = 0; r < Rows; ++r) {
        const four_bytes four = splat_four(x[r] + 4 * g);
        if constexpr (Reader::offset) multiply_add(halves[r], w, four);
        else multiply_add_signed(halves[r], w, four);
      }
    }
#pragma GCC unroll unrolled
    for (int r = 0; r < Rows; ++r) {
      sums[r] = sums[r] + sum_halves(halves[r]);
    }
  }
}

// scales: of the block; the second is scale * sum of its bytes.
template <class Reader>
inline lanes add_block(lanes acc, const quants& sum, const lanes& d, const lanes& m,
                       const float* scales) {
  acc = fma(to_float(sum), d * splat(scales[0]), acc);
  if constexpr (Reader::offset) acc = fma(m, splat(scales[1]), acc);
  return acc;
}

template <class Reader>
lanes offset_of(const Reader& reader) {
  if constexpr (Reader::offset) return reader.m;
  else return splat(0.0F);
}

template <class Reader, int Panels>
void direct(const panel* panels, const std::int8_t* x, const float* scales, std::int64_t blocks,
            float* sums) {
  lanes acc[Panels];
  Reader readers[Panels];
  for (auto& a : acc) a = splat(0.0F);
  for (std::int64_t b = 0; b < blocks; ++b, x += block, scales += 2) {
#pragma GCC unroll unrolled
    for (int p = 0; p < Panels; ++p) {
      Reader& reader = readers[p];
      reader.start(panels[p].data, b);
      fetch_ahead(reader);
      quants whole[1] = {};
      const std::int8_t* const rows[1] = {x};
      block_sums<Reader, 1>([&](int g) { return reader.quad(g); }, rows, whole);
      acc[p] = add_block<Reader>(acc[p], whole[0], reader.d, offset_of(reader), scales);
    }
  }
  for (int p = 0; p < Panels; ++p) store(sums + 16 * p, acc[p]);
}

template <class Reader>
void unpack(const panel& from, std::int64_t blocks, std::byte* out) {
  Reader reader;
  for (std::int64_t b = 0; b < blocks; ++b, out += unpacked_bytes) {
    reader.start(from.data, b);
    fetch_ahead(reader);
    for (int g = 0; g < quads; ++g) store_quants(out + 64 * g, reader.quad(g));
    auto* factors = reinterpret_cast<float*>(out + 64 * quads);
    store(factors, reader.d);
    store(factors + 16, offset_of(reader));
  }
}

// sums[r * stride + lane] of `Rows` rows over an unpacked panel.
template <class Reader, int Rows>
void tile(const std::byte* w, const std::int8_t* x, const float* scales, std::int64_t blocks,
          float* sums, std::int64_t stride) {
  lanes acc[Rows];
  for (auto& a : acc) a = splat(0.0F);
  for (std::int64_t b = 0; b < blocks; ++b, w += unpacked_bytes) {
    const std::int8_t* rows[Rows];
#pragma GCC unroll unrolled
    for (int r = 0; r < Rows; ++r) rows[r] = x + (r * blocks + b) * block;
    quants whole[Rows] = {};
    block_sums<Reader, Rows>([w](int g) { return load_quants(w + 64 * g); }, rows, whole);
    const auto* factors = reinterpret_cast<const float*>(w + 64 * quads);
    const lanes d = load(factors), m = load(factors + 16);
#pragma GCC unroll unrolled
    for (int r = 0; r < Rows; ++r)
      acc[r] = add_block<Reader>(acc[r], whole[r], d, m, scales + (r * blocks + b) * 2);
  }
  for (int r = 0; r < Rows; ++r) store(sums + stride * r, acc[r]);
}

template <class Reader, int Rows>
void tile_of(std::int64_t rows, const std::byte* w, const std::int8_t* x, const float* scales,
             std::int64_t blocks, float* sums, std::int64_t stride) {
  if (rows == Rows) return tile<Reader, Rows>(w, x, scales, blocks, sums, stride);
  if constexpr (Rows > 1) tile_of<Reader, Rows - 1>(rows, w, x, scales, blocks, sums, stride);
}

// A whole panel's sums are the output where nothing follows them.
bool sums_are_output(const linear_job& job, const panel& of) {
  return job.act == epilogue::none && job.bias == nullptr && of.rows == 16;
}

// Two panels (or one) over many rows.
void many_rows(const linear_job& job, const panel* panels, int count, std::int64_t row_begin,
               std::int64_t rows, float* scratch) {
  float* sums = scratch;  // [rows][2][16]
  auto* unpacked = reinterpret_cast<std::byte*>(scratch + linear_row_chunk * 32);
  const std::int64_t blocks = job.k / block;
  for (int p = 0; p < count; ++p) {
    const bool at_once = sums_are_output(job, panels[p]);
    float* const to =
        at_once ? job.out + row_begin * job.out_stride + panels[p].first_row : sums + 16 * p;
    const std::int64_t stride = at_once ? job.out_stride : 32;
    with_quad_reader(panels[p].type, [&]<class Reader>() {
      unpack<Reader>(panels[p], blocks, unpacked);
      for (std::int64_t r = 0; r < rows; r += dot_rows) {
        const std::int64_t row = row_begin + r;
        tile_of<Reader, dot_rows>(rows - r < dot_rows ? rows - r : dot_rows, unpacked,
                                  job.bytes + row * job.k, job.byte_scales + row * blocks * 2,
                                  blocks, to + stride * r, stride);
      }
    });
    if (job.act != epilogue::swiglu && !at_once)
      finish(job, panels + p, 1, row_begin, rows, sums + 16 * p, 32);
  }
  if (job.act == epilogue::swiglu) finish(job, panels, count, row_begin, rows, sums, 32);
}

}  // namespace

void round_to_bytes(const float* x, std::int64_t k, std::int8_t* bytes, float* scales) {
  for (std::int64_t b = 0; b < k / block; ++b, x += block, bytes += block, scales += 2) {
    lanes most = splat(0.0F), wrong = splat(0.0F);
    for (int i = 0; i < block; i += 16) {
      const lanes v = load(x + i);
      most = max(most, max(v, splat(0.0F) - v));
      wrong = fma(v, splat(0.0F), wrong);  // NaN when any is NaN or infinite
    }
    const float scale = largest(most) / 127;
    const float inverse = scale > 0 ? 1 / scale : 0;
    lanes total = splat(0.0F);  // exact: whole numbers
    for (int i = 0; i < block; i += 16) {
      // In this order a NaN becomes 127.
      const lanes whole =
          max(min(round(load(x + i) * splat(inverse)), splat(127.0F)), splat(-127.0F));
      store_i8(bytes + i, whole);
      total = total + whole;
    }
    scales[0] = scale + sum(wrong);
    scales[1] = scales[0] * sum(total);
  }
}

void dot(const linear_job& job, const panel* panels, std::int64_t count, std::int64_t row_begin,
         std::int64_t rows, float* scratch) {
  if (rows == 1) {
    const std::int64_t blocks = job.k / block;
    const std::int8_t* x = job.bytes + row_begin * job.k;
    const float* scales = job.byte_scales + row_begin * blocks * 2;
    return one_row(job, panels, count, row_begin, [&](const panel* some, int n, float* sums) {
      with_quad_reader(some->type, [&]<class Reader>() {
        with_count(n, [&]<int Panels>() { direct<Reader, Panels>(some, x, scales, blocks, sums); });
      });
    });
  }
  in_pairs(panels, count,
           [&](const panel* two, int n) { many_rows(job, two, n, row_begin, rows, scratch); });
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
