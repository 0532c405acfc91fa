// SPDX-License-Identifier: Apache-2.0
// Sequences with keys and values in pages, as bench_gpu_ops gives them to rope_store and attention:
// the heads of Llama-3.1-8B. Thread: the device's own.
#pragma once

#include "bench/gpu_bench.hpp"

#include <numeric>
#include <random>
#include <span>

namespace dinfer::bench {

inline constexpr std::int64_t hidden = 4096;
inline constexpr std::int32_t query_heads = 32, kv_heads = 8, head_dim = 128, layers = 32,
                              block_size = 32;
inline constexpr std::int64_t qkv_columns = (query_heads + 2 * kv_heads) * head_dim;

// `queries` tokens each, the last of `context` keys.
struct batch_shape {
  std::int32_t sequences = 0, queries = 0, context = 0;

  std::int32_t tokens() const { return sequences * queries; }
  std::int32_t blocks() const { return (context + block_size - 1) / block_size; }
};

inline kernels::step_batch make_batch(operands& memory, const batch_shape& s,
                                      std::span<const std::int32_t> blocks) {
  std::vector<std::int32_t> positions, owners, begin{0},
      rows(static_cast<std::size_t>(s.sequences));
  for (std::int32_t i = 0; i < s.sequences; ++i) {
    for (std::int32_t q = 0; q < s.queries; ++q) {
      positions.push_back(s.context - s.queries + q);
      owners.push_back(i);
    }
    begin.push_back(static_cast<std::int32_t>(positions.size()));
  }
  std::iota(rows.begin(), rows.end(), 0);
  kernels::step_batch batch;
  batch.tokens = s.tokens();
  batch.sequences = s.sequences;
  batch.decodes = s.queries == 1 ? s.sequences : 0;
  batch.positions = memory.list(positions);
  batch.token_sequence = memory.list(owners);
  batch.query_begin = memory.list(begin);
  batch.context = memory.list(std::vector<std::int32_t>(rows.size(), s.context));
  batch.table_rows = memory.list(rows);
  const auto table = memory.list(std::vector<std::int32_t>(blocks.begin(), blocks.end()));
  batch.block_table = kernels::view(table.data, kernels::dtype::i32, s.sequences, s.blocks());
  return batch;
}

// Sequences in the pages of a model of 32 layers, anywhere in the pool. Copies of an operation take
// layer after layer, then `groups` other sets of sequences.
class paged_case {
 public:
  paged_case(kernels::device& d, noise& numbers, const batch_shape& shape, int copies, int groups,
             kernels::dtype page_type)
      : memory_(d, numbers), shape_(shape) {
    const auto type = d.traits().activation;
    pages_ = {nullptr,    page_type, page_count(shape, groups), layers, kv_heads,
              block_size, head_dim};
    pages_.base =
        page_type == type ? memory_.noisy(pages_.pages, pages_.page_elements()).data : noisy_f8(d);
    std::vector<std::int32_t> order(static_cast<std::size_t>(pages_.pages) - 1);
    std::iota(order.begin(), order.end(), 1);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    const auto needed = static_cast<std::size_t>(shape.sequences * shape.blocks());
    for (std::size_t g = 0; g < static_cast<std::size_t>(groups); ++g) {
      batches_.push_back(make_batch(memory_, shape, std::span(order).subspan(g * needed, needed)));
    }
    qkv_ = memory_.noisy(std::int64_t{copies} * shape.tokens(), qkv_columns);
    out_ = memory_.space(type, std::int64_t{copies} * shape.tokens(), hidden);
    std::vector<float> frequencies;
    for (int i = 0; i < head_dim; i += 2) {
      frequencies.push_back(std::pow(500000.0F, -static_cast<float>(i) / head_dim));
    }
    frequencies_ = memory_.list(frequencies, kernels::dtype::f32);
    for (std::int32_t h = 0; h < query_heads; ++h) {
      map_.push_back(h / (query_heads / kv_heads));
    }
  }

  static std::int64_t page_count(const batch_shape& shape, int groups) {
    return 1 + std::int64_t{groups} * shape.sequences * shape.blocks();
  }

  kernels::rope_store_args rope(int copy) const {
    kernels::rope_store_args args;
    args.qkv = copy_of(qkv_, copy, shape_.tokens());
    args.query_heads = query_heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.rope = {kernels::rope_style::half, head_dim, frequencies_};
    args.batch = &batch_of(copy);
    args.pages = pages_;
    args.layer = copy % layers;
    return args;
  }

  kernels::attention_args attention(int copy) const {
    kernels::attention_args args;
    args.qkv = copy_of(qkv_, copy, shape_.tokens());
    args.query_heads = query_heads;
    args.head_dim = head_dim;
    args.kv_of_query = map_;
    args.scale = 1 / std::sqrt(static_cast<float>(head_dim));
    args.batch = &batch_of(copy);
    args.pages = pages_;
    args.layer = copy % layers;
    args.out = copy_of(out_, copy, shape_.tokens());
    return args;
  }

 private:
  // Numbers of 2^-4 to 0.5 of either sign, the same ones again and again.
  void* noisy_f8(kernels::device& d) {
    std::vector<std::uint8_t> codes(1 << 24);
    std::mt19937 random(9);
    for (auto& c : codes) {
      const auto bits = random();
      c = static_cast<std::uint8_t>(0x18 + bits % 24 + (bits >> 24 & 0x80));
    }
    const auto all = memory_.space(pages_.type, pages_.pages, pages_.page_elements());
    for (std::int64_t at = 0; at < all.bytes(); at += std::ssize(codes)) {
      const auto some = std::min<std::int64_t>(std::ssize(codes), all.bytes() - at);
      d.upload(all.as<std::byte>() + at, codes.data(), static_cast<std::size_t>(some));
    }
    return all.data;
  }

  const kernels::step_batch& batch_of(int copy) const {
    return batches_[static_cast<std::size_t>(copy / layers) % batches_.size()];
  }

  operands memory_;
  batch_shape shape_;
  kernels::kv_pages pages_;
  std::vector<kernels::step_batch> batches_;
  kernels::tensor qkv_, out_, frequencies_;
  std::vector<std::int32_t> map_;
};

}  // namespace dinfer::bench
