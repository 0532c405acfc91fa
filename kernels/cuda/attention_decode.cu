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

void attend_decode(const attention_shape& shape, const decode_plan& plan, attention_types types,
                   std::int32_t multiprocessors, cudaStream_t stream) {
  if (shape.decodes == 0) return;
  const int multiple = types.f8_pages() ? 16 : 8;
  if (shape.head_dim % multiple != 0 || shape.head_dim > 256) {
    throw device_error(errc::internal, "attention: no kernel for heads of " +
                                           std::to_string(shape.head_dim) + " elements");
  }
  const bool f8 = types.f8_pages(), same = types.pages == types.activations;
  if (types.activations == dtype::bf16 && (f8 || same)) {
    const auto run = f8 ? attend_decode_bf16_f8 : attend_decode_bf16;
    return run(shape, plan, multiprocessors, stream);
  }
  if (types.activations == dtype::f16 && (f8 || same)) {
    const auto run = f8 ? attend_decode_f16_f8 : attend_decode_f16;
    return run(shape, plan, multiprocessors, stream);
  }
  if (types.activations == dtype::f32 && same) {
    return attend<decode_plain<float, float>>(shape, plan, multiprocessors, stream);
  }
  throw device_error(errc::internal, "attention: no kernel for these element types");
}

}  // namespace dinfer::kernels::cuda
