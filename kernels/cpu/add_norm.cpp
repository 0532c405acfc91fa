// SPDX-License-Identifier: Apache-2.0
// Sums over ranks, the residual and norms. What only linear reads is rounded to bytes here where
// linear would do it (input_of).
#include "kernels/cpu/arguments.hpp"
#include "kernels/cpu/ops.hpp"

#include <cstring>
#include <span>
#include <vector>

namespace dinfer::kernels::cpu {

namespace {

constexpr std::int64_t chunk_rows = 32;
// As many are shared out among ranks of one process: fewer cost less than to meet twice.
constexpr std::int64_t shared_rows = 8;

bool has_partial(const add_norm_args& args) { return static_cast<bool>(args.partial); }

float* row_of(const tensor& t, std::int64_t row) { return t.as<float>() + row * t.columns(); }

void copy_row(const tensor& from, const tensor& to, std::int64_t row) {
  DINFER_ASSERT(from.type == to.type);  // all ranks have weights of the same types
  const auto n = from.columns();
  const auto size = static_cast<std::size_t>(n);
  if (from.type == dtype::f32) {
    std::memcpy(row_of(to, row), row_of(from, row), size * sizeof(float));
    return;
  }
  const auto source = byte_rows_of(from), out = byte_rows_of(to);
  std::memcpy(out.bytes + row * n, source.bytes + row * n, size);
  const auto scales = n / 16;
  std::memcpy(out.scales + row * scales, source.scales + row * scales, size / 16 * sizeof(float));
}

void check(const add_norm_args& args) {
  DINFER_ASSERT(is_f32(args.residual));
  if (has_partial(args))
    DINFER_ASSERT(is_f32(args.partial) && args.partial.elements() == args.residual.elements());
  if (args.norm == nullptr) return;
  DINFER_ASSERT(is_f32(args.normed) || args.normed.type == dtype::u8);
  DINFER_ASSERT(args.normed.elements() == args.residual.elements());
  DINFER_ASSERT(args.norm->gain != nullptr);
}

}  // namespace

void cpu_ops::add_norm(const add_norm_args& args) {
  check(args);
  if (!has_partial(args) && args.norm == nullptr) return;
  const auto n = args.residual.columns();
  norm_row norm;
  norm.n = n;
  if (args.norm != nullptr) {
    norm.gain = vector_of(args.norm->gain, n);
    norm.bias = vector_of(args.norm->bias, n);
    norm.epsilon = args.norm->epsilon;
    pool_.reserve_scratch(static_cast<std::size_t>(n));
  }
  if (has_partial(args) && args.tp != nullptr && args.tp->size() > 1) {
    if (args.residual.rows() >= shared_rows && share_rows(args, norm)) return;
    args.tp->all_reduce(args.partial);
  }
  const float* const partial = has_partial(args) ? args.partial.as<float>() : nullptr;
  if (partial != nullptr) norm.partials = {&partial, 1};
  for_rows({0, args.residual.rows()}, chunk_rows,
           [&](std::int64_t t, std::uint32_t thread) { add_norm_row(args, norm, t, thread); });
}

void cpu_ops::add_norm_row(const add_norm_args& args, norm_row one, std::int64_t t,
                           std::uint32_t thread) const {
  const bool rounds = args.norm != nullptr && args.normed.type == dtype::u8;
  one.row = t;
  one.residual = row_of(args.residual, t);
  if (args.norm != nullptr) one.out = rounds ? pool_.scratch(thread) : row_of(args.normed, t);
  const bool layer = args.norm != nullptr && args.norm->kind == norm_kind::layer;
  layer ? kernels_.layer_norm(one) : kernels_.rms_norm(one);
  if (!rounds) return;
  const auto to = byte_rows_of(args.normed);
  kernels_.round_to_bytes(one.out, one.n, to.bytes + t * one.n, to.scales + t * (one.n / 16));
}

// Each rank sums and normalises a part of the rows, and writes them into everyone's tensors. The
// residual stays with it until a sum without a norm (Korthikanti et al. 2022, sequence parallel).
bool cpu_ops::share_rows(const add_norm_args& args, norm_row norm) {
  add_norm_args mine = args;
  return args.tp->together(args.partial, &mine, [&](std::span<void* const> shown) {
    std::vector<const float*> partials;
    for (const void* const of : shown)
      partials.push_back(static_cast<const add_norm_args*>(of)->partial.as<float>());
    norm.partials = partials;
    const std::int64_t rank = args.tp->rank(), size = args.tp->size();
    const auto rows = args.residual.rows();
    for_rows({rows * rank / size, rows * (rank + 1) / size}, chunk_rows,
             [&](std::int64_t t, std::uint32_t thread) {
               add_norm_row(args, norm, t, thread);
               for (void* const other : shown) {
                 if (other == &mine) continue;
                 const auto& to = *static_cast<const add_norm_args*>(other);
                 if (args.norm != nullptr) copy_row(args.normed, to.normed, t);
                 else copy_row(args.residual, to.residual, t);
               }
             });
  });
}

}  // namespace dinfer::kernels::cpu
