// SPDX-License-Identifier: Apache-2.0
// Made-up steps for the prefill kernels: sequences of paged keys and values with everything
// poisoned that attention must not see. A value depends on the seed, the sequence's name, the
// position, the head and the column alone, so that the same sequence may be cut into steps in
// several ways.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/f8_words.cuh"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace dinfer::tests {

struct prefill_sequence {
  int name, context, queries;  // context 0: padding
};
struct prefill_case {
  std::vector<int> groups{4, 4};  // query heads of each KV head
  int head_dim = 128, block_size = 32, window = 0;
  std::vector<prefill_sequence> sequences;
  int skipped = 0;  // of these, the first ones, which the kernel must leave alone
};

template <class T>
inline constexpr kernels::dtype dtype_of =
    std::is_same_v<T, __half>              ? kernels::dtype::f16
    : std::is_same_v<T, kernels::cuda::f8> ? kernels::dtype::f8_e4m3
                                           : kernels::dtype::bf16;

inline float float_of(__nv_bfloat16 v) { return __bfloat162float(v); }
inline float float_of(__half v) { return __half2float(v); }
inline float float_of(kernels::cuda::f8 v) { return kernels::cuda::to_float(v); }
template <class T>
T rounded_to(float v) {
  if constexpr (std::is_same_v<T, __half>) return __float2half(v);
  else if constexpr (std::is_same_v<T, kernels::cuda::f8>) return kernels::cuda::to_f8(v);
  else return __float2bfloat16(v);
}

enum class made { query, key, value };

// -1 .. 1; queries -4 .. 4, so that weights differ.
template <class T>
T made_value(std::uint64_t seed, made what, int name, int position, int head, int column) {
  std::uint64_t x = seed * 8 + static_cast<std::uint64_t>(what);
  for (const int part : {name, position, head, column}) {
    x = (x ^ static_cast<std::uint64_t>(part)) * 0x9E3779B97F4A7C15;
    x ^= x >> 29;
  }
  x *= 0xBF58476D1CE4E5B9;
  const float v = static_cast<float>(x >> 40) * 0x1p-23F - 1;
  return rounded_to<T>(what == made::query ? 4 * v : v);
}

template <class T, class Stored = T>
struct prefill_step {
  prefill_case of;
  std::uint64_t seed = 0;
  std::vector<T> qkv, out;
  std::vector<Stored> pages;
  std::vector<std::int32_t> query_begin{0}, context, table_rows, table;
  kernels::cuda::attention_shape shape;  // with pointers to the vectors above
  int tokens = 0, skipped_tokens = 0, query_heads = 0;

  prefill_step(prefill_case made_of, std::uint64_t its_seed)
      : of(std::move(made_of)), seed(its_seed) {
    set_sizes();
    std::mt19937_64 random(seed);
    constexpr std::int32_t nowhere = 1 << 30;
    const int rows = static_cast<int>(of.sequences.size());
    std::vector<std::int32_t> free(static_cast<std::size_t>(shape.page_count) - 1);
    for (std::size_t i = 0; i < free.size(); ++i) free[i] = static_cast<std::int32_t>(i) + 1;
    std::shuffle(free.begin(), free.end(), random);
    table.assign(static_cast<std::size_t>(rows * shape.table_width), nowhere);
    for (int s = 0; s < rows; ++s) table_rows.push_back(rows - 1 - s);
    const T nan = rounded_to<T>(std::numeric_limits<float>::quiet_NaN());
    pages.assign(static_cast<std::size_t>(shape.page_count * shape.page_elements),
                 rounded_to<Stored>(std::numeric_limits<float>::quiet_NaN()));
    qkv.assign(static_cast<std::size_t>(tokens * shape.qkv_columns), nan);
    out.assign(static_cast<std::size_t>(tokens * query_heads * of.head_dim), nan);
    for (int s = 0; s < rows; ++s) {
      const auto& sequence = of.sequences[static_cast<std::size_t>(s)];
      for (int p = first_seen(sequence); p < sequence.context; ++p) {
        auto& page = table[static_cast<std::size_t>(table_rows[static_cast<std::size_t>(s)] *
                                                    shape.table_width) +
                           static_cast<std::size_t>(p / of.block_size)];
        if (page == nowhere) {
          page = free.back();
          free.pop_back();
        }
        fill_keys(sequence.name, p, page);
      }
      for (int i = 0; i < sequence.queries; ++i) fill_query(s, i);
    }
    set_pointers();
  }
  prefill_step(const prefill_step&) = delete;
  prefill_step& operator=(const prefill_step&) = delete;

