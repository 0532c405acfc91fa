// SPDX-License-Identifier: Apache-2.0
// Device and host hold the same four arrays, one behind the other.
#include "runtime/shard/step_outputs.hpp"

#include <algorithm>

namespace dinfer::runtime {
namespace {

using kernels::most_top;

constexpr std::size_t row_bytes = 2 * sizeof(std::int32_t) * (1 + most_top);

kernels::tensor cut(const kernels::tensor& array, std::size_t first, std::size_t count) {
  kernels::tensor part = array;
  part.data =
      array.as<std::byte>() +
      first * static_cast<std::size_t>(array.bytes() / std::max<std::int64_t>(array.shape[0], 1));
  part.shape[0] = static_cast<std::int64_t>(count);
  return part;
}

}  // namespace

step_outputs::step_outputs(kernels::device& device, std::size_t rows,
                           std::chrono::milliseconds timeout)
    : device_(&device),
      rows_(rows),
      memory_(device.allocate(rows * row_bytes, true)),
      ring_(device, rows * row_bytes, timeout) {}

kernels::drawn_arrays step_outputs::whole(void* base) const noexcept {
  auto* words = static_cast<std::int32_t*>(base);
  kernels::drawn_arrays a;
  a.tokens = kernels::view(words, kernels::dtype::i32, rows_);
  a.logprobs = kernels::view(words + rows_, kernels::dtype::f32, rows_);
  a.top_tokens = kernels::view(words + 2 * rows_, kernels::dtype::i32, rows_, most_top);
  a.top_logprobs =
      kernels::view(words + (2 + most_top) * rows_, kernels::dtype::f32, rows_, most_top);
  return a;
}

kernels::drawn_arrays step_outputs::arrays(std::size_t first, std::size_t count) const noexcept {
  const kernels::drawn_arrays all = whole(memory_.data());
  return {cut(all.tokens, first, count), cut(all.logprobs, first, count),
          cut(all.top_tokens, first, count), cut(all.top_logprobs, first, count)};
}

std::size_t step_outputs::fetch(std::size_t rows, bool reported) {
  const std::size_t piece = ring_.next();
  const kernels::drawn_arrays from = whole(memory_.data()), to = whole(ring_.data(piece));
  const auto copy = [&](const kernels::tensor& a, const kernels::tensor& b) {
    device_->download_async(b.data, a.data, static_cast<std::size_t>(cut(a, 0, rows).bytes()));
  };
  if (rows > 0) copy(from.tokens, to.tokens);
  if (rows > 0 && reported) {
    copy(from.logprobs, to.logprobs);
    copy(from.top_tokens, to.top_tokens);
    copy(from.top_logprobs, to.top_logprobs);
  }
  ring_.mark(piece);
  return piece;
}

sampled_token step_outputs::row(std::size_t piece, std::size_t index, std::int32_t top) const {
  const kernels::drawn_arrays all = whole(ring_.data(piece));
  sampled_token t;
  t.token = all.tokens.as<token_id>()[index];
  if (top < 0) return t;
  t.logprob = all.logprobs.as<float>()[index];
  const token_id* tokens = all.top_tokens.as<token_id>() + index * most_top;
  const float* logprobs = all.top_logprobs.as<float>() + index * most_top;
  for (std::int32_t i = 0; i < top && tokens[i] >= 0; ++i)
    t.top.push_back({tokens[i], logprobs[i]});
  return t;
}

}  // namespace dinfer::runtime
