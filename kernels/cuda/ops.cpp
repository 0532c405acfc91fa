// SPDX-License-Identifier: Apache-2.0
// From the contract's arguments to launches. Arguments that only a bug can produce are asserted.
#include "kernels/cuda/ops.hpp"

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/fp8.hpp"
#include "kernels/cuda/gemm_packed.hpp"
#include "kernels/cuda/nccl_communicator.hpp"
#include "kernels/cuda/packed.hpp"
#include "kernels/cuda/pointwise.hpp"
#include "kernels/cuda/sampler.hpp"

#include <algorithm>
#include <bit>

namespace dinfer::kernels::cuda {

namespace {

constexpr int hopper_major = 9;

const cuda_weight& of(const weight* w) {
  DINFER_ASSERT(w != nullptr);
  return *static_cast<const cuda_weight*>(w);
}

// The values of a vector of `n`, or null for null.
const float* vector_of(const weight* w, std::int64_t n) {
  if (w == nullptr) return nullptr;
  const auto& v = of(w);
  DINFER_ASSERT(v.role() == weight_role::vector && v.columns() == n);
  return static_cast<const float*>(v.data());
}

// Of rows of 8-bit floats; null for other types.
float* scales_of(const tensor& x) {
  return x.type == dtype::f8_e4m3 ? f8_scales(x.data, x.rows(), x.columns()) : nullptr;
}

attention_shape shape_of(const attention_args& args) {
  const step_batch& batch = *args.batch;
  const kv_pages& pages = args.pages;
  attention_shape s;
  s.qkv = args.qkv.data;
  s.out = args.out.data;
  s.qkv_columns = args.qkv.columns();
  s.pages = static_cast<const std::byte*>(pages.base) +
            row_bytes(pages.type, args.layer * pages.layer_elements());
  s.page_elements = pages.page_elements();
  s.page_count = pages.pages;
  s.query_heads = args.query_heads;
  s.kv_heads = pages.kv_heads;
  s.head_dim = args.head_dim;
  s.block_size = pages.block_size;
  s.block_shift = std::countr_zero(static_cast<std::uint32_t>(pages.block_size));
  s.window = args.window;
  s.scale = args.scale;
  s.positions = batch.positions.as<std::int32_t>();
  s.query_begin = batch.query_begin.as<std::int32_t>();
  s.context = batch.context.as<std::int32_t>();
  s.table_rows = batch.table_rows.as<std::int32_t>();
  s.block_table = batch.block_table.as<std::int32_t>();
  s.table_width = batch.block_table.columns();
  s.tokens = batch.tokens;
  s.sequences = batch.sequences;
  s.decodes = batch.decodes;
  std::int32_t head = 0;
  for (std::int32_t k = 0; k <= s.kv_heads; ++k) {
    while (head < args.query_heads && args.kv_of_query[static_cast<std::size_t>(head)] < k) ++head;
    s.first_query[k] = static_cast<std::int16_t>(head);
  }
  DINFER_ASSERT(s.first_query[0] == 0 && s.first_query[s.kv_heads] == args.query_heads);
  return s;
}

}  // namespace

cuda_ops::cuda_ops(device& owner, cudaStream_t stream, int index, const cudaDeviceProp& gpu,
                   const device_options& options)
    : device_(owner),
      stream_(stream),
      multiprocessors_(gpu.multiProcessorCount),
      shared_bytes_(gpu.sharedMemPerBlockOptin),
      hopper_(gpu.major == hopper_major),
      activation_(options.activation.value_or(dtype::bf16)),
      exact_(options.batch_invariant || activation_ == dtype::f32),
      // Cleared, for it is also read as it is (gemm.hpp).
      gemm_space_(exact_ ? buffer() : owner.allocate(gemm::wanted_space_bytes(), true)),
      gemm_(stream, gemm_space_.data(), gemm_space_.bytes(),
            {options.tuning_directory, gpu.name, exact_, hopper_ ? multiprocessors_ : 0}),
      uploader_(index, activation_, owner.traits().fp8, [&owner](std::size_t bytes) {
        buffer memory = owner.allocate(bytes, false);
        return memory;
      }) {}

std::uint64_t cuda_ops::reserve(const step_limits& limits) {
  const std::int64_t gate_up_columns = (2 * limits.mlp + 15) / 16 * 16;  // weights.hpp
  gate_up_ = device_.allocate(
      static_cast<std::size_t>(row_bytes(activation_, limits.tokens * gate_up_columns)), false);
  const auto fp8_bytes = widest_fp8_ == 0 ? 0 : f8_bytes(limits.tokens, widest_fp8_);
  quantised_ = device_.allocate(static_cast<std::size_t>(fp8_bytes), false);
  unpacked_ = device_.allocate(static_cast<std::size_t>(unpacked_bytes_), false);
  const auto always = gate_up_.bytes() + quantised_.bytes() + unpacked_.bytes();
  if (exact_) return always;
  const decode_space space =
      decode_space_for(limits.query_heads, limits.kv_heads, limits.head_dim, multiprocessors_);
  decode_partial_ = device_.allocate(space.partial_bytes, false);
  decode_tickets_ = device_.allocate(space.ticket_bytes, true);
  decode_plan_.partial = static_cast<float*>(decode_partial_.data());
  decode_plan_.partial_bytes = space.partial_bytes;
  decode_plan_.shared_bytes = shared_bytes_;
  decode_plan_.tickets = static_cast<std::int32_t*>(decode_tickets_.data());
  return always + gemm_space_.bytes() + space.partial_bytes + space.ticket_bytes;
}

std::unique_ptr<weight> cuda_ops::prepare(std::span<const weight_slice> slices, weight_role role,
                                          const prepare_options& options) {
  auto made = uploader_.prepare(slices, role, options);
  if (made->fp8()) widest_fp8_ = std::max(widest_fp8_, made->columns());
  if (made->packed() && !exact_) {
    const auto whole = row_bytes(activation_, made->padded_rows() * made->columns());
    unpacked_bytes_ = std::max(unpacked_bytes_, std::min(whole, most_unpacked_bytes));
  }
  return made;
}

tensor cuda_ops::input_of(const weight& w, tensor x, producer) const {
  if (of(&w).fp8()) x.type = dtype::f8_e4m3;
  return x;
}

void cuda_ops::finish_weights() { uploader_.finish(); }

void cuda_ops::embed(const embed_args& args) {
  const cuda_weight& table = of(args.table);
  DINFER_ASSERT(args.out.type == activation_ && args.out.columns() == table.columns());
  embed_job job;
  job.ids = args.ids.as<std::int32_t>();
  job.table = table.data();
  if (table.packed()) job.packed = table.parts()[0].kind;
  job.rows = table.rows();
  job.first_row = args.first_row;
  if (args.position_table != nullptr) {
    const cuda_weight& places = of(args.position_table);
    job.position_table = places.data();
    if (places.packed()) job.position_packed = places.parts()[0].kind;
    job.position_rows = args.position_table->rows();
    job.positions = args.positions.as<std::int32_t>();
  }
  job.out = args.out.data;
  job.tokens = args.ids.elements();
  job.columns = table.columns();
  cuda::embed(job, activation_, stream_);
}

void cuda_ops::add_norm(const add_norm_args& args) {
  if (!args.partial && args.norm == nullptr) return;
  add_norm_job job;
  job.rows = args.residual.rows();
  job.columns = args.residual.columns();
  DINFER_ASSERT(!args.partial || args.partial.elements() == args.residual.elements());
  job.partial = args.partial.data;
  job.residual = args.residual.data;
  if (args.norm != nullptr) {
    DINFER_ASSERT(args.normed.elements() == args.residual.elements());
    job.gain = vector_of(args.norm->gain, job.columns);
    job.bias = vector_of(args.norm->bias, job.columns);
    job.kind = args.norm->kind;
    job.epsilon = args.norm->epsilon;
    job.normed = args.normed.data;
    job.normed_scales = scales_of(args.normed);
  }
  if (args.partial && args.tp != nullptr && args.tp->size() > 1) {
    if (sum_add_norm(*args.tp, job, activation_)) return;
    args.tp->all_reduce(args.partial);
  }
  cuda::add_norm(job, activation_, stream_);
}

tensor cuda_ops::quantised(const tensor& x) {
  if (x.type == dtype::f8_e4m3) return x;
  const tensor out = view(quantised_.data(), dtype::f8_e4m3, x.rows(), x.columns());
  DINFER_ASSERT(static_cast<std::uint64_t>(f8_bytes(x.rows(), x.columns())) <= quantised_.bytes());
  quantise({x.data, out.data, scales_of(out), x.rows(), x.columns()}, activation_, stream_);
  return out;
}

product cuda_ops::product_of(const linear_args& args, const cuda_weight& w, const tensor& out) {
  const tensor x = w.fp8() ? quantised(args.x) : args.x;
  product p = dense_product(x, w.data(), w.padded_rows(), out);
  p.x_scales = scales_of(x);
  p.w_scales = w.scales();
  return p;
}

// Where rows must not know of each other, whatever their number.
bool cuda_ops::reads_packed(const cuda_weight& w, std::int64_t rows) const noexcept {
  return w.packed() && (exact_ || rows <= most_packed_rows);
}

void cuda_ops::multiply(const linear_args& args, const cuda_weight& w, const tensor& out) {
  if (!w.packed()) return gemm_.multiply(product_of(args, w, out));
  if (!reads_packed(w, args.x.rows())) return multiply_unpacked(args.x, w, out);
  for (const packed_rows& part : w.parts()) {
    packed_product p{args.x.data,   w.matrix(part), nullptr, args.x.rows(),
                     out.columns(), activation_,    out.type};
    p.out = static_cast<std::byte*>(out.data) + row_bytes(out.type, part.first_row);
    multiply_packed(p, stream_);
  }
}

// The product and its activation at once, where there is such a kernel.
bool cuda_ops::multiply_swiglu(const linear_args& args, const cuda_weight& w, const tensor& both) {
  if (!w.packed()) return gemm_.multiply_swiglu(product_of(args, w, both), args.out.data);
  if (!reads_packed(w, args.x.rows())) return false;
  multiply_packed({args.x.data, w.matrix(w.parts()[0]), args.out.data, args.x.rows(),
                   args.out.columns(), activation_, activation_, true},
                  stream_);
  return true;
}

// As many rows of the weight at a time as there is room for, in pieces of about the same size.
void cuda_ops::multiply_unpacked(const tensor& x, const cuda_weight& w, const tensor& out) {
  constexpr std::int64_t even = 128;  // of whole tiles of a product
  const std::int64_t n = w.padded_rows(), row = row_bytes(activation_, w.columns());
  const std::int64_t most = static_cast<std::int64_t>(unpacked_.bytes()) / row;
  DINFER_ASSERT(most >= std::min(n, even));  // packed_takes, reserve
  const std::int64_t pieces = (n + most - 1) / most;
  const std::int64_t equal = (n + pieces - 1) / pieces;
  const std::int64_t each = std::min(most, (equal + even - 1) / even * even);
  for (std::int64_t first = 0; first < n; first += each) {
    const std::int64_t end = std::min(n, first + each);
    for (const packed_rows& part : w.parts()) {
      const auto from = std::max(first, part.first_row);
      const auto to = std::min(end, part.first_row + part.rows);
      if (from >= to) continue;
      unpack_rows(w.matrix(part), from - part.first_row, to - from,
                  static_cast<std::byte*>(unpacked_.data()) + (from - first) * row, activation_,
                  stream_);
    }
    product p = dense_product(x, unpacked_.data(), end - first, out);
    p.out = static_cast<std::byte*>(out.data) + row_bytes(out.type, first);
    p.ldo = out.columns();
    p.w_is_new = true;
    gemm_.multiply(p);
  }
}

void cuda_ops::linear(const linear_args& args) {
  const cuda_weight& w = of(args.w);
  const auto rows = args.x.rows();
  DINFER_ASSERT(args.x.type == activation_ || (args.x.type == dtype::f8_e4m3 && w.fp8()));
  DINFER_ASSERT(args.x.columns() == w.columns());
  DINFER_ASSERT(args.out.rows() == rows && w.role() != weight_role::vector);
  if (rows == 0 || w.rows() == 0) return;
  if (args.act == activation::swiglu) {
    DINFER_ASSERT(w.role() == weight_role::gate_up && 2 * args.out.columns() == w.rows());
    const tensor both = view(gate_up_.data(), activation_, rows, w.padded_rows());
    DINFER_ASSERT(static_cast<std::uint64_t>(both.bytes()) <= gate_up_.bytes());
    const bool plain = !w.fp8() && args.out.type == activation_ && args.bias == nullptr &&
                       w.padded_rows() == w.rows();
    if (plain && multiply_swiglu(args, w, both)) return;
    multiply(args, w, both);
    gate({both.data, vector_of(args.bias, w.rows()), args.out.data, rows, args.out.columns(),
          scales_of(args.out)},
         activation_, stream_);
    return;
  }
  DINFER_ASSERT(w.role() != weight_role::gate_up && args.out.columns() == w.rows());
  multiply(args, w, args.out);
  if (args.bias == nullptr && args.act == activation::none) return;
  activate({args.out.data, vector_of(args.bias, w.rows()), args.act, rows, w.rows()}, args.out.type,
           stream_);
}

void cuda_ops::rope_store(const rope_store_args& args) {
  DINFER_ASSERT(args.qkv.type == activation_);
  cuda::rope_store(args, stream_);
}

// A row's bits must not depend on whether it is decoded or part of a prompt where rows must not
// know of each other: then one kernel has them all.
void cuda_ops::attention(const attention_args& args) {
  const attention_shape shape = shape_of(args);
  const attention_types types(activation_, args.pages.type);
  const std::int32_t decodes = exact_ ? 0 : shape.decodes;
  if (decodes > 0) attend_decode(shape, decode_plan_, types, multiprocessors_, stream_);
  const std::int32_t others = shape.tokens - decodes;
  if (others == 0) return;
  if (!exact_ && hopper_ && prefill_sm90_fits(shape, types)) {
    attend_prefill_sm90(shape, decodes, others, types, stream_);
  } else {
    attend_prefill(shape, decodes, others, types, stream_);
  }
}

void cuda_ops::gather_rows(tensor in, tensor rows, tensor out) {
  cuda::gather_rows(in, rows, out, stream_);
}

void cuda_ops::put_entries(tensor table, tensor entries) {
  cuda::put_entries(table, entries, stream_);
}

std::unique_ptr<sampler> cuda_ops::make_sampler(std::uint32_t slots, std::int64_t vocabulary) {
  return make_cuda_sampler(device_, stream_, slots, vocabulary);
}

}  // namespace dinfer::kernels::cuda
