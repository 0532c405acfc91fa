// SPDX-License-Identifier: Apache-2.0
// Decode attention on the host against a plain loop in double: head sizes, groups, blocks, windows,
// padding, and that neither the batch nor the number of blocks changes a bit.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/types.cuh"
#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace dinfer::tests {
namespace {

using kernels::dtype;
using namespace kernels::cuda;

struct problem {
  dtype type = dtype::bf16;
  int head_dim = 128, block_size = 32, window = 0, chunk = 128;
  std::vector<int> groups{4, 4};  // query heads of each KV head
  std::vector<int> contexts{100};
  double loudness = 1;  // of queries
  std::size_t shared_bytes = 227 * 1024;
  bool f8_pages = false;  // 8-bit floats in pages

  dtype page_type() const { return f8_pages ? dtype::f8_e4m3 : type; }
  int query_heads() const {
    int n = 0;
    for (int g : groups) n += g;
    return n;
  }
};

float to_type(float v, dtype type) {
  if (type == dtype::bf16) return to_float(from_float<bf16>(v));
  return type == dtype::f16 ? to_float(from_float<f16>(v)) : v;
}

const f8_table& f8s() {
  static const f8_table table;
  return table;
}

// Elements of `type` in 16-byte aligned memory of their own, all NaN at first.
class elements {
 public:
  elements(dtype type, std::int64_t n)
      : type_(type), n_(n), data_(static_cast<char*>(std::aligned_alloc(256, bytes()))) {
    std::memset(data_.get(), 0xFF, bytes());
  }
  void* data() const { return data_.get(); }
  std::int64_t size() const { return n_; }
  void put(std::int64_t i, float v) {
    if (type_ == dtype::f32) at<float>()[i] = v;
    if (type_ == dtype::bf16) at<bf16>()[i] = from_float<bf16>(v);
    if (type_ == dtype::f16) at<f16>()[i] = from_float<f16>(v);
    if (type_ == dtype::f8_e4m3) at<std::uint8_t>()[i] = f8s().code(v);
  }
  float value(std::int64_t i) const {
    if (type_ == dtype::f32) return at<float>()[i];
    if (type_ == dtype::f8_e4m3) return f8s().value(at<std::uint8_t>()[i]);
    return type_ == dtype::bf16 ? to_float(at<bf16>()[i]) : to_float(at<f16>()[i]);
  }

 private:
  struct freer {
    void operator()(char* p) const { std::free(p); }
  };
  template <class T>
  T* at() const {
    return reinterpret_cast<T*>(data_.get());
  }
  std::size_t bytes() const {
    const auto exact = static_cast<std::size_t>(n_ * kernels::info(type_).block_bytes);
    return (exact + 255) / 256 * 256;
  }
  dtype type_;
  std::int64_t n_;
  std::unique_ptr<char, freer> data_;
};

// Sequences with their pages. Everything that must not be read is NaN, or a page far away.
struct world {
  problem p;
  elements qkv, pages;
  std::vector<int> table, rows;
  std::int64_t qkv_columns, page_elements, table_width;

  static constexpr int layers = 2, layer = 1;

  static int blocks_of(const problem& p) {
    int n = 0;
    for (int c : p.contexts) n += (c + p.block_size - 1) / p.block_size;
    return n;
  }
  static int columns_of(const problem& p) {
    return (p.query_heads() + 2 * static_cast<int>(p.groups.size())) * p.head_dim;
  }
  static std::int64_t page_of(const problem& p) {
    return std::int64_t{layers} * 2 * static_cast<int>(p.groups.size()) * p.block_size * p.head_dim;
  }

