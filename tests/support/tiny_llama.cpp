// SPDX-License-Identifier: Apache-2.0
// Random weights whose stored values are exactly known, and the forward pass over them, position by
// position as the papers write it.
#include "tests/support/tiny_llama.hpp"

#include "tests/support/gguf_writer.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>

namespace dinfer::tests {
namespace {

constexpr double rope_base = 10000.0;
constexpr double epsilon = 1e-5;

using bytes = std::vector<std::byte>;

void put(bytes& to, std::uint64_t value, int count) {
  for (int i = 0; i < count; ++i) to.push_back(static_cast<std::byte>(value >> (8 * i)));
}

// 2^exponent as IEEE half precision.
std::uint64_t half_power(int exponent) { return static_cast<std::uint64_t>(exponent + 15) << 10; }

// Values and the stored bytes that mean exactly them, a row-major matrix of `count` elements.
struct stored_values {
  std::vector<double> values;
  bytes data;
};

stored_values random_f32(std::size_t count, double spread, std::mt19937_64& random) {
  stored_values out;
  std::normal_distribution<float> normal(0.0F, static_cast<float>(spread));
  for (std::size_t i = 0; i < count; ++i) {
    const float v = normal(random);
    std::uint32_t raw = 0;
    std::memcpy(&raw, &v, sizeof v);
    out.values.push_back(v);
    put(out.data, raw, 4);
  }
  return out;
}

// Blocks of 32: scale, then signed bytes.
stored_values random_q8_0(std::size_t count, std::mt19937_64& random) {
  stored_values out;
  for (std::size_t block = 0; block < count / 32; ++block) {
    const int exponent = -9 - static_cast<int>(random() % 2);
    put(out.data, half_power(exponent), 2);
    for (int i = 0; i < 32; ++i) {
      const int q = static_cast<int>(random() % 255) - 127;
      put(out.data, static_cast<std::uint8_t>(q), 1);
      out.values.push_back(std::ldexp(q, exponent));
    }
  }
  return out;
}

// Blocks of 32: scale, minimum, then nibbles: the low ones are elements 0..15.
stored_values random_q4_1(std::size_t count, std::mt19937_64& random) {
  stored_values out;
  for (std::size_t block = 0; block < count / 32; ++block) {
    const int scale = -5 - static_cast<int>(random() % 2), minimum = scale + 3;
    put(out.data, half_power(scale), 2);
    put(out.data, half_power(minimum) | 0x8000U, 2);  // negative
    std::array<double, 32> values{};
    for (std::size_t i = 0; i < 16; ++i) {
      const auto low = static_cast<int>(random() % 16), high = static_cast<int>(random() % 16);
      put(out.data, static_cast<std::uint64_t>(low | high << 4), 1);
      values[i] = std::ldexp(low, scale) - std::ldexp(1, minimum);
      values[i + 16] = std::ldexp(high, scale) - std::ldexp(1, minimum);
    }
    out.values.insert(out.values.end(), values.begin(), values.end());
  }
  return out;
}

// Super-blocks of 256: scale, minimum, eight 6-bit scales and minima in twelve bytes, then nibbles:
// of each 64 elements the first half in the low ones.
stored_values random_q4_k(std::size_t count, std::mt19937_64& random) {
  stored_values out;
  for (std::size_t block = 0; block < count / 256; ++block) {
    const int scale = -10 - static_cast<int>(random() % 2), minimum = scale + 3;
    put(out.data, half_power(scale), 2);
    put(out.data, half_power(minimum), 2);
    std::array<unsigned, 8> scales{}, minima{};
    std::array<unsigned, 12> packed{};
    for (std::size_t j = 0; j < 8; ++j) {
      scales[j] = 20 + static_cast<unsigned>(random() % 44);
      minima[j] = scales[j];
      packed[j < 4 ? j : j + 4] |= j < 4 ? scales[j] : (scales[j] & 15) | (minima[j] & 15) << 4;
      if (j < 4) packed[j + 4] |= minima[j];
      else packed[j - 4] |= scales[j] >> 4 << 6, packed[j] |= minima[j] >> 4 << 6;
    }
    for (const unsigned byte : packed) put(out.data, byte, 1);
    std::array<double, 256> values{};
    for (std::size_t i = 0; i < 128; ++i) {
      const auto low = static_cast<int>(random() % 16), high = static_cast<int>(random() % 16);
      put(out.data, static_cast<std::uint64_t>(low | high << 4), 1);
      const std::size_t first = i / 32 * 64 + i % 32;
      const auto value = [&](int q, std::size_t at) {
        return std::ldexp(q * static_cast<int>(scales[at / 32]), scale) -
               std::ldexp(static_cast<int>(minima[at / 32]), minimum);
      };
      values[first] = value(low, first);
      values[first + 32] = value(high, first + 32);
    }
    out.values.insert(out.values.end(), values.begin(), values.end());
  }
  return out;
}

std::string fresh_path() {
  static std::atomic<int> counter{0};
  const auto name = "tiny_llama_" + std::to_string(::getpid()) + "_" + std::to_string(counter++);
  return (std::filesystem::temp_directory_path() / (name + ".gguf")).string();
}

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

}  // namespace

std::vector<double> log_softmax(std::span<const double> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double v : logits) sum += std::exp(v - top);
  std::vector<double> out;
  for (const double v : logits) out.push_back(v - top - std::log(sum));
  return out;
}

