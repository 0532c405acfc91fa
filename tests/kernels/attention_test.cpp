// SPDX-License-Identifier: Apache-2.0
// rope_store and attention against plain double arithmetic, over batches that mix prefill and
// decode, scattered pages, windows and uneven heads.
#include "tests/kernels/support.hpp"

#include <algorithm>
#include <array>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct world {
  std::int32_t query_heads = 2, kv_heads = 1, head_dim = 64, block_size = 16, layers = 2, layer = 1;
  std::int32_t window = 0;
  dtype type = dtype::f32;
  std::vector<std::int32_t> kv_of_query{0, 0};
  rope_style style = rope_style::half;
  std::int32_t rotary = 64;

  std::int64_t width() const { return std::int64_t{query_heads + 2 * kv_heads} * head_dim; }
};

// Sequences whose tokens come in chunks: a step of the engine, as index arrays.
struct step {
  std::vector<std::int32_t> positions, token_sequence, query_begin{0}, context, rows, table;
  step_batch batch;

  void add(std::int32_t first, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) {
      positions.push_back(first + i);
      token_sequence.push_back(static_cast<std::int32_t>(context.size()));
    }
    query_begin.push_back(query_begin.back() + count);
    context.push_back(first + count);
  }
  void add_padding(std::int32_t count) {
    add(0, count);
    std::fill(positions.end() - count, positions.end(), 0);
    context.back() = 0;
  }
  void finish(const std::vector<std::vector<std::int32_t>>& blocks, std::size_t widest) {
    for (std::size_t s = blocks.size(); s-- > 0;) {  // rows in another order than sequences
      rows.push_back(static_cast<std::int32_t>(s));
      table.insert(table.end(), blocks[s].begin(), blocks[s].end());
      table.insert(table.end(), widest - blocks[s].size(), -1);
    }
    batch.tokens = static_cast<std::int32_t>(positions.size());
    batch.sequences = static_cast<std::int32_t>(context.size());
    batch.positions = over(positions);
    batch.token_sequence = over(token_sequence);
    batch.query_begin = over(query_begin);
    batch.context = over(context);
    batch.table_rows = over(rows);
    batch.block_table = view(table.data(), dtype::i32, blocks.size(), widest);
  }
};

struct cache {
  std::vector<std::byte> memory;
  kv_pages pages;

  cache(const world& w, std::int64_t count) {
    pages = {nullptr, w.type, count, w.layers, w.kv_heads, w.block_size, w.head_dim};
    memory.resize(static_cast<std::size_t>(row_bytes(w.type, count * pages.page_elements())),
                  std::byte{0xFF});  // NaN in every type
    pages.base = memory.data();
  }
};

std::vector<float> frequencies(std::int32_t rotary) {
  std::vector<float> f(static_cast<std::size_t>(rotary / 2));
  for (std::size_t i = 0; i < f.size(); ++i) {
    f[i] = static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / rotary));
  }
  return f;
}

// Runs one step on `c` and returns the attention's output; `qkv` is turned in place.
std::vector<float> run_step(device& d, const world& w, step& s, cache& c, std::vector<float>& qkv) {
  auto inverse = frequencies(w.rotary);
  rope_store_args rope;
  rope.qkv = over(qkv, s.batch.tokens, w.width());
  rope.query_heads = w.query_heads;
  rope.kv_heads = w.kv_heads;
  rope.head_dim = w.head_dim;
  rope.rope = {w.style, w.rotary, over(inverse, inverse.size())};
  rope.batch = &s.batch;
  rope.pages = c.pages;
  rope.layer = w.layer;
  d.ops().rope_store(rope);
  std::vector<float> out(static_cast<std::size_t>(s.batch.tokens * w.query_heads * w.head_dim),
                         poison);
  attention_args args;
  args.qkv = rope.qkv;
  args.query_heads = w.query_heads;
  args.head_dim = w.head_dim;
  args.kv_of_query = w.kv_of_query;
  args.scale = 1 / std::sqrt(static_cast<float>(w.head_dim));
  args.window = w.window;
  args.batch = &s.batch;
  args.pages = c.pages;
  args.layer = w.layer;
  args.out = over(out, s.batch.tokens, w.query_heads * w.head_dim);
  d.ops().attention(args);
  return out;
}

using row = std::vector<double>;

// A head turned by its position, in double but for the angle, which is a product of floats.
row turned(const world& w, const float* head, std::int32_t position) {
  row out(head, head + w.head_dim);
  if (w.style == rope_style::none) return out;
  const auto inverse = frequencies(w.rotary);
  for (std::int32_t i = 0; i < w.rotary / 2; ++i) {
    const auto angle =
        static_cast<double>(static_cast<float>(position) * inverse[static_cast<std::size_t>(i)]);
    const bool half = w.style == rope_style::half;
    const auto a = static_cast<std::size_t>(half ? i : 2 * i);
    const auto b = static_cast<std::size_t>(half ? i + w.rotary / 2 : 2 * i + 1);
    const double x = out[a], y = out[b];
    out[a] = x * std::cos(angle) - y * std::sin(angle);
    out[b] = x * std::sin(angle) + y * std::cos(angle);
  }
  return out;
}

