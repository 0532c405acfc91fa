// SPDX-License-Identifier: Apache-2.0
// Attention of some query rows over the pages of one KV head, with the online softmax of Milakov &
// Gimelshein 2018. Keys are taken 32 at a time from absolute multiples of 32, so what a row
// computes depends on its position alone: a key that it may not see adds an exact zero.
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"
#include "kernels/cpu/vector/tile.hpp"
#include "kernels/cpu/vector/variant.inc"

namespace dinfer::kernels::cpu::DINFER_ISA {

namespace {

constexpr int keys_at_once = attention_keys;
constexpr float lowest = -1e30F;  // finite, so that differences are numbers

// The scratch memory of one call; `dim` is head_dim rounded up to 32.
struct work {
  std::int64_t dim, rows;
  float* keys;    // [2][dim][16]: transposed
  float* values;  // [dim / 16][32][16]
  float* q;       // [rows][dim]
  float* sums;    // [dim / 32][rows][2][16]
  float* scores;  // [rows][32], then probabilities
  float* totals;  // [rows][16]
  float* peaks;   // [rows]
  float* lines;   // [16][dim]: expanded keys and values
};

work lay_out(const attention_job& job, float* scratch) {
  work w{};
  w.dim = (job.head_dim + 31) / 32 * 32;
  w.rows = static_cast<std::int64_t>(job.tokens) * job.heads;
  const auto take = [&scratch](std::int64_t floats) {
    float* begin = scratch;
    scratch += floats;
    return begin;
  };
  w.keys = take(keys_at_once * w.dim);
  w.values = take(keys_at_once * w.dim);
  w.q = take(w.rows * w.dim);
  w.sums = take(w.rows * w.dim);
  w.scores = take(w.rows * keys_at_once);
  w.totals = take(w.rows * 16);
  w.peaks = take((w.rows + 15) / 16 * 16);
  w.lines = take(16 * w.dim);
  return w;
}

void start(const attention_job& job, const work& w) {
  for (std::int64_t r = 0; r < w.rows; ++r) {
    const float* from = job.q + r / job.heads * job.q_stride + r % job.heads * job.head_dim;
    for (std::int64_t d = 0; d < w.dim; d += 16) {
      const std::int64_t left = job.head_dim - d;
      store(w.q + r * w.dim + d, left > 0 ? load_partial(from + d, left, 0.0F) : splat(0.0F));
    }
    store(w.totals + 16 * r, splat(0.0F));
    w.peaks[r] = lowest;
  }
  for (std::int64_t i = 0; i < w.rows * w.dim; i += 16) store(w.sums + i, splat(0.0F));
}

// Row `index` of a page's matrix as floats: in place, or expanded into `line`.
const float* read_line(const attention_job& job, const std::byte* matrix, std::int32_t index,
                       float* line) {
  const std::int64_t at = static_cast<std::int64_t>(index) * job.head_dim;
  if (job.type == dtype::f32) return reinterpret_cast<const float*>(matrix) + at;
  const std::byte* from = matrix + 2 * at;
  alignas(64) std::byte last[32] = {};
  for (std::int32_t d = 0; d < job.head_dim; d += 16) {
    const std::byte* in = from + 2 * d;
    if (job.head_dim - d < 16) {
      __builtin_memcpy(last, in, static_cast<std::size_t>(job.head_dim - d) * 2);
      in = last;
    }
    store(line + d, job.type == dtype::f16 ? load_f16(in) : load_bf16(in));
  }
  return line;
}

// 16 keys from `first` on, of which `count` exist, to columns: to[d][16].
void gather_keys(const attention_job& job, const work& w, std::int32_t first, std::int32_t count,
                 float* to) {
  const float* lines[16];
  for (std::int32_t j = 0; j < 16; ++j) {
    float* line = w.lines + j * w.dim;
    lines[j] = line;
    if (j < count) {
      const std::int32_t key = first + j;
      const std::int64_t page = job.page_bytes * job.blocks[key / job.block_size];
      lines[j] = read_line(job, job.keys + page, key % job.block_size, line);
    } else {
      for (std::int64_t d = 0; d < w.dim; d += 16) store(line + d, splat(0.0F));
    }
  }
  for (std::int64_t d = 0; d < w.dim; d += 16, to += 256) {
    const std::int64_t left = job.head_dim - d;
    lanes rows[16], columns[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      rows[j] = left > 0 ? load_partial(lines[j] + d, left, 0.0F) : splat(0.0F);
    }
    transpose(rows, columns);
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) store(to + 16 * j, columns[j]);
  }
}

// Brings keys and values first .. first + count - 1 into the shapes that tiles read.
void gather(const attention_job& job, const work& w, std::int32_t first, std::int32_t count) {
  gather_keys(job, w, first, count < 16 ? count : 16, w.keys);
  gather_keys(job, w, first + 16, count - 16, w.keys + 16 * w.dim);
  for (std::int32_t j = 0; j < count; ++j) {
    const std::int32_t key = first + j;
    const std::int64_t page = job.page_bytes * job.blocks[key / job.block_size];
    const float* v = read_line(job, job.values + page, key % job.block_size, w.lines);
    for (std::int64_t d = 0; d < w.dim; d += 16) {
      const std::int64_t left = job.head_dim - d;
      store(w.values + (d * keys_at_once) + 16 * j,
            left > 0 ? load_partial(v + d, left, 0.0F) : splat(0.0F));
    }
  }
}

// Scores of one row become probabilities relative to the row's peak so far; what was summed before
// is scaled down when the peak grows. low .. high: the keys of these 32 that the row sees.
void soften(const attention_job& job, const work& w, std::int64_t row, std::int32_t low,
            std::int32_t high) {
  float* scores = w.scores + row * keys_at_once;
  const lanes scale = splat(job.scale);
  lanes a = load(scores) * scale, b = load(scores + 16) * scale;
  if (low > 0 || high < keys_at_once) {
    store(scores, a);
    store(scores + 16, b);
    for (std::int32_t j = 0; j < low; ++j) scores[j] = -__builtin_inff();
    for (std::int32_t j = high; j < keys_at_once; ++j) scores[j] = -__builtin_inff();
    a = load(scores);
    b = load(scores + 16);
  }
  const float before = w.peaks[row];
  const float highest = largest(max(a, b));
  const float peak = highest > before ? highest : before;
  const lanes pa = exp(a - splat(peak)), pb = exp(b - splat(peak));
  store(scores, pa);
  store(scores + 16, pb);
  lanes total = load(w.totals + 16 * row);
  if (peak != before) {
    w.peaks[row] = peak;
    const lanes shrink = exp(splat(before - peak));
    total = total * shrink;
    for (std::int64_t d = 0; d < w.dim; d += 32) {
      float* sums = w.sums + d * w.rows + 32 * row;
      store(sums, load(sums) * shrink);
      store(sums + 16, load(sums + 16) * shrink);
    }
  }
  store(w.totals + 16 * row, total + (pa + pb));
}

void finish(const attention_job& job, const work& w) {
  for (std::int64_t r = 0; r < w.rows; ++r) {
    float* to = job.out + r / job.heads * job.out_stride + r % job.heads * job.head_dim;
    const lanes total = splat(sum(load(w.totals + 16 * r)));
    for (std::int64_t d = 0; d < job.head_dim; d += 16) {
      const float* sums = w.sums + d / 32 * 32 * w.rows + 32 * r + d % 32;
      store_partial(to + d, job.head_dim - d, load(sums) / total);
    }
  }
}

std::int32_t between(std::int32_t low, std::int32_t x, std::int32_t high) {
  return x < low ? low : x > high ? high : x;
}

}  // namespace