  // Attention of one row in double: the values of its head.
  std::vector<double> expected(int s, int query, int head) const {
    const auto& sequence = of.sequences[static_cast<std::size_t>(s)];
    std::vector<double> sum(static_cast<std::size_t>(of.head_dim));
    if (sequence.context == 0) return sum;
    int kv = 0;
    while (shape.first_query[kv + 1] <= head) ++kv;
    const int position = sequence.context - sequence.queries + query;
    const int begin = of.window > 0 ? std::max(0, position - of.window + 1) : 0;
    std::vector<double> scores;
    for (int p = begin; p <= position; ++p) {
      double score = 0;
      for (int c = 0; c < of.head_dim; ++c)
        score += double{value(made::query, sequence.name, position, head, c)} *
                 value(made::key, sequence.name, p, kv, c);
      scores.push_back(score * double{shape.scale});
    }
    const double most = *std::max_element(scores.begin(), scores.end());
    double all = 0;
    for (int p = begin; p <= position; ++p) {
      const double weight = std::exp(scores[static_cast<std::size_t>(p - begin)] - most);
      all += weight;
      for (int c = 0; c < of.head_dim; ++c)
        sum[static_cast<std::size_t>(c)] += weight * value(made::value, sequence.name, p, kv, c);
    }
    for (auto& v : sum) v /= all;
    return sum;
  }
  const T* row_of(const std::vector<T>& from, int s, int query, int head) const {
    return from.data() +
           (static_cast<std::int64_t>(query_begin[static_cast<std::size_t>(s)] + query) *
                query_heads +
            head) *
               of.head_dim;
  }

 private:
  float value(made what, int name, int position, int head, int column) const {
    if (what == made::query)
      return float_of(made_value<T>(seed, what, name, position, head, column));
    return float_of(made_value<Stored>(seed, what, name, position, head, column));
  }
  int first_seen(const prefill_sequence& s) const {
    return of.window > 0 ? std::max(0, s.context - s.queries - of.window + 1) : 0;
  }
  void set_sizes() {
    const int kv_heads = static_cast<int>(of.groups.size());
    for (int k = 0; k < kv_heads; ++k) {
      shape.first_query[k] = static_cast<std::int16_t>(query_heads);
      query_heads += of.groups[static_cast<std::size_t>(k)];
    }
    shape.first_query[kv_heads] = static_cast<std::int16_t>(query_heads);
    std::int64_t blocks = 0;
    for (const auto& s : of.sequences) {
      tokens += s.queries;
      query_begin.push_back(tokens);
      context.push_back(s.context);
      const int all = (s.context + of.block_size - 1) / of.block_size;
      blocks += all;
      shape.table_width = std::max<std::int64_t>(shape.table_width, all + 1);
    }
    skipped_tokens = query_begin[static_cast<std::size_t>(of.skipped)];
    const std::int64_t layer = std::int64_t{2} * kv_heads * of.block_size * of.head_dim;
    shape.page_count = blocks + 3;
    shape.page_elements = 2 * layer;  // two layers; the second one is used
    shape.query_heads = query_heads;
    shape.kv_heads = kv_heads;
    shape.head_dim = of.head_dim;
    shape.block_size = of.block_size;
    while (1 << shape.block_shift < of.block_size) ++shape.block_shift;
    shape.window = of.window;
    shape.scale = 1 / std::sqrt(static_cast<float>(of.head_dim));
    shape.qkv_columns = std::int64_t{query_heads + 2 * kv_heads} * of.head_dim;
    shape.tokens = tokens;
    shape.sequences = static_cast<int>(of.sequences.size());
    shape.decodes = of.skipped;
  }
  void set_pointers() {
    shape.qkv = qkv.data();
    shape.out = out.data();
    shape.pages = pages.data() + shape.page_elements / 2;
    shape.query_begin = query_begin.data();
    shape.context = context.data();
    shape.table_rows = table_rows.data();
    shape.block_table = table.data();
  }
  void fill_keys(int name, int position, std::int32_t page) {
    for (int c = 0; c < 2 * shape.kv_heads; ++c) {
      Stored* to = pages.data() + shape.page_elements / 2 + page * shape.page_elements +
                   (std::int64_t{c} * of.block_size + position % of.block_size) * of.head_dim;
      const bool is_key = c < shape.kv_heads;
      for (int i = 0; i < of.head_dim; ++i)
        to[i] = made_value<Stored>(seed, is_key ? made::key : made::value, name, position,
                                   c % shape.kv_heads, i);
    }
  }
  void fill_query(int s, int query) {
    const auto& sequence = of.sequences[static_cast<std::size_t>(s)];
    T* to = qkv.data() + (query_begin[static_cast<std::size_t>(s)] + query) * shape.qkv_columns;
    for (int i = 0; i < query_heads * of.head_dim; ++i)
      to[i] = made_value<T>(seed, made::query, sequence.name,
                            sequence.context - sequence.queries + query, i / of.head_dim,
                            i % of.head_dim);
  }
};

}  // namespace dinfer::tests