// Attention of one whole sequence whose raw projections are qkv [tokens, width].
std::vector<double> reference(const world& w, const std::vector<float>& qkv) {
  const auto tokens = static_cast<std::int32_t>(static_cast<std::int64_t>(qkv.size()) / w.width());
  const auto head_at = [&](std::int32_t t, std::int32_t h) {
    return qkv.data() + t * w.width() + std::int64_t{h} * w.head_dim;
  };
  std::vector<double> out;
  for (std::int32_t t = 0; t < tokens; ++t) {
    for (std::int32_t h = 0; h < w.query_heads; ++h) {
      const auto kv = w.kv_of_query[static_cast<std::size_t>(h)];
      const auto q = turned(w, head_at(t, h), t);
      const std::int32_t first = w.window > 0 ? std::max(0, t - w.window + 1) : 0;
      std::vector<double> scores;
      for (std::int32_t j = first; j <= t; ++j) {
        const auto k = turned(w, head_at(j, w.query_heads + kv), j);
        double s = 0;
        for (std::size_t i = 0; i < k.size(); ++i) s += q[i] * k[i];
        scores.push_back(s / std::sqrt(static_cast<double>(w.head_dim)));
      }
      const double peak = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (auto& s : scores) total += s = std::exp(s - peak);
      row sum(static_cast<std::size_t>(w.head_dim));
      for (std::int32_t j = first; j <= t; ++j) {
        const float* v = head_at(j, w.query_heads + w.kv_heads + kv);
        const double p = scores[static_cast<std::size_t>(j - first)] / total;
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += p * static_cast<double>(v[i]);
      }
      out.insert(out.end(), sum.begin(), sum.end());
    }
  }
  return out;
}

// A sequence of `lengths` tokens each, computed in the given chunks, all sequences in every step.
// Returns the outputs sequence by sequence.
std::vector<std::vector<float>> in_chunks(device& d, const world& w,
                                          const std::vector<std::vector<float>>& qkvs,
                                          std::int32_t chunk, random_numbers& random) {
  const auto per_token = static_cast<std::int64_t>(w.query_heads) * w.head_dim;
  std::size_t widest = 1;
  std::int32_t pages = 1;
  std::vector<std::int32_t> lengths;
  for (const auto& q : qkvs) {
    lengths.push_back(static_cast<std::int32_t>(static_cast<std::int64_t>(q.size()) / w.width()));
    const auto blocks = (lengths.back() + w.block_size - 1) / w.block_size;
    widest = std::max(widest, static_cast<std::size_t>(blocks));
    pages += blocks;
  }
  std::vector<std::int32_t> order;  // pages 1.. in a random order
  for (std::int32_t p = 1; p < pages; ++p) {
    order.insert(order.begin() + random.below(static_cast<std::int32_t>(order.size()) + 1), p);
  }
  std::vector<std::vector<std::int32_t>> blocks;
  for (const auto length : lengths) {
    const auto n = (length + w.block_size - 1) / w.block_size;
    blocks.emplace_back(order.end() - n, order.end());
    order.resize(order.size() - static_cast<std::size_t>(n));
  }
  cache c(w, pages);
  std::vector<std::vector<float>> outs(qkvs.size());
  for (std::int32_t at = 0; at < *std::max_element(lengths.begin(), lengths.end()); at += chunk) {
    step s;
    std::vector<float> qkv;
    std::vector<std::vector<std::int32_t>> used;
    std::vector<std::pair<std::size_t, std::int32_t>> who;
    for (std::size_t i = 0; i < qkvs.size(); ++i) {
      const auto count = std::min(chunk, lengths[i] - at);
      if (count <= 0) continue;
      s.add(at, count);
      used.push_back(blocks[i]);
      who.emplace_back(i, count);
      qkv.insert(qkv.end(), qkvs[i].begin() + at * w.width(),
                 qkvs[i].begin() + (at + count) * w.width());
    }
    s.finish(used, widest);
    const auto out = run_step(d, w, s, c, qkv);
    auto from = out.begin();
    for (const auto& [i, count] : who) {
      outs[i].insert(outs[i].end(), from, from + count * per_token);
      from += count * per_token;
    }
  }
  return outs;
}

double worst(const std::vector<float>& got, const std::vector<double>& right) {
  REQUIRE(got.size() == right.size());
  double off = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double e = std::abs(static_cast<double>(got[i]) - right[i]);
    off = std::max(off, std::isnan(e) ? 1e9 : e);
  }
  return off;
}

std::vector<std::vector<float>> make(const world& w, const std::vector<std::int32_t>& lengths,
                                     random_numbers& random) {
  std::vector<std::vector<float>> qkvs;
  for (const auto n : lengths) qkvs.push_back(random.floats(n * w.width(), -2, 2));
  return qkvs;
}

