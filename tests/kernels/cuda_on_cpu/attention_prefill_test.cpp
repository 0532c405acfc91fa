// SPDX-License-Identifier: Apache-2.0
// Prefill attention of the CUDA backend, run on the host, against plain double arithmetic: ragged
// batches over scattered pages, and that a prompt's bits do not depend on how it is cut.
#include "kernels/cuda/attention_tiles.cuh"
#include "tests/kernels/support.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct world {
  std::vector<std::int32_t> groups{4, 4};  // query heads of each KV head
  std::int32_t head_dim = 64, block_size = 16, window = 0;
  dtype type = dtype::bf16;

  std::int32_t kv_heads() const { return static_cast<std::int32_t>(groups.size()); }
  std::int32_t query_heads() const { return std::accumulate(groups.begin(), groups.end(), 0); }
};

// A whole prompt: what its tokens ask for, and its keys and values, as `type` holds them.
struct prompt {
  std::int32_t length = 0;
  std::vector<float> queries, keys, values;  // [length, heads, head_dim]
};

// Tokens first .. first + count of a prompt, in one step. No prompt: padding.
struct piece {
  const prompt* from;
  std::int32_t first, count;
};

template <class T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> out;
  for (const float v : values) out.push_back(cuda::from_float<T>(v));
  return out;
}

std::vector<float> numbers(random_numbers& random, std::int64_t n, float reach, dtype type) {
  auto v = random.floats(n, -reach, reach);
  cuda::with_type(type, [&](auto element) {
    for (auto& x : v) x = cuda::to_float(cuda::from_float<decltype(element)>(x));
  });
  return v;
}

prompt make_prompt(const world& w, std::int32_t length, random_numbers& random) {
  const auto keys = std::int64_t{length} * w.kv_heads() * w.head_dim;
  return {length, numbers(random, std::int64_t{length} * w.query_heads() * w.head_dim, 2, w.type),
          numbers(random, keys, 2, w.type), numbers(random, keys, 2, w.type)};
}

// The step's pages, with nothing but NaN where no key is yet.
template <class T>
struct cache {
  static constexpr std::int32_t layers = 2, layer = 1;
  std::vector<std::int32_t> table;  // [pieces, width]
  std::int64_t width = 1;
  std::vector<T> memory;

  cache(const world& w, const std::vector<piece>& pieces, random_numbers& random) {
    for (const auto& p : pieces) {
      width = std::max<std::int64_t>(width, (p.first + p.count + w.block_size - 1) / w.block_size);
    }
    std::vector<std::int32_t> free(pieces.size() * static_cast<std::size_t>(width));
    std::iota(free.begin(), free.end(), 1);
    for (auto i = free.size(); i > 1; --i) {
      std::swap(free[i - 1],
                free[static_cast<std::size_t>(random.below(static_cast<std::int32_t>(i)))]);
    }
    table.assign(free.size(), -1);
    memory.resize((free.size() + 1) * static_cast<std::size_t>(layers * layer_elements(w)));
    std::memset(static_cast<void*>(memory.data()), 0xFF, memory.size() * sizeof(T));
    for (std::size_t s = 0; s < pieces.size(); ++s) {
      if (pieces[s].from != nullptr) store(w, s, pieces[s], free);
    }
  }
  static std::int64_t layer_elements(const world& w) {
    return std::int64_t{2} * w.kv_heads() * w.block_size * w.head_dim;
  }
  void store(const world& w, std::size_t sequence, const piece& p,
             const std::vector<std::int32_t>& pages) {
    for (std::int64_t k = 0; k < p.first + p.count; ++k) {
      const auto entry =
          sequence * static_cast<std::size_t>(width) + static_cast<std::size_t>(k / w.block_size);
      table[entry] = pages[entry];
      for (std::int32_t h = 0; h < 2 * w.kv_heads(); ++h) {
        const auto& from = h < w.kv_heads() ? p.from->keys : p.from->values;
        const auto to = (table[entry] * layers + layer) * layer_elements(w) +
                        (h * w.block_size + k % w.block_size) * w.head_dim;
        for (std::int64_t d = 0; d < w.head_dim; ++d) {
          memory[static_cast<std::size_t>(to + d)] =
              cuda::from_float<T>(from[static_cast<std::size_t>(
                  (k * w.kv_heads() + h % w.kv_heads()) * w.head_dim + d)]);
        }
      }
    }
  }
};

