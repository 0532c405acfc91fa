// SPDX-License-Identifier: Apache-2.0
// Positions and the KV pages: rope_store and attention of cpu_ops.
#include "dinfer/error.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/ops.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace dinfer::kernels::cpu {

namespace {

// Where keys (part 0) or values (part 1) of one KV head of one page lie: [block_size][head_dim].
std::byte* matrix(const kv_pages& pages, std::int64_t page, std::int32_t layer, int part,
                  std::int64_t head) {
  const auto elements = page * pages.page_elements() + layer * pages.layer_elements() +
                        (part * pages.kv_heads + head) * pages.block_size * pages.head_dim;
  return static_cast<std::byte*>(pages.base) + row_bytes(pages.type, elements);
}

void store_line(dtype type, const float* from, std::int32_t n, std::byte* to) {
  if (type == dtype::f32) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
    return;
  }
  for (std::int32_t i = 0; i < n; ++i) {
    const std::uint16_t h = type == dtype::f16 ? to_f16(from[i]) : to_bf16(from[i]);
    std::memcpy(to + 2 * i, &h, sizeof h);
  }
}

// Turns the pairs of one head; sines[2 i], sines[2 i + 1]: cosine and sine of pair i.
void rotate(const rope_args& rope, const float* sines, float* head) {
  const std::int32_t half = rope.rotary / 2;
  const bool apart = rope.style == rope_style::half;
  for (std::int32_t i = 0; i < half; ++i) {
    float& a = head[apart ? i : 2 * i];
    float& b = head[apart ? i + half : 2 * i + 1];
    const float cosine = sines[2 * i], sine = sines[2 * i + 1];
    const float turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
  }
}

void check_pages(const kv_pages& pages, std::int32_t layer, std::int32_t head_dim) {
  DINFER_ASSERT(pages.base != nullptr && layer >= 0 && layer < pages.layers);
  DINFER_ASSERT(pages.type == dtype::f32 || pages.type == dtype::f16 || pages.type == dtype::bf16);
  DINFER_ASSERT(pages.head_dim == head_dim && pages.block_size > 0);
}

const std::int32_t* blocks_of(const step_batch& batch, std::int64_t sequence) {
  const std::int64_t row = batch.table_rows.as<std::int32_t>()[sequence];
  return batch.block_table.as<std::int32_t>() + row * batch.block_table.columns();
}

bool padding(const step_batch& batch, std::int32_t sequence) {
  return batch.context.as<std::int32_t>()[sequence] == 0;
}

void clear_padding(const attention_args& args) {
  const auto* begins = args.batch->query_begin.as<std::int32_t>();
  const auto width = args.out.columns();
  for (std::int32_t s = 0; s < args.batch->sequences; ++s) {
    if (!padding(*args.batch, s)) continue;
    std::fill_n(args.out.as<float>() + begins[s] * width, (begins[s + 1] - begins[s]) * width,
                0.0F);
  }
}

// A run of query heads that read one KV head, and some tokens of one sequence.
struct piece {
  std::int32_t sequence = 0, first_head = 0, heads = 0, first_token = 0, tokens = 0;
};

std::vector<piece> pieces_of(const attention_args& args) {
  std::vector<piece> pieces;
  const auto* begins = args.batch->query_begin.as<std::int32_t>();
  for (std::int32_t head = 0; head < args.query_heads;) {
    std::int32_t end = head + 1;
    const auto at = [&](std::int32_t h) { return args.kv_of_query[static_cast<std::size_t>(h)]; };
    while (end < args.query_heads && at(end) == at(head) && end - head < attention_rows) ++end;
    const std::int32_t step = std::max(1, attention_rows / (end - head));
    for (std::int32_t s = 0; s < args.batch->sequences; ++s) {
      if (padding(*args.batch, s)) continue;
      for (std::int32_t t = begins[s]; t < begins[s + 1]; t += step) {
        pieces.push_back({s, head, end - head, t, std::min(step, begins[s + 1] - t)});
      }
    }
    head = end;
  }
  return pieces;
}

}  // namespace