  world(const problem& problem, std::uint64_t seed)
      : p(problem),
        qkv(p.type, static_cast<int>(p.contexts.size()) * columns_of(p)),
        pages(p.page_type(), (blocks_of(p) + 1) * page_of(p)),
        qkv_columns(columns_of(p)),
        page_elements(page_of(p)) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const int sequences = static_cast<int>(p.contexts.size());
    for (std::int64_t i = 0; i < qkv.size(); ++i) {
      if (i % qkv_columns < p.query_heads() * p.head_dim)
        qkv.put(i, to_type(normal(random) * static_cast<float>(p.loudness), p.type));
    }
    const int longest = *std::max_element(p.contexts.begin(), p.contexts.end());
    table_width = (longest + p.block_size - 1) / p.block_size;
    table.assign(static_cast<std::size_t>(sequences * table_width), 1 << 30);
    std::vector<int> free_pages;
    for (int b = 1; b <= blocks_of(p); ++b) free_pages.push_back(b);
    std::shuffle(free_pages.begin(), free_pages.end(), random);
    for (int s = 0; s < sequences; ++s) rows.push_back(s);
    std::shuffle(rows.begin(), rows.end(), random);
    for (int s = 0; s < sequences; ++s) {
      for (int b = 0; b * p.block_size < p.contexts[at(s)]; ++b) {
        table[at(rows[at(s)] * table_width + b)] = free_pages.back();
        free_pages.pop_back();
      }
      for (int key = 0; key < p.contexts[at(s)]; ++key) {
        if (p.window > 0 && key < p.contexts[at(s)] - p.window) continue;
        for (int k = 0; k < static_cast<int>(2 * p.groups.size()); ++k) {
          for (int d = 0; d < p.head_dim; ++d)
            pages.put(place(s, k, key) + d, to_type(normal(random), p.type));
        }
      }
    }
  }

  template <class I>
  static std::size_t at(I i) {
    return static_cast<std::size_t>(i);
  }
  // Of a key's (part < KV heads) or a value's elements.
  std::int64_t place(int sequence, int part, int key) const {
    const int page = table[at(rows[at(sequence)] * table_width + key / p.block_size)];
    const auto heads = static_cast<int>(p.groups.size());
    return page * page_elements +
           ((std::int64_t{layer} * 2 * heads + part) * p.block_size + key % p.block_size) *
               p.head_dim;
  }

  // Sequences first.. of the world; [count, query_heads * head_dim].
  std::vector<float> run(int first, int count, int multiprocessors,
                         std::size_t merge_share = 1) const {
    const auto columns = std::int64_t{p.query_heads()} * p.head_dim;
    elements out(p.type, count * columns);
    const auto width = kernels::info(p.type).block_bytes;
    attention_shape s;
    s.qkv = static_cast<const char*>(qkv.data()) + first * qkv_columns * width;
    s.out = out.data();
    s.qkv_columns = qkv_columns;
    s.kv_heads = static_cast<int>(p.groups.size());
    s.pages = static_cast<const char*>(pages.data()) + layer * 2 * s.kv_heads * p.block_size *
                                                           p.head_dim *
                                                           kernels::info(p.page_type()).block_bytes;
    s.page_elements = page_elements;
    s.query_heads = p.query_heads();
    s.head_dim = p.head_dim;
    s.block_size = p.block_size;
    while (1 << s.block_shift < p.block_size) ++s.block_shift;
    s.window = p.window;
    s.scale = scale();
    s.context = p.contexts.data() + first;
    s.table_rows = rows.data() + first;
    s.block_table = table.data();
    s.table_width = table_width;
    s.tokens = s.sequences = s.decodes = count;
    for (int k = 0; k < s.kv_heads; ++k)
      s.first_query[k + 1] = static_cast<std::int16_t>(s.first_query[k] + p.groups[at(k)]);

    const auto space = decode_space_for(s.query_heads, s.kv_heads, s.head_dim, multiprocessors);
    std::vector<float> partial(space.partial_bytes / 4 / merge_share,
                               std::numeric_limits<float>::quiet_NaN());
    std::vector<std::int32_t> tickets(space.ticket_bytes / 4);
    attend_decode(s, {p.chunk, partial.data(), partial.size() * 4, tickets.data(), p.shared_bytes},
                  {p.type, p.page_type()}, multiprocessors, nullptr);
    CHECK(std::count(tickets.begin(), tickets.end(), 0) == std::ssize(tickets));
    std::vector<float> values(at(out.size()));
    for (std::int64_t i = 0; i < out.size(); ++i) values[at(i)] = out.value(i);
    return values;
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(p.head_dim)); }

  std::vector<double> right(int sequence) const {
    const int context = p.contexts[at(sequence)];
    const int first = p.window > 0 ? std::max(0, context - p.window) : 0;
    std::vector<double> out(at(p.query_heads() * p.head_dim));
    int head = 0;
    for (int k = 0; k < static_cast<int>(p.groups.size()); ++k) {
      for (int end = head + p.groups[at(k)]; head < end; ++head) {
        std::vector<double> scores;
        for (int key = first; key < context; ++key) {
          double dot = 0;
          for (int d = 0; d < p.head_dim; ++d)
            dot += double{qkv.value(sequence * qkv_columns + head * p.head_dim + d)} *
                   double{pages.value(place(sequence, k, key) + d)};
          scores.push_back(dot * double{scale()});
        }
        double total = 0;
        const double top = scores.empty() ? 0 : *std::max_element(scores.begin(), scores.end());
        for (double& v : scores) total += v = std::exp(v - top);
        for (int key = first; key < context; ++key) {
          const auto from = place(sequence, k + static_cast<int>(p.groups.size()), key);
          for (int d = 0; d < p.head_dim; ++d)
            out[at(head * p.head_dim + d)] +=
                scores[at(key - first)] / total * double{pages.value(from + d)};
        }
      }
    }
    return out;
  }
};

