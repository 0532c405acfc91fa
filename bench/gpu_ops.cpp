// SPDX-License-Identifier: Apache-2.0
// bench_gpu_ops: every operation of a GPU at the shapes of Llama-3.1-8B, one at a time, its
// operands in memory and not in the cache, many in a recorded step (sampling that cannot be
// recorded is enqueued). Prints the time of one, what it reaches, the least time that memory and
// tensor cores allow, and by how much it is longer than that.
//
//   bench_gpu_ops [--json] [--device cuda:0] [--tuning DIR] [--bandwidth TB/s] [--matmul TFLOP/s]
//                 [--fp8 | --packed TYPE] [--kv-fp8] [NAME...]
//
//   build/cuda/bin/bench_gpu_ops --tuning build/tuning                 everything, under a minute
//   build/cuda/bin/bench_gpu_ops --tuning build/tuning decode_b32_ linear_o_t8_     parts of names
//   build/cuda/bin/bench_gpu_ops --tuning build/tuning --json > ops.jsonl
//   bench/rows.py --config 8b-bf16 --what ops keep ops.jsonl --command "bench_gpu_ops --json"
//
// Without --bandwidth and --matmul both are measured at the start, as a product with one row and
// one with 8192 rows reach them, but taken for 3.10 TB/s and 800 TFLOP/s (an H100) at least. With
// --fp8 layers' matrices are 8-bit floats, tensor cores twice as fast for them, and what they meet
// is turned into them before, but by linear_o, which finds it as attention leaves it; with --kv-fp8
// attention reads pages of them. With --packed matrices are of GGUF's type (q4_k), as GPUs hold it.
#include "bench/gpu_bench.hpp"
#include "bench/gpu_blocks.hpp"
#include "bench/gpu_paged_case.hpp"
#include "bench/rows.hpp"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <utility>

namespace {

using namespace dinfer;
using namespace dinfer::bench;
using namespace dinfer::kernels;

constexpr std::int64_t mlp = 14336, vocabulary = 128256;
constexpr const char* heads = "32 heads on 8";
constexpr double most_kv_bytes = 40e9;
constexpr step_limits most{8192, query_heads, kv_heads, head_dim, mlp};

struct settings {
  std::string device = "cuda:0", tuning;
  bool json = false, kv_fp8 = false;        // 8-bit floats in pages
  prepare_options how;                      // of layers' matrices
  dtype stored = dtype::f32;                // of all of linear's; f32: made up
  double bytes_per_s = 0, flops_per_s = 0;  // 0: measured
  std::vector<std::string> names;           // parts of names; empty: all
};

// One line of the table.
struct row {
  std::string op, at, shape;  // "linear_o", "t8", "N=4096 K=4096"
  double bytes = 0, flops = 0;
  double speed = 1;  // of tensor cores, relative to what 16-bit floats reach
};

class gpu_bench {
 public:
  gpu_bench(device& d, const settings& s)
      : device_(d),
        settings_(s),
        type_(d.traits().activation),
        page_type_(s.kv_fp8 ? dtype::f8_e4m3 : type_),
        element_(static_cast<double>(row_bytes(type_, 1))),
        noise_(d),
        bytes_per_s_(s.bytes_per_s),
        flops_per_s_(s.flops_per_s) {
    d.ops().reserve(most);
    if (bytes_per_s_ == 0) bytes_per_s_ = std::max(3.10e12, reached(1).bytes);
    if (flops_per_s_ == 0) flops_per_s_ = std::max(800e12, reached(8192).flops);
    std::fprintf(stderr, "%s: bounds by %.2f TB/s and %.0f TFLOP/s\n",
                 d.traits().description.c_str(), bytes_per_s_ * 1e-12, flops_per_s_ * 1e-12);
  }

  void run() {
    linear("linear_qkv", qkv_columns, hidden, weight_role::matrix, type_);
    linear("linear_o", hidden, hidden, weight_role::matrix, type_);
    linear("linear_gate_up", 2 * mlp, hidden, weight_role::gate_up, type_);
    linear("linear_down", hidden, mlp, weight_role::matrix, type_);
    linear("linear_head", vocabulary, hidden, weight_role::head, dtype::f32);
    for (const std::int32_t tokens : {1, 64, 256, 8192}) {
      add_norm(tokens);
      rope_store(tokens);
      embed(tokens);
    }
    for (const std::int32_t batch : {1, 8, 32, 128, 256}) {
      for (const std::int32_t context : {128, 512, 1024, 2048, 8192}) decode(batch, context);
    }
    for (const std::int32_t tokens : {512, 2048, 8192}) prefill(tokens);
    for (const std::int32_t rows : {1, 64, 512}) sample(rows);
  }