std::vector<world> worlds() {
  std::vector<world> all(9);
  all[1] = {9, 3, 64, 16, 3, 2, 0, dtype::f32, {0, 0, 0, 1, 1, 1, 2, 2, 2}, rope_style::interleaved,
            64};
  all[2] = {5, 2, 32, 8, 1, 0, 0, dtype::f32, {0, 0, 0, 1, 1}, rope_style::half, 16};
  all[3] = {3, 3, 80, 5, 2, 0, 0, dtype::f32, {2, 0, 1}, rope_style::half, 80};
  all[4] = {4, 1, 20, 32, 1, 0, 0, dtype::f32, {0, 0, 0, 0}, rope_style::none, 0};
  all[5] = {2, 1, 64, 16, 2, 1, 7, dtype::f32, {0, 0}, rope_style::half, 64};
  all[6] = {2, 1, 64, 16, 2, 1, 50, dtype::f32, {0, 0}, rope_style::half, 64};
  all[7] = {2, 2, 48, 16, 2, 1, 0, dtype::f16, {0, 1}, rope_style::half, 48};
  all[8] = {2, 2, 20, 16, 2, 1, 0, dtype::bf16, {1, 0}, rope_style::half, 20};
  return all;
}

}  // namespace

TEST_CASE("attention agrees with double, whatever the heads, pages, window and chunks") {
  random_numbers random(21);
  const auto d = open_cpu(2);
  for (const auto& w : worlds()) {
    const auto qkvs = make(w, {1, 37, 100, 64, 3}, random);
    for (const std::int32_t chunk : {1, 33, 200}) {
      const auto outs = in_chunks(*d, w, qkvs, chunk, random);
      for (std::size_t i = 0; i < qkvs.size(); ++i) {
        INFO("heads " << w.query_heads << " dim " << w.head_dim << " window " << w.window
                      << " chunk " << chunk << " sequence " << i);
        const double bound = w.type == dtype::f32 ? 1e-5 : w.type == dtype::f16 ? 5e-3 : 4e-2;
        CHECK(worst(outs[i], reference(w, qkvs[i])) < bound);
      }
    }
  }
}

TEST_CASE("attention's bits depend neither on chunks, nor on the batch, nor on threads") {
  random_numbers random(22);
  const auto one = open_cpu(1);
  const auto two = open_cpu(2);
  for (const auto& w : worlds()) {
    const auto qkvs = make(w, {90, 41}, random);
    const auto right = in_chunks(*one, w, qkvs, 1000, random);
    for (const std::int32_t chunk : {1, 2, 7, 16, 64, 1000}) {
      const auto outs = in_chunks(*two, w, qkvs, chunk, random);
      CHECK(same_bits(outs[0], right[0]));
      CHECK(same_bits(outs[1], right[1]));
      CHECK(same_bits(in_chunks(*two, w, {qkvs[1]}, chunk, random)[0], right[1]));
    }
  }
}

TEST_CASE("a step's angles are its own, whichever positions and frequencies came before") {
  random_numbers random(25);
  world half, quarter;
  quarter.rotary = 32;
  const auto used = open_cpu(2);
  const auto check = [&](const world& w, std::int32_t tokens) {
    const auto qkvs = make(w, {tokens}, random);
    const auto got = in_chunks(*used, w, qkvs, tokens, random)[0];
    CHECK(same_bits(got, in_chunks(*open_cpu(1), w, qkvs, tokens, random)[0]));
    CHECK(worst(got, reference(w, qkvs[0])) < 1e-5);
  };
  for (const std::int32_t tokens : {30, 30, 31, 8}) {
    check(half, tokens);
    check(quarter, tokens);
    check(quarter, tokens);
  }
}

TEST_CASE("attention survives scores far apart") {
  random_numbers random(23);
  const auto d = open_cpu(1);
  const world w;
  const std::vector<std::vector<float>> qkvs{random.floats(70 * w.width(), -40, 40)};
  const auto outs = in_chunks(*d, w, qkvs, 70, random);
  CHECK(worst(outs[0], reference(w, qkvs[0])) < 2e-2);  // values reach 40, scores 1000s
}

TEST_CASE("padding writes to page 0 alone, and its attention is zeros") {
  random_numbers random(24);
  const auto d = open_cpu(2);
  const world w;
  const auto qkvs = make(w, {20}, random);
  const auto right = in_chunks(*d, w, qkvs, 20, random)[0];
  step s;
  s.add(0, 20);
  s.add_padding(3);
  s.finish({{1, 2}, {0, 0}}, 2);
  cache c(w, 4);
  auto qkv = qkvs[0];
  const auto extra = random.floats(3 * w.width());
  qkv.insert(qkv.end(), extra.begin(), extra.end());
  const auto out = run_step(*d, w, s, c, qkv);
  const auto border = out.begin() + static_cast<std::int64_t>(right.size());
  CHECK(same_bits({out.begin(), border}, right));
  CHECK(std::all_of(border, out.end(), [](float v) { return v == 0; }));
  const auto page = static_cast<std::size_t>(row_bytes(w.type, c.pages.page_elements()));
  CHECK(std::all_of(c.memory.begin() + static_cast<std::int64_t>(3 * page), c.memory.end(),
                    [](std::byte b) { return b == std::byte{0xFF}; }));
}
