// SPDX-License-Identifier: Apache-2.0
// Attention over the KV pages: pieces of it for the thread pool.
#include "dinfer/error.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/pages.hpp"

#include <algorithm>
#include <vector>

namespace dinfer::kernels::cpu {

namespace {

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