 private:
  static std::string name_of(const row& r) { return "op_" + r.op + "_" + r.at + "_us"; }

  bool wanted(const row& r) const {
    const std::string name = name_of(r);
    return settings_.names.empty() || std::any_of(settings_.names.begin(), settings_.names.end(),
                                                  [&](const std::string& part) {
                                                    return name.find(part) != std::string::npos;
                                                  });
  }

  void measure(const row& r, int copies, bool recorded, const std::function<void(int)>& op) {
    const double seconds = seconds_of(device_, copies, recorded, op);
    const double by_memory = r.bytes / bytes_per_s_, by_work = r.flops / flops_per_s_ / r.speed;
    const double bound = std::max(by_memory, by_work);
    if (settings_.json) {
      std::printf(
          "{\"workload\": \"%s\", \"value\": %.3f, \"unit\": \"us\", \"bound\": %.3f, "
          "\"bytes\": %.0f, \"flops\": %.0f}\n",
          name_of(r).c_str(), seconds * 1e6, bound * 1e6, r.bytes, r.flops);
    } else {
      const bool work = by_work > by_memory;
      std::printf("%-20s %-10s %-18s %10.2f us %8.1f %-7s  bound %10.2f us  x bound %6.2f\n",
                  r.op.c_str(), r.at.c_str(), r.shape.c_str(), seconds * 1e6,
                  work ? r.flops / seconds * 1e-12 : r.bytes / seconds * 1e-9,
                  work ? "TFLOP/s" : "GB/s", bound * 1e6, seconds / bound);
    }
    std::fflush(stdout);
  }

  // Bytes and operations a second of a large product.
  row reached(std::int64_t tokens) {
    constexpr std::int64_t n = 32768, k = 8192;
    const auto first = made_up(device_, weight_role::matrix, n, k, 3);
    const auto second = made_up(device_, weight_role::matrix, n, k, 4);
    operands memory(device_, noise_);
    linear_args args;
    args.x = memory.noisy(tokens, k);
    args.out = memory.space(type_, tokens, n);
    const double seconds = seconds_of(device_, 2, true, [&](int copy) {
      args.w = copy == 0 ? first.get() : second.get();
      device_.ops().linear(args);
    });
    row r;
    r.bytes = static_cast<double>(n * k + tokens * (n + k)) * element_ / seconds;
    r.flops = 2.0 * static_cast<double>(n * k * tokens) / seconds;
    return r;
  }

  void linear(const std::string& op, std::int64_t n, std::int64_t k, weight_role role,
              dtype out_type) {
    const bool gated = role == weight_role::gate_up;
    const std::int64_t columns = gated ? n / 2 : n;
    const bool fp8 = settings_.how.fp8 && role != weight_role::head;
    const bool packed = quantised(settings_.stored);
    std::vector<std::byte> blocks;
    std::vector<std::unique_ptr<weight>> weights;
    const auto add = [&] {
      if (packed && blocks.empty()) blocks = made_up_blocks(settings_.stored, n, k);
      weights.push_back(
          packed ? of_blocks(device_, role, n, k, settings_.stored, blocks)
                 : made_up(device_, role, n, k, 10 + weights.size(), 1.0F / 4096, settings_.how));
    };
    for (const std::int64_t tokens : {1, 8, 32, 64, 128, 256, 512, 2048, 8192}) {
      row r{op, "t" + std::to_string(tokens), "N=" + std::to_string(n) + " K=" + std::to_string(k)};
      if (!wanted(r)) continue;
      if (weights.empty()) add();
      const auto weight_bytes = static_cast<double>(weights[0]->bytes());
      const int copies = copies_of(weight_bytes);
      while (std::ssize(weights) < copies) add();
      // For weights that are wider than any before.
      if (fp8 || packed) device_.ops().reserve(most);
      operands memory(device_, noise_);
      const tensor x = memory.noisy(copies * tokens, k);
      const bool direct = fp8 && op != "linear_o";
      const tensor ready = direct ? normed(memory, *weights[0], x, copies, tokens) : x;
      const tensor out = memory.space(out_type, copies * tokens, columns);
      r.bytes = weight_bytes + static_cast<double>(tokens * k) * element_ +
                static_cast<double>(row_bytes(out_type, tokens * columns));
      r.flops = 2.0 * static_cast<double>(n * k * tokens);
      r.speed = fp8 ? 2 : 1;
      measure(r, copies, true, [&](int copy) {
        linear_args args;
        args.x = copy_of(direct ? ready : x, copy, tokens);
        args.w = weights[static_cast<std::size_t>(copy)].get();
        if (direct) args.x = device_.ops().input_of(*args.w, args.x, producer::norm);
        args.act = gated ? activation::swiglu : activation::none;
        args.out = copy_of(out, copy, tokens);
        device_.ops().linear(args);
      });
    }
  }

