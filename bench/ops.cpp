// SPDX-License-Identifier: Apache-2.0
// bench_ops [threads [type]]: every CPU operation at the shapes of SmolLM2-135M, against what the
// machine can do at most, measured in the same run: bytes a second streamed from memory, and
// multiply-adds a second from registers. Prints figure, bound and ratio; medians of several runs.
#include "kernels/ops.hpp"
#include "kernels/device.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace dinfer;
using namespace dinfer::kernels;

constexpr std::int64_t hidden = 576, mlp = 1536, vocabulary = 49152, layers = 30;
constexpr std::int32_t heads = 9, kv_heads = 3, head_dim = 64;

// Seconds of one call: the median of calls that fill half a second.
double seconds(const std::function<void()>& f) {
  using clock = std::chrono::steady_clock;
  std::vector<double> times;
  const auto end = clock::now() + std::chrono::milliseconds(500);
  f();
  do {
    const auto start = clock::now();
    f();
    times.push_back(std::chrono::duration<double>(clock::now() - start).count());
  } while (clock::now() < end || times.size() < 3);
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

void in_threads(std::uint32_t threads, const std::function<void(std::uint32_t)>& f) {
  std::vector<std::thread> all;
  for (std::uint32_t i = 1; i < threads; ++i) all.emplace_back(f, i);
  f(0);
  for (auto& t : all) t.join();
}

struct bounds {
  double bytes_per_s = 0, flops_per_s = 0;
};

using wide = float __attribute__((vector_size(64)));

[[gnu::always_inline]] inline float multiply_adds(std::int64_t rounds) {
  const wide a = wide{} + 0.999F, b = wide{} + 0.001F;
  wide s0 = a, s1 = b, s2 = a + b, s3 = a - b, s4 = s2 + b, s5 = s3 - b, s6 = s4 + b, s7 = s5 - b;
  for (std::int64_t r = 0; r < rounds; ++r) {
    s0 = s0 * a + b;
    s1 = s1 * a + b;
    s2 = s2 * a + b;
    s3 = s3 * a + b;
    s4 = s4 * a + b;
    s5 = s5 * a + b;
    s6 = s6 * a + b;
    s7 = s7 * a + b;
  }
  const wide total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
  return total[0];
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx2,fma"), optimize("fp-contract=fast"))) float wide_multiply_adds(
    std::int64_t rounds) {
  return multiply_adds(rounds);
}
__attribute__((target("avx2,fma"), optimize("fp-contract=fast"))) float half_multiply_adds(
    std::int64_t rounds) {
  return multiply_adds(rounds);
}
float best_multiply_adds(std::int64_t rounds) {
  if (__builtin_cpu_supports("avx512f")) return wide_multiply_adds(rounds);
  if (__builtin_cpu_supports("avx2")) return half_multiply_adds(rounds);
  return multiply_adds(rounds);
}
#else
float best_multiply_adds(std::int64_t rounds) { return multiply_adds(rounds); }
#endif

std::uint64_t add_all(const std::uint64_t* p, std::size_t n) {
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + 8 <= n; i += 8) {
    for (std::size_t j = 0; j < 8; ++j) sums[j] += p[i + j];
  }
  return std::accumulate(sums, sums + 8, std::uint64_t{0});
}

volatile double sink;  // keeps results that nobody reads

bounds measure_bounds(device& d, std::uint32_t threads) {
  bounds b;
  constexpr std::size_t bytes = std::size_t{256} << 20;
  const auto memory = d.allocate(bytes, false);
  std::memset(memory.data(), 1, bytes);
  const auto part = bytes / sizeof(std::uint64_t) / threads;
  const double read = seconds([&] {
    in_threads(threads, [&](std::uint32_t i) {
      sink =
          static_cast<double>(add_all(static_cast<std::uint64_t*>(memory.data()) + i * part, part));
    });
  });
  b.bytes_per_s = static_cast<double>(bytes) / read;
  constexpr std::int64_t rounds = 4'000'000;
  const double work = seconds([&] {
    in_threads(threads,
               [&](std::uint32_t) { sink = static_cast<double>(best_multiply_adds(rounds)); });
  });
  b.flops_per_s = static_cast<double>(rounds) * 8 * 16 * 2 * threads / work;
  return b;
}

struct bench {
  device& d;
  bounds limit;
  std::vector<std::byte> bits;
  double decode_s = 0, prefill_s = 0;

  bench(device& device, std::uint32_t threads) : d(device), limit(measure_bounds(device, threads)) {
    bits.resize(static_cast<std::size_t>(vocabulary * hidden * 4));
    std::uint64_t state = 1;
    for (auto& b : bits)
      b = static_cast<std::byte>((state = state * 6364136223846793005U + 1) >> 58);
  }