void attention(const attention_job& job, float* scratch) {
  const work w = lay_out(job, scratch);
  start(job, w);
  const std::int32_t end = job.first_position + job.tokens;
  std::int32_t base = 0;
  if (job.window > 0 && job.first_position >= job.window) {
    base = (job.first_position - job.window + 1) / keys_at_once * keys_at_once;
  }
  for (; base < end; base += keys_at_once) {
    const std::int32_t count = between(0, end - base, keys_at_once);
    gather(job, w, base, count);
    const float* keys[2] = {w.keys, w.keys + 16 * w.dim};
    two_panels(keys, w.q, w.dim, w.rows, job.head_dim, true, w.scores);
    for (std::int64_t r = 0; r < w.rows; ++r) {
      const auto position = job.first_position + static_cast<std::int32_t>(r / job.heads);
      const std::int32_t low =
          job.window > 0 ? between(0, position - job.window + 1 - base, keys_at_once) : 0;
      soften(job, w, r, low, between(low, position + 1 - base, keys_at_once));
    }
    for (std::int64_t d = 0; d < w.dim; d += 32) {
      const float* values[2] = {w.values + d * keys_at_once, w.values + (d + 16) * keys_at_once};
      two_panels(values, w.scores, keys_at_once, w.rows, count, false, w.sums + d * w.rows);
    }
  }
  finish(job, w);
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
