// SPDX-License-Identifier: Apache-2.0
// Draws for tests: rows of logits go to any device, and what was drawn comes back as values.
#pragma once

#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "tests/support/catch.hpp"

#include <span>
#include <vector>

namespace dinfer::tests {

// Host values in a device's memory.
template <class T>
kernels::buffer upload(kernels::device& d, const std::vector<T>& values) {
  auto memory = d.allocate(values.size() * sizeof(T), false);
  d.upload(memory.data(), values.data(), values.size() * sizeof(T));
  return memory;
}

template <class T>
std::vector<T> download(kernels::device& d, const kernels::buffer& memory) {
  std::vector<T> values(memory.bytes() / sizeof(T));
  d.download(values.data(), memory.data(), memory.bytes());
  return values;
}

// Commits and draws one token per row; logits are [rows, this rank's part of the vocabulary]. A
// logprob that was not asked for is NaN.
inline std::vector<sampled_token> draw_rows(kernels::device& d, kernels::sampler& s,
                                            const std::vector<float>& logits,
                                            std::span<const kernels::sample_row> rows,
                                            std::span<const std::int64_t> shard_rows,
                                            kernels::communicator* tp = nullptr) {
  using kernels::dtype, kernels::view, kernels::most_top;
  const auto n = rows.size();
  REQUIRE(logits.size() % n == 0);
  std::vector<std::int32_t> slots, positions, targets;
  for (const auto& row : rows) {
    slots.push_back(static_cast<std::int32_t>(row.slot));
    positions.push_back(static_cast<std::int32_t>(row.position));
    targets.push_back(row.target);
  }
  constexpr std::int32_t nothing = -2;
  const auto all = n * most_top;
  const auto x = upload(d, logits), slot = upload(d, slots), position = upload(d, positions),
             target = upload(d, targets), tokens = upload(d, std::vector(n, nothing)),
             logprobs = upload(d, std::vector(n, std::numeric_limits<float>::quiet_NaN())),
             top_tokens = upload(d, std::vector(all, nothing)),
             top_logprobs = upload(d, std::vector(all, 0.0F));
  s.commit();
  s.sample({view(x.data(), dtype::f32, n, logits.size() / n),
            rows,
            {view(slot.data(), dtype::i32, n), view(position.data(), dtype::i32, n),
             view(target.data(), dtype::i32, n)},
            shard_rows,
            tp,
            {view(tokens.data(), dtype::i32, n), view(logprobs.data(), dtype::f32, n),
             view(top_tokens.data(), dtype::i32, n, most_top),
             view(top_logprobs.data(), dtype::f32, n, most_top)}});
  const auto token = download<std::int32_t>(d, tokens), top = download<std::int32_t>(d, top_tokens);
  const auto logprob = download<float>(d, logprobs), top_logprob = download<float>(d, top_logprobs);
  std::vector<sampled_token> out(n);
  for (std::size_t r = 0; r < n; ++r) {
    out[r] = {token[r], logprob[r], {}};
    for (auto i = r * most_top; i < (r + 1) * most_top && top[i] >= 0; ++i) {
      out[r].top.push_back({top[i], top_logprob[i]});
    }
  }
  return out;
}

}  // namespace dinfer::tests