  // Copies of rows in the form that `w` likes, in as much memory as they had.
  tensor normed(operands& memory, const weight& w, const tensor& x, int copies,
                std::int64_t tokens) {
    const auto gain = made_up(device_, weight_role::vector, 1, x.columns(), 5, 1.0F / 64);
    const norm_args norm{norm_kind::rms, gain.get(), nullptr, 1e-5F};
    const tensor out = memory.space(type_, x.rows(), x.columns());
    for (int copy = 0; copy < copies; ++copy) {
      const tensor liked = device_.ops().input_of(w, copy_of(out, copy, tokens), producer::norm);
      device_.ops().add_norm({nullptr, {}, copy_of(x, copy, tokens), &norm, liked});
    }
    device_.synchronize();
    return out;
  }

  static row of_tokens(const char* op, std::int32_t tokens, double bytes, double flops) {
    return {op, "t" + std::to_string(tokens), "H=" + std::to_string(hidden), bytes * tokens,
            flops * tokens};
  }

  void add_norm(std::int32_t tokens) {
    const row r = of_tokens("add_norm", tokens, 4 * hidden * element_, 5 * hidden);
    if (!wanted(r)) return;
    const int copies = copies_of(r.bytes);
    const auto gain = made_up(device_, weight_role::vector, 1, hidden, 5);
    const norm_args norm{norm_kind::rms, gain.get(), nullptr, 1e-5F};
    operands memory(device_, noise_);
    const std::int64_t rows = std::int64_t{copies} * tokens;
    const tensor partial = memory.noisy(rows, hidden), residual = memory.noisy(rows, hidden),
                 normed = memory.space(type_, rows, hidden);
    measure(r, copies, true, [&](int copy) {
      device_.ops().add_norm({nullptr, copy_of(partial, copy, tokens),
                              copy_of(residual, copy, tokens), &norm,
                              copy_of(normed, copy, tokens)});
    });
  }

  // Decoding sequences, or one prompt. Keys need not stand in qkv afterwards, and do not count.
  void rope_store(std::int32_t tokens) {
    const row r =
        of_tokens("rope_store", tokens, 2 * qkv_columns * element_, 3 * (hidden + hidden / 4));
    if (!wanted(r)) return;
    const batch_shape shape =
        tokens > 256 ? batch_shape{1, tokens, tokens} : batch_shape{tokens, 1, 128};
    const int copies = copies_of(r.bytes);
    const paged_case c(device_, noise_, shape, copies, 1, type_);
    measure(r, copies, true, [&](int copy) { device_.ops().rope_store(c.rope(copy)); });
  }

  void embed(std::int32_t tokens) {
    const row r = of_tokens("embed", tokens, 2 * hidden * element_, 0);
    if (!wanted(r)) return;
    const int copies = copies_of(r.bytes);
    const auto table = made_up(device_, weight_role::embedding, vocabulary, hidden, 6);
    operands memory(device_, noise_);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(copies) *
                                  static_cast<std::size_t>(tokens));
    std::mt19937 random(7);
    for (auto& id : ids) id = static_cast<std::int32_t>(random() % vocabulary);
    const tensor list = memory.list(ids);
    const tensor all = view(list.data, dtype::i32, ids.size(), 1);
    const tensor out = memory.space(type_, std::ssize(ids), hidden);
    measure(r, copies, true, [&](int copy) {
      embed_args args;
      args.ids = view(copy_of(all, copy, tokens).data, dtype::i32, tokens);
      args.table = table.get();
      args.out = copy_of(out, copy, tokens);
      device_.ops().embed(args);
    });
  }

  void decode(std::int32_t batch, std::int32_t context) {
    const std::string at = "b" + std::to_string(batch) + "_c" + std::to_string(context);
    attend({"decode", at, heads}, {batch, 1, context}, static_cast<double>(batch) * context);
  }
  void prefill(std::int32_t tokens) {
    attend({"prefill", "t" + std::to_string(tokens), heads}, {1, tokens, tokens},
           0.5 * tokens * (tokens + 1.0));
  }

  // `pairs`: of a query token and a key that it sees.
  void attend(row r, const batch_shape& shape, double pairs) {
    if (!wanted(r)) return;
    const auto stored = static_cast<double>(row_bytes(page_type_, 2 * kv_heads * head_dim));
    r.bytes = stored * shape.sequences * shape.context + element_ * 2 * hidden * shape.tokens();
    r.flops = 4.0 * query_heads * head_dim * pairs;
    const int copies = copies_of(r.bytes), groups = (copies + layers - 1) / layers;
    const double page_bytes = stored * layers * block_size;
    const double pool = page_bytes * static_cast<double>(paged_case::page_count(shape, groups));
    const auto room = std::min(most_kv_bytes, 0.9 * static_cast<double>(device_.free_bytes()));
    if (pool > room) {
      std::fprintf(stderr, "%s: left out, its pages take %.0f GB\n", name_of(r).c_str(),
                   pool * 1e-9);
      return;
    }
    const paged_case c(device_, noise_, shape, copies, groups, page_type_);
    measure(r, copies, true, [&](int copy) { device_.ops().attention(c.attention(copy)); });
  }

