// SPDX-License-Identifier: Apache-2.0
// Prompts with made-up queries, keys and values, and steps that compute pieces of them: what the
// tests of attention on a GPU, and of its kernels on the host, are made of.
#pragma once

#include "tests/kernels/support.hpp"

#include <algorithm>
#include <numeric>

namespace dinfer::tests {

struct head_shape {
  std::vector<std::int32_t> groups{4, 4};  // query heads of each KV head
  std::int32_t head_dim = 64, block_size = 16, window = 0;
  kernels::dtype type = kernels::dtype::bf16;
  bool f8_pages = false;  // 8-bit floats in pages

  kernels::dtype page_type() const { return f8_pages ? kernels::dtype::f8_e4m3 : type; }
  std::int32_t kv_heads() const { return static_cast<std::int32_t>(groups.size()); }
  std::int32_t query_heads() const { return std::accumulate(groups.begin(), groups.end(), 0); }
  std::int64_t out_columns() const { return std::int64_t{query_heads()} * head_dim; }
  std::int64_t qkv_columns() const {
    return std::int64_t{query_heads() + 2 * kv_heads()} * head_dim;
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }
  std::string name() const {
    return std::string(kernels::info(type).name) + " heads " + std::to_string(query_heads()) +
           " KV heads " + std::to_string(kv_heads()) + " dim " + std::to_string(head_dim) +
           " block " + std::to_string(block_size) + " window " + std::to_string(window) +
           (f8_pages ? " f8 pages" : "");
  }
};

// `length` tokens; numbers that bf16 and f16, and pages of 8-bit floats, hold exactly, so that
// every type computes the same.
struct prompt {
  std::int32_t length = 0;
  std::vector<float> queries, keys, values;  // [length, heads, head_dim]
};

inline prompt make_prompt(const head_shape& w, std::int32_t length, random_numbers& random) {
  const auto numbers = [&](std::int64_t n, bool f8) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (auto& x : v) {
      x = f8 ? std::ldexp(static_cast<float>(random.below(31) - 15), -3 - random.below(5))
             : static_cast<float>(random.below(255) - 127) / 64;
    }
    return v;
  };
  const std::int64_t kv = std::int64_t{length} * w.kv_heads() * w.head_dim;
  auto queries = numbers(length * w.out_columns(), false);
  auto keys = numbers(kv, w.f8_pages);
  return {length, std::move(queries), std::move(keys), numbers(kv, w.f8_pages)};
}

// Tokens first .. first + count of a prompt. No prompt: padding.
struct piece {
  const prompt* from;
  std::int32_t first, count;
};

// Pieces as one step: index arrays, and pages at layer 1 of 2 with NaN where no key is.
struct paged_step {
  static constexpr std::int32_t layers = 2, layer = 1;
  std::vector<std::int32_t> positions, token_sequence, query_begin{0}, context, table_rows, table;
  std::vector<float> qkv, memory;
  std::int64_t table_width = 1, pages = 1;

  paged_step(const head_shape& w, const std::vector<piece>& pieces, random_numbers& random) {
    for (const auto& p : pieces) add_tokens(w, p);
    table_rows.resize(pieces.size());
    std::iota(table_rows.rbegin(), table_rows.rend(), 0);
    table.assign(pieces.size() * static_cast<std::size_t>(table_width), -1);
    std::vector<std::int32_t> free(static_cast<std::size_t>(pages - 1));
    std::iota(free.begin(), free.end(), 1);
    for (std::size_t i = free.size(); i > 1; --i) {
      std::swap(free[i - 1],
                free[static_cast<std::size_t>(random.below(static_cast<std::int32_t>(i)))]);
    }
    memory.assign(static_cast<std::size_t>(pages * layers * layer_elements(w)), poison);
    for (std::size_t s = 0; s < pieces.size(); ++s) {
      if (pieces[s].from != nullptr) add_keys(w, s, pieces[s], free);
    }
  }
  static std::int64_t layer_elements(const head_shape& w) {
    return std::int64_t{2} * w.kv_heads() * w.block_size * w.head_dim;
  }
  std::int32_t tokens() const { return query_begin.back(); }

 private:
  void add_tokens(const head_shape& w, const piece& p) {
    const std::int32_t end = p.from == nullptr ? 0 : p.first + p.count;
    const std::int64_t blocks = (end + w.block_size - 1) / w.block_size;
    table_width = std::max(table_width, blocks);
    pages += blocks;
    for (std::int32_t t = p.first; t < p.first + p.count; ++t) {
      positions.push_back(t);
      token_sequence.push_back(static_cast<std::int32_t>(context.size()));
      const std::size_t at = qkv.size();
      qkv.resize(at + static_cast<std::size_t>(w.qkv_columns()), poison);
      if (p.from == nullptr) continue;
      std::copy_n(p.from->queries.begin() + t * w.out_columns(), w.out_columns(),
                  qkv.begin() + static_cast<std::int64_t>(at));
    }
    context.push_back(end);
    query_begin.push_back(query_begin.back() + p.count);
  }
  void add_keys(const head_shape& w, std::size_t sequence, const piece& p,
                std::vector<std::int32_t>& free) {
    for (std::int64_t k = 0; k < p.first + p.count; ++k) {
      auto& page =
          table[static_cast<std::size_t>(table_rows[sequence] * table_width + k / w.block_size)];
      if (page < 0) {
        page = free.back();
        free.pop_back();
      }
      for (std::int32_t h = 0; h < 2 * w.kv_heads(); ++h) {
        const auto& from = h < w.kv_heads() ? p.from->keys : p.from->values;
        const std::int64_t line = (h * w.block_size + k % w.block_size) * w.head_dim;
        std::copy_n(from.begin() + (k * w.kv_heads() + h % w.kv_heads()) * w.head_dim, w.head_dim,
                    memory.begin() + (page * layers + layer) * layer_elements(w) + line);
      }
    }
  }
};

}  // namespace dinfer::tests
