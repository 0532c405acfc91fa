// SPDX-License-Identifier: Apache-2.0
// Attention of sequences with one query token each over paged keys and values: the way in, and f32.
#include "kernels/cuda/decode_kernel.cuh"

#include <string>

namespace dinfer::kernels::cuda {

decode_space decode_space_for(std::int32_t query_heads, std::int32_t kv_heads,
                              std::int32_t head_dim, std::int32_t multiprocessors) {
  const std::int64_t blocks = std::int64_t{multiprocessors} * most_decode_blocks(head_dim);
  const int group = query_heads / kv_heads;
  const int rows = std::clamp(query_heads % kv_heads == 0 ? group : 2 * (group + 1), 1, 16);
  return {merge_bytes(blocks, rows, head_dim),
          static_cast<std::size_t>(blocks) * sizeof(std::int32_t)};
}

void attend_decode(const attention_shape& shape, const decode_plan& plan, dtype type,
                   std::int32_t multiprocessors, cudaStream_t stream) {
  if (shape.decodes == 0) return;
  if (shape.head_dim % 8 != 0 || shape.head_dim > 256) {
    throw device_error(errc::internal, "attention: no kernel for heads of " +
                                           std::to_string(shape.head_dim) + " elements");
  }
  switch (type) {
    case dtype::f32:
      return attend<decode_plain<float>>(shape, plan, multiprocessors, stream);
    case dtype::bf16:
      return attend_decode_bf16(shape, plan, multiprocessors, stream);
    case dtype::f16:
      return attend_decode_f16(shape, plan, multiprocessors, stream);
    default:
      throw device_error(errc::internal, "attention: no kernel for this element type");
  }
}

}  // namespace dinfer::kernels::cuda
