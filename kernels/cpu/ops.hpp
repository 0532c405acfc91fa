// SPDX-License-Identifier: Apache-2.0
// The operations of kernels/ops.hpp on the CPU: checks, then chunks for the thread pool. The inner
// loops are in vector/. Thread: the device's own.
#pragma once

#include "kernels/cpu/arguments.hpp"
#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/ops.hpp"

#include <algorithm>

namespace dinfer::kernels::cpu {

struct row_range {
  std::int64_t begin = 0, end = 0;
};

class cpu_ops final : public ops {
 public:
  // bytes: products of quantised weights round activations to bytes (dot.cpp); otherwise all is
  // float32, exactly as the weights' expansion would give.
  cpu_ops(thread_pool& pool, bool bytes, const kernel_table& kernels = best_kernels())
      : pool_(pool), kernels_(kernels), bytes_(bytes) {}

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

 private:
  // body(row, thread). Rows that are cheap go to the pool only when there are many.
  template <class Body>
  void for_rows(row_range rows, std::int64_t rows_in_chunk, Body&& body) {
    const auto chunks = (rows.end - rows.begin + rows_in_chunk - 1) / rows_in_chunk;
    pool_.run(chunks, [&](std::int64_t chunk, std::uint32_t thread) {
      const auto begin = rows.begin + chunk * rows_in_chunk;
      const auto end = std::min(rows.end, begin + rows_in_chunk);
      for (auto row = begin; row < end; ++row) body(row, thread);
    });
  }

  bool share_rows(const add_norm_args& args, norm_row norm);
  void add_norm_row(const add_norm_args& args, norm_row one, std::int64_t t,
                    std::uint32_t thread) const;

  // [positions][frequencies][2]: cosine and sine of position x frequency, which all layers of a
  // step need: computed where they are not those of the call before. Valid until the next one.
  const float* angles_of(std::span<const std::int32_t> positions,
                         std::span<const float> frequencies);

  byte_rows round_to_bytes(tensor x);

  thread_pool& pool_;
  const kernel_table& kernels_;
  bool bytes_;
  std::vector<std::int8_t> rounded_;  // activations of the product under way
  std::vector<float> scales_;
  struct {
    std::vector<std::int32_t> positions;
    std::vector<float> frequencies, values;
  } angles_;  // of the last step
  weight_arena arena_;
};

}  // namespace dinfer::kernels::cpu