double bound_of(dtype type) {
  return type == dtype::f32 ? 2e-5 : type == dtype::f16 ? 2e-3 : 1.5e-2;
}

// Largest error of a sequence relative to its largest value.
double error_of(const world& w, const std::vector<float>& out, int sequence) {
  const auto right = w.right(sequence);
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    const double got = double{out[static_cast<std::size_t>(sequence) * right.size() + i]};
    largest = std::max(largest, std::abs(right[i]));
    const double off = std::abs(got - right[i]);
    worst = std::isnan(off) ? std::numeric_limits<double>::infinity() : std::max(worst, off);
  }
  return largest == 0 ? worst : worst / largest;
}

std::string name_of(const problem& p) {
  std::string s = std::string(kernels::info(p.type).name) + (p.f8_pages ? " f8" : "") + " dim " +
                  std::to_string(p.head_dim) + " block " + std::to_string(p.block_size) +
                  " window " + std::to_string(p.window) + " groups";
  for (int g : p.groups) s += " " + std::to_string(g);
  s += " contexts";
  for (int c : p.contexts) s += " " + std::to_string(c);
  return s;
}

void check(const problem& p, int multiprocessors, std::uint64_t seed) {
  INFO(name_of(p) << ", multiprocessors " << multiprocessors << ", seed " << seed);
  cuda_on_cpu::set_order(seed);
  const world w(p, seed);
  const auto out = w.run(0, static_cast<int>(p.contexts.size()), multiprocessors);
  for (int s = 0; s < static_cast<int>(p.contexts.size()); ++s) {
    const double error = error_of(w, out, s);
    INFO("sequence " << s);
    CHECK(error < bound_of(p.type));
  }
}

TEST_CASE("emulated decode attention keeps to plain arithmetic in every head size and type") {
  std::uint64_t seed = 1;
  for (const auto type : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const int head_dim : {8, 64, 72, 80, 96, 128, 256}) {
      if (head_dim == 8 && type != dtype::f32) continue;
      problem p;
      p.type = type;
      p.head_dim = head_dim;
      p.contexts = {70, 1, 200, 33};
      check(p, 2, seed++);
    }
  }
}

TEST_CASE("emulated decode attention keeps to plain arithmetic over 8-bit floats") {
  std::uint64_t seed = 40;
  for (const auto type : {dtype::bf16, dtype::f16}) {
    for (const int head_dim : {16, 48, 64, 80, 96, 112, 128, 256}) {
      problem p;
      p.type = type;
      p.f8_pages = true;
      p.head_dim = head_dim;
      p.contexts = {70, 1, 300, 33, 129};
      check(p, 2, seed++);
    }
  }
  problem many;
  many.f8_pages = true;
  many.groups = {35, 1, 0, 9};
  many.block_size = 8;
  many.window = 100;
  many.contexts = {0, 500, 9, 0, 128, 257};
  check(many, 3, seed);
  many.shared_bytes = 99 * 1024;
  many.head_dim = 256;
  many.groups = {5};
  check(many, 2, seed);
}

TEST_CASE("emulated decode attention takes groups and blocks of any size") {
  const std::vector<std::vector<int>> all_groups{{1},  {1, 1, 1}, {16},   {17, 3},
                                                 {35}, {2, 0, 5}, {8, 7}, {5, 9, 1}};
  std::uint64_t seed = 100;
  for (const auto& groups : all_groups) {
    for (const auto type : {dtype::f32, dtype::bf16}) {
      problem p;
      p.type = type;
      p.head_dim = 64;
      p.groups = groups;
      p.block_size = 8 << seed % 5;
      p.contexts = {9, 64, 130};
      check(p, 1 + static_cast<int>(seed % 3), seed);
      ++seed;
    }
  }
}