  std::unique_ptr<weight> make(dtype type, std::int64_t rows, std::int64_t columns,
                               weight_role role) {
    const auto half = rows / 2;
    const weight_slice whole{bits.data(), type, columns, 0, rows, 0, columns};
    const std::vector<weight_slice> two{{bits.data(), type, columns, 0, half, 0, columns},
                                        {bits.data(), type, columns, half, rows, 0, columns}};
    return role == weight_role::gate_up ? d.ops().prepare(two, role, {})
                                        : d.ops().prepare({&whole, 1}, role, {});
  }

  void line(const std::string& name, double s, double bytes, double flops) const {
    const double by_memory = bytes / limit.bytes_per_s, by_work = flops / limit.flops_per_s;
    const double least = std::max(by_memory, by_work);
    std::printf("%-34s %9.1f us %8.2f GB/s %8.1f GFLOP/s   bound %9.1f us (%s)  ratio %4.2f\n",
                name.c_str(), s * 1e6, bytes / s * 1e-9, flops / s * 1e-9, least * 1e6,
                by_memory > by_work ? "memory" : "work", least / s);
  }

  // Enough copies of a weight that they come from memory, as in a whole model.
  double linear(const std::string& name, dtype type, std::int64_t n, std::int64_t k,
                std::int64_t tokens, bool gate_up) {
    const auto role = gate_up ? weight_role::gate_up : weight_role::matrix;
    std::vector<std::unique_ptr<weight>> copies;
    copies.push_back(make(type, n, k, role));
    const auto bytes = static_cast<double>(copies[0]->bytes());
    while (bytes * static_cast<double>(copies.size()) < 9e7 && tokens < 64)
      copies.push_back(make(type, n, k, role));
    const auto x = d.allocate(static_cast<std::size_t>(tokens * k) * 4, true);
    const auto out = d.allocate(static_cast<std::size_t>(tokens * n) * 4, true);
    linear_args args;
    args.x = view(x.data(), dtype::f32, tokens, k);
    args.act = gate_up ? activation::swiglu : activation::none;
    args.out = view(out.data(), dtype::f32, tokens, gate_up ? n / 2 : n);
    const double s = seconds([&] {
                       for (const auto& w : copies) {
                         args.w = w.get();
                         d.ops().linear(args);
                       }
                     }) /
                     static_cast<double>(copies.size());
    line(name + " " + std::string(info(type).name) + " T=" + std::to_string(tokens), s, bytes,
         2.0 * static_cast<double>(n * k * tokens));
    return s;
  }

  double block(dtype type, std::int64_t tokens) {
    return static_cast<double>(layers) *
           (linear("qkv", type, (heads + 2 * kv_heads) * head_dim, hidden, tokens, false) +
            linear("out", type, hidden, hidden, tokens, false) +
            linear("gate_up", type, 2 * mlp, hidden, tokens, true) +
            linear("down", type, hidden, mlp, tokens, false));
  }

  double attend(std::int32_t tokens, std::int32_t context) {
    constexpr std::int32_t block_size = 16;
    const auto blocks = (context + block_size - 1) / block_size;
    kv_pages pages{nullptr, dtype::f32, blocks + 1, 1, kv_heads, block_size, head_dim};
    const auto memory =
        d.allocate(static_cast<std::size_t>(pages.pages * pages.page_elements()) * 4, true);
    pages.base = memory.data();
    std::vector<std::int32_t> table(static_cast<std::size_t>(blocks)), positions, sequence,
        begin{0, tokens}, keys{context}, row{0};
    std::iota(table.begin(), table.end(), 1);
    for (std::int32_t t = 0; t < tokens; ++t) positions.push_back(context - tokens + t);
    sequence.resize(positions.size());
    const auto ints = [](std::vector<std::int32_t>& v) {
      return view(v.data(), dtype::i32, v.size());
    };
    const step_batch batch{tokens,
                           1,
                           tokens == 1 ? 1 : 0,
                           ints(positions),
                           ints(sequence),
                           ints(begin),
                           ints(keys),
                           ints(row),
                           view(table.data(), dtype::i32, 1, blocks)};
    std::vector<float> qkv(static_cast<std::size_t>(tokens * (heads + 2 * kv_heads) * head_dim),
                           0.1F);
    std::vector<float> out(static_cast<std::size_t>(tokens * heads * head_dim)),
        inverse(head_dim / 2, 0.1F);
    const std::vector<std::int32_t> map{0, 0, 0, 1, 1, 1, 2, 2, 2};
    rope_store_args rope;
    rope.qkv = view(qkv.data(), dtype::f32, tokens, (heads + 2 * kv_heads) * head_dim);
    rope.query_heads = heads;
    rope.kv_heads = kv_heads;
    rope.head_dim = head_dim;
    rope.rope = {rope_style::half, head_dim, view(inverse.data(), dtype::f32, head_dim / 2)};
    rope.batch = &batch;
    rope.pages = pages;
    attention_args args{
        rope.qkv, heads,  head_dim, map, 0.125F,
        0,        &batch, pages,    0,   view(out.data(), dtype::f32, tokens, heads * head_dim)};
    const std::string at = " T=" + std::to_string(tokens) + " context=" + std::to_string(context);
    const double r = seconds([&] { d.ops().rope_store(rope); });
    line("rope_store" + at, r, static_cast<double>(qkv.size()) * 8,
         static_cast<double>(qkv.size()) * 3);
    const double s = seconds([&] { d.ops().attention(args); });
    const double seen = static_cast<double>(tokens) * (context - 0.5 * (tokens - 1));
    line("attention" + at, s, static_cast<double>(context) * kv_heads * head_dim * 8,
         4.0 * seen * heads * head_dim);
    return static_cast<double>(layers) * (r + s);
  }