tiny_llama::tiny_llama(const tiny_llama_options& options) : options_(options), path_(fresh_path()) {
  std::mt19937_64 random(options.seed);
  const int query = options.heads * options.head_dim, kv = options.kv_heads * options.head_dim;
  gguf_writer file;
  file.set("general.architecture", "llama").set("general.name", "tiny");
  const auto number = [&](const char* key, int value) {
    file.set(std::string("llama.") + key, static_cast<std::uint32_t>(value));
  };
  number("block_count", options.layers);
  number("embedding_length", options.hidden);
  number("feed_forward_length", options.mlp);
  number("attention.head_count", options.heads);
  number("attention.head_count_kv", options.kv_heads);
  number("attention.key_length", options.head_dim);
  number("attention.value_length", options.head_dim);
  number("rope.dimension_count", options.head_dim);
  number("context_length", options.positions);
  number("vocab_size", options.vocabulary);
  file.set("llama.rope.freq_base", static_cast<float>(rope_base));
  file.set("llama.attention.layer_norm_rms_epsilon", static_cast<float>(epsilon));
  file.set("tokenizer.ggml.eos_token_id", std::uint32_t{0});
  file.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "smollm");
  // "<end>", then a letter each: token 1 is "!", 2 is '"', and so on.
  std::vector<std::string> words{"<end>"};
  for (int i = 1; i < options.vocabulary; ++i)
    words.push_back(i < 95 ? std::string(1, static_cast<char>('!' + i - 1))
                           : "word" + std::to_string(i));
  std::vector<std::int32_t> kinds(words.size(), 1);
  kinds[0] = 3;  // control
  file.set("tokenizer.ggml.tokens", words).set("tokenizer.ggml.token_type", kinds);
  file.set("tokenizer.ggml.merges", std::vector<std::string>{});

  const auto add = [&](const std::string& name, int rows, int columns, kernels::dtype type,
                       double spread, double offset) {
    const auto count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    stored_values v = type == kernels::dtype::q8_0   ? random_q8_0(count, random)
                      : type == kernels::dtype::q4_1 ? random_q4_1(count, random)
                      : type == kernels::dtype::q4_k ? random_q4_k(count, random)
                                                     : random_f32(count, spread, random);
    if (offset != 0) {
      bytes shifted;
      for (double& x : v.values) {
        const auto f = static_cast<float>(x + offset);
        std::uint32_t raw = 0;
        std::memcpy(&raw, &f, sizeof f);
        put(shifted, raw, 4);
        x = f;
      }
      v.data = shifted;
    }
    const bool vector = rows == 1;
    file.tensor(
        name, type,
        vector ? std::vector<std::int64_t>{columns} : std::vector<std::int64_t>{rows, columns},
        v.data);
    weights_[name] = {rows, columns, std::move(v.values)};
  };
  const auto gain = [&](const std::string& name) {
    add(name, 1, options.hidden, kernels::dtype::f32, 0.2, 1.0);
  };
  add("token_embd.weight", options.vocabulary, options.hidden, kernels::dtype::f32, 0.5, 0);
  for (int i = 0; i < options.layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    const auto matrix_of = [&](const char* name, int rows, int columns) {
      add(layer + name, rows, columns, options.matrices, 1.0 / std::sqrt(columns), 0);
    };
    gain(layer + "attn_norm.weight");
    matrix_of("attn_q.weight", query, options.hidden);
    matrix_of("attn_k.weight", kv, options.hidden);
    matrix_of("attn_v.weight", kv, options.hidden);
    matrix_of("attn_output.weight", options.hidden, query);
    gain(layer + "ffn_norm.weight");
    matrix_of("ffn_gate.weight", options.mlp, options.hidden);
    matrix_of("ffn_up.weight", options.mlp, options.hidden);
    matrix_of("ffn_down.weight", options.hidden, options.mlp);
  }
  gain("output_norm.weight");
  if (!options.tied)
    add("output.weight", options.vocabulary, options.hidden, kernels::dtype::f32, 0.5, 0);
  file.write(path_);
}

tiny_llama::~tiny_llama() { std::filesystem::remove(path_); }

std::vector<double> tiny_llama::matrix::times(std::span<const double> x) const {
  std::vector<double> out;
  for (int r = 0; r < rows; ++r) {
    const auto width = static_cast<std::size_t>(columns);
    out.push_back(dot(std::span(values).subspan(static_cast<std::size_t>(r) * width, width), x));
  }
  return out;
}