TEST_CASE("emulated decode attention sees a window and skips padding") {
  std::uint64_t seed = 200;
  for (const int window : {1, 17, 64, 100, 1000}) {
    for (const auto type : {dtype::f32, dtype::f16}) {
      problem p;
      p.type = type;
      p.head_dim = 64;
      p.groups = {3};
      p.block_size = 16;
      p.window = window;
      p.chunk = 64;
      p.contexts = {0, 300, 0, 0, 65, 64, 1, 257, 0};
      check(p, 1 + static_cast<int>(seed % 4), seed);
      ++seed;
    }
  }
  problem nothing;
  nothing.contexts = {0, 0};
  nothing.contexts.reserve(4);
  check(nothing, 2, seed);
}

// Fewer stages in the ring, other kernels.
TEST_CASE("emulated decode attention makes do with little shared memory") {
  std::uint64_t seed = 250;
  for (const int head_dim : {64, 128, 256}) {
    problem p;
    p.head_dim = head_dim;
    p.shared_bytes = 99 * 1024;
    p.contexts = {200, 0, 70, 330, 1, 1, 65};
    check(p, 2, seed++);
  }
}

TEST_CASE("emulated decode attention survives scores far apart") {
  for (const auto type : {dtype::f32, dtype::bf16, dtype::f16}) {
    problem p;
    p.type = type;
    p.head_dim = 64;
    p.loudness = 60;
    p.contexts = {500, 300};
    check(p, 3, 300);
  }
}

// Each sequence alone, on other numbers of blocks, and with too little merge space for its groups.
TEST_CASE("emulated decode attention gives a sequence the same bits in any company") {
  for (const auto type : {dtype::f32, dtype::bf16, dtype::f16, dtype::f8_e4m3}) {
    for (const int window : {0, 400}) {
      problem p;
      p.f8_pages = type == dtype::f8_e4m3;
      p.type = p.f8_pages ? dtype::bf16 : type;
      p.head_dim = 64;
      p.window = window;
      p.chunk = 64;
      p.groups = {4, 4};
      p.contexts = {700, 64, 3, 0, 900, 65, 128, 450};
      cuda_on_cpu::set_order(7);
      const world w(p, 400);
      const auto count = static_cast<int>(p.contexts.size());
      const auto together = w.run(0, count, 3);
      const auto columns = together.size() / p.contexts.size();
      INFO(name_of(p));
      for (const int multiprocessors : {1, 2, 5, 16}) {
        CHECK(std::memcmp(w.run(0, count, multiprocessors).data(), together.data(),
                          together.size() * sizeof(float)) == 0);
      }
      CHECK(std::memcmp(w.run(0, count, 3, 3).data(), together.data(),
                        together.size() * sizeof(float)) == 0);
      for (int s = 0; s < count; ++s) {
        const auto alone = w.run(s, 1, 1 + s % 4);
        CHECK(std::memcmp(alone.data(), together.data() + static_cast<std::size_t>(s) * columns,
                          columns * sizeof(float)) == 0);
      }
    }
  }
}

// Chunks are doubled beyond 65.
TEST_CASE("emulated decode attention merges long sequences") {
  problem p;
  p.head_dim = 64;
  p.groups = {2};
  p.chunk = 64;
  p.contexts = {5000, 40, 4160, 9000};
  check(p, 8, 500);
  p.window = 4130;
  check(p, 8, 501);
  p.f8_pages = true;
  p.chunk = 128;
  p.window = 0;
  check(p, 8, 502);
}

// More sequences than threads.
TEST_CASE("emulated decode attention finds its place among many sequences") {
  problem p;
  p.type = dtype::f16;
  p.head_dim = 64;
  p.groups = {1};
  p.block_size = 16;
  p.contexts.clear();
  for (int s = 0; s < 300; ++s) p.contexts.push_back(s % 7 == 0 ? 0 : 1 + s * 37 % 90);
  check(p, 3, 600);
}

}  // namespace
}  // namespace dinfer::tests
