// SPDX-License-Identifier: Apache-2.0
// Where keys and values lie in the pages of a CPU's cache. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/ops.hpp"

#include <cstddef>
#include <cstdint>

namespace dinfer::kernels::cpu {

// Where keys (part 0) or values (part 1) of one KV head of one page lie: [block_size][head_dim].
inline std::byte* matrix(const kv_pages& pages, std::int64_t page, std::int32_t layer, int part,
                         std::int64_t head) {
  const auto elements = page * pages.page_elements() + layer * pages.layer_elements() +
                        (part * pages.kv_heads + head) * pages.block_size * pages.head_dim;
  return static_cast<std::byte*>(pages.base) + row_bytes(pages.type, elements);
}

inline void check_pages(const kv_pages& pages, std::int32_t layer, std::int32_t head_dim) {
  DINFER_ASSERT(pages.base != nullptr && layer >= 0 && layer < pages.layers);
  DINFER_ASSERT(pages.type == dtype::f32 || pages.type == dtype::f16 || pages.type == dtype::bf16);
  DINFER_ASSERT(pages.head_dim == head_dim && pages.block_size > 0);
}

inline const std::int32_t* blocks_of(const step_batch& batch, std::int64_t sequence) {
  const std::int64_t row = batch.table_rows.as<std::int32_t>()[sequence];
  return batch.block_table.as<std::int32_t>() + row * batch.block_table.columns();
}

}  // namespace dinfer::kernels::cpu
