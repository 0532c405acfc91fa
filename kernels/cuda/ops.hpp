// SPDX-License-Identifier: Apache-2.0
// The operations of kernels/ops.hpp on a GPU: checks, then one or two kernels on the device's
// stream. Thread: the device's own.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/gemm.hpp"
#include "kernels/cuda/weights.hpp"
#include "kernels/ops.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace dinfer::kernels::cuda {

class cuda_ops final : public ops {
 public:
  cuda_ops(device& owner, cudaStream_t stream, int index, const cudaDeviceProp& gpu,
           const device_options& options);

  std::uint64_t reserve(const step_limits& limits) override;
  std::unique_ptr<weight> prepare(std::span<const weight_slice> slices, weight_role role,
                                  const prepare_options& options) override;
  tensor input_of(const weight& w, tensor x, producer from) const override;
  void embed(const embed_args& args) override;
  void add_norm(const add_norm_args& args) override;
  void linear(const linear_args& args) override;
  void rope_store(const rope_store_args& args) override;
  void attention(const attention_args& args) override;
  void gather_rows(tensor in, tensor rows, tensor out) override;
  void put_entries(tensor table, tensor entries) override;
  std::unique_ptr<sampler> make_sampler(std::uint32_t slots, std::int64_t vocabulary) override;

  // Until every weight of prepare() is in its place. Throws what kept one from it.
  void finish_weights();

 private:
  tensor quantised(const tensor& x);
  product product_of(const linear_args& args, const cuda_weight& w, const tensor& out);
  bool reads_packed(const cuda_weight& w, std::int64_t rows) const noexcept;
  void multiply(const linear_args& args, const cuda_weight& w, const tensor& out);
  bool multiply_swiglu(const linear_args& args, const cuda_weight& w, const tensor& both);
  void multiply_unpacked(const tensor& x, const cuda_weight& w, const tensor& out);

  device& device_;
  cudaStream_t stream_;
  int multiprocessors_;
  std::size_t shared_bytes_;  // that a block may have
  bool hopper_;
  dtype activation_;
  bool exact_;  // rows must not know of each other
  buffer gemm_space_;
  gemm gemm_;
  weight_uploader uploader_;
  buffer gate_up_;               // [tokens, gate and up columns]
  buffer quantised_;             // x of a product of 8-bit floats that came in activations' type
  std::int64_t widest_fp8_ = 0;  // columns of a weight
  buffer unpacked_;              // rows of a packed weight as products of many rows read them
  std::int64_t unpacked_bytes_ = 0;
  buffer decode_partial_, decode_tickets_;
  decode_plan decode_plan_;
};

}  // namespace dinfer::kernels::cuda
