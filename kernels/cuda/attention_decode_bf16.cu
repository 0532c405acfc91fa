// SPDX-License-Identifier: Apache-2.0
// attend_decode in bf16.
#include "kernels/cuda/decode_kernel.cuh"

namespace dinfer::kernels::cuda {

void attend_decode_bf16(const attention_shape& shape, const decode_plan& plan,
                        std::int32_t multiprocessors, cudaStream_t stream) {
  attend_halves<bf16, bf16>(shape, plan, multiprocessors, stream);
}

}  // namespace dinfer::kernels::cuda