// Of all tokens, [query heads, head_dim] each; the first `decodes` pieces are not computed.
// large_tiles: the host thinks there are many more tokens.
template <class T>
std::vector<float> attend_as(const world& w, const std::vector<piece>& pieces, std::int32_t decodes,
                             bool large_tiles, random_numbers& random) {
  namespace emulator = cuda_on_cpu;
  const std::int64_t row = std::int64_t{w.query_heads()} * w.head_dim;
  const cache<T> kept(w, pieces, random);
  std::vector<std::int32_t> begin{0}, context, rows, positions;
  std::vector<float> qkv;
  for (const auto& p : pieces) {
    begin.push_back(begin.back() + p.count);
    context.push_back(p.from == nullptr ? 0 : p.first + p.count);
    rows.push_back(static_cast<std::int32_t>(rows.size()));
    for (std::int32_t t = p.first; t < p.first + p.count; ++t) {
      positions.push_back(t);
      const auto at = qkv.size();
      qkv.resize(at + static_cast<std::size_t>(row + 2 * w.kv_heads() * w.head_dim), poison);
      if (p.from != nullptr) std::copy_n(p.from->queries.begin() + t * row, row, qkv.begin() + at);
    }
  }
  std::reverse(rows.begin(), rows.end());  // the table's rows are in another order
  std::vector<std::int32_t> table(kept.table.size());
  for (std::size_t s = 0; s < rows.size(); ++s) {
    std::copy_n(kept.table.begin() + static_cast<std::int64_t>(s) * kept.width, kept.width,
                table.begin() + rows[s] * kept.width);
  }
  const emulator::guarded<T> input(stored<T>(qkv)), memory(kept.memory);
  const emulator::guarded<T> out(static_cast<std::size_t>(begin.back() * row));
  const emulator::guarded<std::int32_t> guarded_begin(begin), guarded_context(context),
      guarded_rows(rows), guarded_table(table), guarded_positions(positions);
  out.poison();
  cuda::attention_shape shape;
  shape.qkv = input.data();
  shape.out = out.data();
  shape.qkv_columns = row + 2 * w.kv_heads() * w.head_dim;
  shape.pages = memory.data() + cache<T>::layer * kept.layer_elements(w);
  shape.page_elements = cache<T>::layers * kept.layer_elements(w);
  shape.query_heads = w.query_heads();
  shape.kv_heads = w.kv_heads();
  shape.head_dim = w.head_dim;
  shape.block_size = w.block_size;
  while (1 << shape.block_shift < w.block_size) ++shape.block_shift;
  shape.window = w.window;
  shape.scale = 1 / std::sqrt(static_cast<float>(w.head_dim));
  shape.positions = guarded_positions.data();
  shape.query_begin = guarded_begin.data();
  shape.context = guarded_context.data();
  shape.table_rows = guarded_rows.data();
  shape.block_table = guarded_table.data();
  shape.table_width = kept.width;
  shape.tokens = begin.back();
  shape.sequences = static_cast<std::int32_t>(pieces.size());
  shape.decodes = decodes;
  for (std::size_t k = 0; k < w.groups.size(); ++k) {
    shape.first_query[k + 1] = static_cast<std::int16_t>(shape.first_query[k] + w.groups[k]);
  }
  const auto tokens = begin.back() - begin[static_cast<std::size_t>(decodes)];
  cuda_on_cpu::set_order(random.bits());
  cuda::attend_prefill(shape, decodes, large_tiles ? 32768 / w.query_heads() + tokens : tokens,
                       w.type, nullptr);
  std::vector<float> result;
  for (const T& v : out) result.push_back(cuda::to_float(v));
  return result;
}

std::vector<float> attend(const world& w, const std::vector<piece>& pieces, std::int32_t decodes,
                          bool large_tiles, random_numbers& random) {
  std::vector<float> out;
  cuda::with_type(w.type, [&](auto element) {
    out = attend_as<decltype(element)>(w, pieces, decodes, large_tiles, random);
  });
  return out;
}

// One token of a prompt.
std::vector<double> reference(const world& w, const prompt& p, std::int32_t position) {
  std::vector<double> out;
  std::int32_t head = 0;
  for (std::int32_t kv = 0; kv < w.kv_heads(); ++kv) {
    for (std::int32_t g = 0; g < w.groups[static_cast<std::size_t>(kv)]; ++g, ++head) {
      const float* q =
          p.queries.data() + (std::int64_t{position} * w.query_heads() + head) * w.head_dim;
      const auto line = [&](const std::vector<float>& of, std::int32_t key) {
        return of.data() + (std::int64_t{key} * w.kv_heads() + kv) * w.head_dim;
      };
      const std::int32_t first = w.window > 0 ? std::max(0, position - w.window + 1) : 0;
      std::vector<double> scores;
      for (std::int32_t k = first; k <= position; ++k) {
        scores.push_back(std::inner_product(q, q + w.head_dim, line(p.keys, k), 0.0) /
                         std::sqrt(static_cast<double>(w.head_dim)));
      }
      const double peak = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (auto& s : scores) total += s = std::exp(s - peak);
      std::vector<double> sum(static_cast<std::size_t>(w.head_dim));
      for (std::int32_t k = first; k <= position; ++k) {
        for (std::size_t d = 0; d < sum.size(); ++d) {
          sum[d] += scores[static_cast<std::size_t>(k - first)] / total *
                    static_cast<double>(line(p.values, k)[d]);
        }
      }
      out.insert(out.end(), sum.begin(), sum.end());
    }
  }
  return out;
}