std::vector<double> tiny_llama::normed(const std::string& gain, std::span<const double> x) const {
  const double scale = 1 / std::sqrt(dot(x, x) / static_cast<double>(x.size()) + epsilon);
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i)
    out.push_back(x[i] * scale * weights_.at(gain).values[i]);
  return out;
}

// Pairs of neighbours turn, as GGUF orders them.
void tiny_llama::rotate(std::span<double> head, std::size_t position) const {
  for (std::size_t i = 0; i < head.size(); i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(head.size());
    const double angle = static_cast<double>(position) * std::pow(rope_base, -exponent);
    const double a = head[i], b = head[i + 1];
    head[i] = a * std::cos(angle) - b * std::sin(angle);
    head[i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
}

void tiny_llama::attend(const std::string& layer,
                        std::vector<std::vector<double>>& residual) const {
  const auto dim = static_cast<std::size_t>(options_.head_dim);
  const auto heads = static_cast<std::size_t>(options_.heads);
  const std::size_t group = heads / static_cast<std::size_t>(options_.kv_heads);
  std::vector<std::vector<double>> keys, values;
  for (std::size_t t = 0; t < residual.size(); ++t) {
    const auto x = normed(layer + "attn_norm.weight", residual[t]);
    auto q = weights_.at(layer + "attn_q.weight").times(x);
    keys.push_back(weights_.at(layer + "attn_k.weight").times(x));
    values.push_back(weights_.at(layer + "attn_v.weight").times(x));
    for (std::size_t h = 0; h < heads; ++h) rotate(std::span(q).subspan(h * dim, dim), t);
    for (std::size_t h = 0; h < heads / group; ++h)
      rotate(std::span(keys[t]).subspan(h * dim, dim), t);
    std::vector<double> attended(heads * dim, 0.0);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t kv = h / group * dim;
      std::vector<double> scores;
      for (std::size_t s = 0; s <= t; ++s)
        scores.push_back(
            dot(std::span(q).subspan(h * dim, dim), std::span(keys[s]).subspan(kv, dim)) /
            std::sqrt(static_cast<double>(dim)));
      const auto weights = log_softmax(scores);
      for (std::size_t s = 0; s <= t; ++s)
        for (std::size_t d = 0; d < dim; ++d)
          attended[h * dim + d] += std::exp(weights[s]) * values[s][kv + d];
    }
    const auto out = weights_.at(layer + "attn_output.weight").times(attended);
    for (std::size_t i = 0; i < out.size(); ++i) residual[t][i] += out[i];
  }
}

void tiny_llama::widen(const std::string& layer, std::vector<std::vector<double>>& residual) const {
  for (auto& row : residual) {
    const auto x = normed(layer + "ffn_norm.weight", row);
    auto gate = weights_.at(layer + "ffn_gate.weight").times(x);
    const auto up = weights_.at(layer + "ffn_up.weight").times(x);
    for (std::size_t i = 0; i < gate.size(); ++i)
      gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    const auto out = weights_.at(layer + "ffn_down.weight").times(gate);
    for (std::size_t i = 0; i < out.size(); ++i) row[i] += out[i];
  }
}

std::vector<std::vector<double>> tiny_llama::logits(std::span<const token_id> tokens) const {
  const auto& embedding = weights_.at("token_embd.weight");
  const auto width = static_cast<std::size_t>(options_.hidden);
  std::vector<std::vector<double>> residual;
  for (const token_id t : tokens) {
    const auto row =
        std::span(embedding.values).subspan(static_cast<std::size_t>(t) * width, width);
    residual.emplace_back(row.begin(), row.end());
  }
  for (int i = 0; i < options_.layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    attend(layer, residual);
    widen(layer, residual);
  }
  const auto& head = options_.tied ? embedding : weights_.at("output.weight");
  std::vector<std::vector<double>> out;
  for (const auto& row : residual) out.push_back(head.times(normed("output_norm.weight", row)));
  return out;
}

namespace {

token_id best(const std::vector<double>& logits) {
  return static_cast<token_id>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

bool tiny_llama::greedy_after(const std::vector<token_id>& prompt,
                              const std::vector<token_id>& output) const {
  std::vector<token_id> all = prompt;
  all.insert(all.end(), output.begin(), output.end());
  const auto rows = logits(all);
  for (std::size_t i = 0; i < output.size(); ++i) {
    if (best(rows[prompt.size() + i - 1]) != output[i]) return false;
  }
  return true;
}

std::vector<token_id> tiny_llama::greedy(std::vector<token_id> tokens, int count) const {
  for (int i = 0; i < count; ++i) tokens.push_back(best(logits(tokens).back()));
  return tokens;
}

}  // namespace dinfer::tests