  void sample(std::int32_t rows) {
    sampling_params greedy, warm, filtered, reported;
    greedy.temperature = 0;
    warm.temperature = filtered.temperature = reported.temperature = 0.8F;
    filtered.top_p = 0.9F;
    filtered.top_k = 50;
    reported.logprobs = 5;
    const std::vector<std::pair<const char*, sampling_params>> kinds{
        {"sample_greedy", greedy},
        {"sample_temperature", warm},
        {"sample_top_k_top_p", filtered},
        {"sample_logprobs", reported}};
    const double bytes = 4.0 * vocabulary * rows;
    const int copies = copies_of(bytes);
    operands memory(device_, noise_);
    tensor logits;
    for (const auto& [op, params] : kinds) {
      const row r{op, "r" + std::to_string(rows), "V=" + std::to_string(vocabulary), bytes,
                  bytes / 4};
      if (!wanted(r)) continue;
      if (!logits) logits = make_logits(memory, std::int64_t{copies} * rows);
      draw(r, params, rows, copies, logits);
    }
  }

  // As a model makes them, with a deviation of about 2.6.
  tensor make_logits(operands& memory, std::int64_t rows) {
    const auto head = made_up(device_, weight_role::head, vocabulary, hidden, 8, 1.0F / 512);
    operands input(device_, noise_);
    linear_args args;
    args.x = input.noisy(rows, hidden);
    args.w = head.get();
    args.out = memory.space(dtype::f32, rows, vocabulary);
    device_.ops().linear(args);
    device_.synchronize();
    return args.out;
  }

  void draw(const row& r, sampling_params params, std::int32_t rows, int copies,
            const tensor& logits) {
    const auto drawer = device_.ops().make_sampler(static_cast<std::uint32_t>(rows), vocabulary);
    std::vector<sample_row> host;
    std::vector<std::int32_t> slots;
    for (std::int32_t i = 0; i < rows; ++i) {
      const auto slot = static_cast<std::uint32_t>(i);
      params.seed = slot;
      drawer->start(slot, params, {});
      host.push_back({slot, 100, -1});
      slots.push_back(i);
    }
    drawer->commit();
    operands memory(device_, noise_);
    const std::vector<std::int32_t> positions(slots.size(), 100), targets(slots.size(), -1);
    sample_args args;
    args.rows = host;
    args.arrays = {memory.list(slots), memory.list(positions), memory.list(targets)};
    args.shard_rows = std::span(&vocabulary, 1);
    args.drawn = {memory.list(slots), memory.space(dtype::f32, 1, rows),
                  memory.space(dtype::i32, rows, most_top),
                  memory.space(dtype::f32, rows, most_top)};
    measure(r, copies, drawer->simple(host), [&](int copy) {
      args.logits = copy_of(logits, copy, rows);
      drawer->sample(args);
    });
  }

  device& device_;
  const settings& settings_;
  dtype type_, page_type_;
  double element_;  // bytes of an activation
  noise noise_;
  double bytes_per_s_, flops_per_s_;
};

settings parse(int argc, char** argv) {
  settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      if (i + 1 == argc) die(flag + " needs a value");
      return std::string(argv[++i]);
    };
    if (flag == "--json") s.json = true;
    else if (flag == "--fp8") s.how.fp8 = true;
    else if (flag == "--kv-fp8") s.kv_fp8 = true;
    else if (flag == "--packed") s.stored = quantised_type(value());
    else if (flag == "--device") s.device = value();
    else if (flag == "--tuning") s.tuning = value();
    else if (flag == "--bandwidth") s.bytes_per_s = std::atof(value().c_str()) * 1e12;
    else if (flag == "--matmul") s.flops_per_s = std::atof(value().c_str()) * 1e12;
    else if (flag.starts_with("--")) die("no flag " + flag);
    else s.names.push_back(flag);
  }
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  const settings chosen = parse(argc, argv);
  device_options options;
  options.tuning_directory = chosen.tuning;
  options.cpu_threads = 2;
  auto opened = open_device(chosen.device, options);
  if (!opened) die(opened.error().message);
  try {
    gpu_bench(**opened, chosen).run();
  } catch (const device_error& e) {
    die(e.what());
  }
}