  double norm(std::int64_t tokens) {
    std::vector<float> a(static_cast<std::size_t>(tokens * hidden), 0.1F), b = a, c = a;
    const auto gain = make(dtype::f32, 1, hidden, weight_role::vector);
    const norm_args n{norm_kind::rms, gain.get(), nullptr, 1e-5F};
    const auto t = [&](std::vector<float>& v) {
      return view(v.data(), dtype::f32, tokens, hidden);
    };
    const add_norm_args args{nullptr, t(a), t(b), &n, t(c)};
    const double s = seconds([&] { d.ops().add_norm(args); });
    line("add_norm T=" + std::to_string(tokens), s, static_cast<double>(a.size()) * 16,
         static_cast<double>(a.size()) * 6);
    return 2 * static_cast<double>(layers) * s;
  }

  void sample(const char* name, const sampling_params& params) {
    const auto s = d.ops().make_sampler(1, vocabulary);
    s->start(0, params, {});
    std::vector<float> logits(static_cast<std::size_t>(vocabulary)), copy;
    std::uint32_t state = 1;
    for (auto& x : logits)
      x = static_cast<float>((state = state * 1664525U + 1013904223U) >> 8) * 1e-6F;
    const sample_row row{0, 5, -1};
    const std::int64_t whole = vocabulary;
    std::vector<std::int32_t> tokens(1), top(most_top);
    std::vector<float> logprobs(1), top_logprobs(most_top);
    sample_args args;
    args.rows = {&row, 1};
    args.shard_rows = {&whole, 1};
    args.drawn = {view(tokens.data(), dtype::i32, 1), view(logprobs.data(), dtype::f32, 1),
                  view(top.data(), dtype::i32, 1, most_top),
                  view(top_logprobs.data(), dtype::f32, 1, most_top)};
    const double time = seconds([&] {
      copy = logits;
      args.logits = view(copy.data(), dtype::f32, 1, vocabulary);
      s->sample(args);
    });
    line(std::string("sample ") + name, time, static_cast<double>(vocabulary) * 4,
         static_cast<double>(vocabulary));
  }
};

}  // namespace

int main(int argc, char** argv) {
  device_options options;
  options.cpu_threads = argc > 1 ? static_cast<std::uint32_t>(std::max(1, std::atoi(argv[1]))) : 2;
  auto opened = open_device("cpu:0", options);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  bench b(**opened, options.cpu_threads);
  std::printf("%s: reads %.1f GB/s, %.0f GFLOP/s\n", (*opened)->traits().description.c_str(),
              b.limit.bytes_per_s * 1e-9, b.limit.flops_per_s * 1e-9);
  for (const auto type : {dtype::q4_1, dtype::q8_0, dtype::f16, dtype::f32}) {
    if (argc > 2 && info(type).name != argv[2]) continue;
    const auto head = type == dtype::q4_1 ? dtype::q8_0 : type;
    const double one = b.block(type, 1) + b.linear("head", head, vocabulary, hidden, 1, false);
    const double many = b.block(type, 512);
    const double decode = one + b.attend(1, 512) + b.norm(1);
    const double prefill = many + b.attend(512, 512) + b.norm(512);
    std::printf("==> %s: decode %.1f tok/s, prefill of 512 %.0f tok/s\n",
                std::string(info(type).name).c_str(), 1 / decode, 512 / prefill);
  }
  b.block(dtype::q4_1, 16);
  sampling_params params;
  params.temperature = 0;
  b.sample("greedy", params);
  params.temperature = 0.8F;
  b.sample("temperature", params);
  params.top_p = 0.95F;
  b.sample("top_p", params);
  params.top_k = 40;
  b.sample("top_k + top_p", params);
  params.logprobs = 5;
  b.sample("top_k + top_p + 5 logprobs", params);
}