void cpu_ops::rope_store(const rope_store_args& args) {
  const auto& batch = *args.batch;
  const auto& pages = args.pages;
  const auto dim = args.head_dim;
  const auto half = args.rope.style == rope_style::none ? 0 : args.rope.rotary / 2;
  const auto width = static_cast<std::int64_t>(args.query_heads + 2 * args.kv_heads) * dim;
  check_pages(pages, args.layer, dim);
  DINFER_ASSERT(is_f32(args.qkv) && args.qkv.columns() == width && pages.kv_heads == args.kv_heads);
  DINFER_ASSERT(2 * half <= dim);
  pool_.reserve_scratch(static_cast<std::size_t>(2 * half + 1));
  constexpr std::int32_t chunk_rows = 8;
  pool_.run(
      (batch.tokens + chunk_rows - 1) / chunk_rows, [&](std::int64_t c, std::uint32_t thread) {
        float* sines = pool_.scratch(thread);
        const auto end = std::min<std::int64_t>(batch.tokens, (c + 1) * chunk_rows);
        for (auto t = c * chunk_rows; t < end; ++t) {
          const auto position = batch.positions.as<std::int32_t>()[t];
          for (std::int32_t i = 0; i < half; ++i) {
            const float angle =
                static_cast<float>(position) * args.rope.inverse_frequencies.as<float>()[i];
            sines[2 * i] = std::cos(angle);
            sines[2 * i + 1] = std::sin(angle);
          }
          float* row = args.qkv.as<float>() + t * width;
          if (half > 0) {
            for (std::int32_t h = 0; h < args.query_heads + args.kv_heads; ++h) {
              rotate(args.rope, sines, row + static_cast<std::int64_t>(h) * dim);
            }
          }
          const auto* blocks = blocks_of(batch, batch.token_sequence.as<std::int32_t>()[t]);
          const auto page = blocks[position / pages.block_size];
          const auto at = row_bytes(pages.type, std::int64_t{position % pages.block_size} * dim);
          const float* keys = row + static_cast<std::int64_t>(args.query_heads) * dim;
          for (std::int32_t h = 0; h < args.kv_heads; ++h) {
            const auto from = static_cast<std::int64_t>(h) * dim;
            const auto values = from + static_cast<std::int64_t>(args.kv_heads) * dim;
            store_line(pages.type, keys + from, dim, matrix(pages, page, args.layer, 0, h) + at);
            store_line(pages.type, keys + values, dim, matrix(pages, page, args.layer, 1, h) + at);
          }
        }
      });
}

void cpu_ops::attention(const attention_args& args) {
  const auto& batch = *args.batch;
  const auto& pages = args.pages;
  const auto dim = args.head_dim;
  const auto q_stride = args.qkv.columns();
  const auto out_stride = static_cast<std::int64_t>(args.query_heads) * dim;
  check_pages(pages, args.layer, dim);
  DINFER_ASSERT(is_f32(args.qkv) && is_f32(args.out) && args.out.columns() == out_stride);
  DINFER_ASSERT(args.kv_of_query.size() == static_cast<std::size_t>(args.query_heads));
  clear_padding(args);
  const auto pieces = pieces_of(args);
  pool_.reserve_scratch(attention_scratch(dim));
  pool_.run(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i, std::uint32_t thread) {
    const auto& p = pieces[static_cast<std::size_t>(i)];
    const auto kv_head = args.kv_of_query[static_cast<std::size_t>(p.first_head)];
    const auto head_at = static_cast<std::int64_t>(p.first_head) * dim;
    attention_job job;
    job.q = args.qkv.as<float>() + p.first_token * q_stride + head_at;
    job.q_stride = q_stride;
    job.out = args.out.as<float>() + p.first_token * out_stride + head_at;
    job.out_stride = out_stride;
    job.tokens = p.tokens;
    job.heads = p.heads;
    job.head_dim = dim;
    job.first_position = batch.positions.as<std::int32_t>()[p.first_token];
    job.window = args.window;
    job.scale = args.scale;
    job.blocks = blocks_of(batch, p.sequence);
    job.block_size = pages.block_size;
    job.keys = matrix(pages, 0, args.layer, 0, kv_head);
    job.values = matrix(pages, 0, args.layer, 1, kv_head);
    job.page_bytes = row_bytes(pages.type, pages.page_elements());
    job.type = pages.type;
    kernels_.attention(job, pool_.scratch(thread));
  });
}

}  // namespace dinfer::kernels::cpu
