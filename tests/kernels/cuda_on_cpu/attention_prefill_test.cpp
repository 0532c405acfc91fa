// SPDX-License-Identifier: Apache-2.0
// Prefill attention of the CUDA backend, run on the host, against plain double arithmetic: ragged
// batches over scattered pages, and that a prompt's bits do not depend on how it is cut.
#include "kernels/cuda/attention_tiles.cuh"
#include "tests/kernels/cuda/paged_prompts.hpp"

#include <cstdio>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using world = head_shape;

template <class T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> out;
  for (const float v : values) {
    if constexpr (std::is_same_v<T, cuda::f8>) out.push_back(cuda::to_f8(v));
    else out.push_back(cuda::from_float<T>(v));
  }
  return out;
}

// Of all tokens, [query heads, head_dim] each; the first `decodes` pieces are not computed.
// large_tiles: the host thinks there are many more tokens.
template <class T, class Stored>
std::vector<float> attend_as(const world& w, const std::vector<piece>& pieces, std::int32_t decodes,
                             bool large_tiles, random_numbers& random) {
  namespace emulator = cuda_on_cpu;
  const paged_step step(w, pieces, random);
  const emulator::guarded<T> input(stored<T>(step.qkv));
  const emulator::guarded<Stored> memory(stored<Stored>(step.memory));
  const emulator::guarded<T> out(static_cast<std::size_t>(step.tokens() * w.out_columns()));
  const emulator::guarded<std::int32_t> begin(step.query_begin), context(step.context),
      rows(step.table_rows), table(step.table), positions(step.positions);
  out.poison();
  cuda::attention_shape shape;
  shape.qkv = input.data();
  shape.out = out.data();
  shape.qkv_columns = w.qkv_columns();
  shape.pages = memory.data() + step.layer * step.layer_elements(w);
  shape.page_elements = step.layers * step.layer_elements(w);
  shape.query_heads = w.query_heads();
  shape.kv_heads = w.kv_heads();
  shape.head_dim = w.head_dim;
  shape.block_size = w.block_size;
  while (1 << shape.block_shift < w.block_size) ++shape.block_shift;
  shape.window = w.window;
  shape.scale = w.scale();
  shape.positions = positions.data();
  shape.query_begin = begin.data();
  shape.context = context.data();
  shape.table_rows = rows.data();
  shape.block_table = table.data();
  shape.table_width = step.table_width;
  shape.tokens = step.tokens();
  shape.sequences = static_cast<std::int32_t>(pieces.size());
  shape.decodes = decodes;
  for (std::size_t k = 0; k < w.groups.size(); ++k) {
    shape.first_query[k + 1] = static_cast<std::int16_t>(shape.first_query[k] + w.groups[k]);
  }
  const auto tokens = step.tokens() - step.query_begin[static_cast<std::size_t>(decodes)];
  cuda_on_cpu::set_order(random.bits());
  cuda::attend_prefill(shape, decodes, large_tiles ? 32768 / w.query_heads() + tokens : tokens,
                       {w.type, w.page_type()}, nullptr);
  std::vector<float> result;
  for (const T& v : out) result.push_back(cuda::to_float(v));
  return result;
}

std::vector<float> attend(const world& w, const std::vector<piece>& pieces, std::int32_t decodes,
                          bool large_tiles, random_numbers& random) {
  std::vector<float> out;
  cuda::with_page_type({w.type, w.page_type()}, [&](auto element, auto pages) {
    out = attend_as<decltype(element), decltype(pages)>(w, pieces, decodes, large_tiles, random);
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
      {{4, 4}, 128, 16, 0, dtype::bf16},       {{3, 1}, 64, 8, 0, dtype::f16},
      {{1, 5, 2}, 128, 32, 40, dtype::f16},    {{7}, 64, 128, 70, dtype::bf16},
      {{2, 1}, 80, 16, 0, dtype::f32},         {{3}, 64, 8, 21, dtype::f32},
      {{2, 2}, 72, 8, 0, dtype::bf16},         {{1}, 256, 16, 33, dtype::f16},
      {{4, 4}, 128, 16, 0, dtype::bf16, true}, {{3, 1}, 64, 8, 40, dtype::f16, true},
      {{2}, 80, 16, 0, dtype::bf16, true},     {{2, 1}, 64, 8, 21, dtype::f32, true},
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
        INFO(w.name() << " large " << large << " piece " << s);
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
        INFO(w.name() << " chunk " << chunk << " large " << large);
        CHECK(same_bits(all, right));
      }
    }
    std::vector<float> last = attend(w, {{&a, 140, 1}}, 0, false, random);
    CHECK(same_bits(last, {right.end() - static_cast<std::int64_t>(row), right.end()}));
  }
}

TEST_CASE("emulated prefill attention over 8-bit floats has the bits of their numbers") {
  std::printf("seed 63\n");
  random_numbers random(63);
  for (auto w : worlds()) {
    if (!w.f8_pages) continue;
    const auto a = make_prompt(w, 141, random), b = make_prompt(w, 50, random);
    const std::vector<piece> pieces{{&a, 100, 41}, {&b, 0, 50}, {nullptr, 0, 2}, {&a, 0, 70}};
    for (const bool large : {false, true}) {
      INFO(w.name() << " large " << large);
      w.f8_pages = true;
      const auto got = attend(w, pieces, 0, large, random);
      w.f8_pages = false;
      CHECK(same_bits(got, attend(w, pieces, 0, large, random)));
    }
  }
}
