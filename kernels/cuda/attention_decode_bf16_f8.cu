// SPDX-License-Identifier: Apache-2.0
// attend_decode in bf16 over pages of 8-bit floats.
#include "kernels/cuda/decode_kernel.cuh"

namespace dinfer::kernels::cuda {

void attend_decode_bf16_f8(const attention_shape& shape, const decode_plan& plan,
                           std::int32_t multiprocessors, cudaStream_t stream) {
  attend_halves<bf16, f8>(shape, plan, multiprocessors, stream);
}

}  // namespace dinfer::kernels::cuda