// How far the rows of a piece, the first of `got`, are off, relative to a row's largest value.
double worst(const world& w, const piece& p, const float* got) {
  double worst = 0;
  for (std::int32_t t = p.first; t < p.first + p.count; ++t) {
    const auto right = reference(w, *p.from, t);
    for (std::size_t at = 0; at < right.size(); at += static_cast<std::size_t>(w.head_dim)) {
      double largest = 0, off = 0;
      for (std::size_t i = at; i < at + static_cast<std::size_t>(w.head_dim); ++i) {
        largest = std::max(largest, std::abs(right[i]));
        const double e = std::abs(static_cast<double>(got[i]) - right[i]);
        off = std::isnan(e) ? HUGE_VAL : std::max(off, e);
      }
      worst = std::max(worst, off / largest);
    }
    got += right.size();
  }
  return worst;
}

double bound_of(dtype type) {
  return type == dtype::f32 ? 2e-5 : type == dtype::bf16 ? 1.5e-2 : 2e-3;
}

std::vector<world> worlds() {
  return {
      {{4, 4}, 128, 16, 0, dtype::bf16},    {{3, 1}, 64, 8, 0, dtype::f16},
      {{1, 5, 2}, 128, 32, 40, dtype::f16}, {{7}, 64, 128, 70, dtype::bf16},
      {{2, 1}, 80, 16, 0, dtype::f32},      {{3}, 64, 8, 21, dtype::f32},
      {{2, 2}, 72, 8, 0, dtype::bf16},      {{1}, 256, 16, 33, dtype::f16},
  };
}

}  // namespace

TEST_CASE("emulated prefill attention agrees with double over ragged batches") {
  std::printf("seed 61\n");
  random_numbers random(61);
  for (const auto& w : worlds()) {
    const auto a = make_prompt(w, 150, random), b = make_prompt(w, 70, random);
    const auto c = make_prompt(w, 33, random), d = make_prompt(w, 1, random);
    const std::vector<piece> pieces{{&b, 69, 1}, {&c, 20, 1},     {&a, 83, 67}, {&b, 0, 70},
                                    {&d, 0, 1},  {nullptr, 0, 3}, {&a, 149, 1}, {&c, 13, 20}};
    for (const bool large : {false, true}) {
      const auto out = attend(w, pieces, 2, large, random);
      std::size_t at = 0;
      for (std::size_t s = 0; s < pieces.size(); ++s) {
        INFO("heads " << w.query_heads() << " dim " << w.head_dim << " window " << w.window
                      << " type " << info(w.type).name << " large " << large << " piece " << s);
        const auto size = static_cast<std::size_t>(pieces[s].count * w.query_heads() * w.head_dim);
        const auto all = [&](auto&& fn) {
          return std::all_of(out.begin() + static_cast<std::int64_t>(at),
                             out.begin() + static_cast<std::int64_t>(at + size), fn);
        };
        if (s < 2) {
          CHECK(all([](float v) { return std::isnan(v); }));  // left alone
        } else if (pieces[s].from == nullptr) {
          CHECK(all([](float v) { return v == 0; }));
        } else {
          CHECK(worst(w, pieces[s], out.data() + at) < bound_of(w.type));
        }
        at += size;
      }
    }
  }
}

TEST_CASE("emulated prefill attention's bits depend neither on chunks nor on the batch") {
  std::printf("seed 62\n");
  random_numbers random(62);
  for (const auto& w : worlds()) {
    const auto a = make_prompt(w, 141, random), b = make_prompt(w, 50, random);
    const auto right = attend(w, {{&a, 0, a.length}}, 0, false, random);
    const auto row = static_cast<std::size_t>(w.query_heads() * w.head_dim);
    for (const std::int32_t chunk : {141, 64, 37}) {
      for (const bool large : {false, true}) {
        std::vector<float> all;
        for (std::int32_t first = 0; first < a.length; first += chunk) {
          const auto count = std::min(chunk, a.length - first);
          const auto out =
              attend(w, {{&b, 49, 1}, {&b, 0, first % 50}, {&a, first, count}}, 1, large, random);
          all.insert(all.end(), out.end() - static_cast<std::int64_t>(count * row), out.end());
        }
        INFO("heads " << w.query_heads() << " dim " << w.head_dim << " window " << w.window
                      << " type " << info(w.type).name << " chunk " << chunk << " large " << large);
        CHECK(same_bits(all, right));
      }
    }
    std::vector<float> last = attend(w, {{&a, 140, 1}}, 0, false, random);
    CHECK(same_bits(last, {right.end() - static_cast<std::int64_t>(row), right.end()}));
  }
}
