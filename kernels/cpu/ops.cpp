// SPDX-License-Identifier: Apache-2.0
// Weights, embedding, matrix products and row copies; attention.cpp and add_norm.cpp have the rest.
// Arguments that only a bug can produce are asserted, for they are the model's, not a user's.
#include "kernels/cpu/ops.hpp"

#include "dinfer/error.hpp"
#include "kernels/cpu/arguments.hpp"
#include "kernels/cpu/sample.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace dinfer::kernels::cpu {

namespace {

epilogue to_epilogue(activation act) {
  switch (act) {
    case activation::swiglu:
      return epilogue::swiglu;
    case activation::gelu_tanh:
      return epilogue::gelu_tanh;
    case activation::gelu:
      return epilogue::gelu;
    case activation::relu:
      return epilogue::relu;
    case activation::none:
      break;
  }
  return epilogue::none;
}

// How a product is cut: `units` stretches of panels as equal as they can be, none longer than
// linear_group, times stretches of rows.
struct cut {
  std::int64_t pairs = 1;  // panels that stay together
  std::int64_t panels = 0, units = 0, row_chunks = 0;

  std::int64_t begin(std::int64_t unit) const { return panels / pairs * unit / units * pairs; }
};

cut cut_up(std::int64_t panels, bool paired, std::int64_t rows, std::int64_t threads) {
  cut c;
  c.pairs = paired ? 2 : 1;
  c.panels = panels;
  const auto longest = rows == 1 ? linear_group : std::int64_t{2};
  c.units = (panels + longest - 1) / longest;
  if (c.units < 8 * threads) {  // few: let every thread have as many
    c.units = std::min((c.units + threads - 1) / threads * threads, panels / c.pairs);
  }
  c.row_chunks = (rows + linear_row_chunk - 1) / linear_row_chunk;
  return c;
}

}  // namespace

std::unique_ptr<weight> cpu_ops::prepare(std::span<const weight_slice> slices, weight_role role,
                                         const prepare_options& options) {
  return pack(slices, role, options.dequantize, arena_, pool_);
}

void cpu_ops::embed(const embed_args& args) {
  const auto& table = of(args.table);
  const auto tokens = args.ids.elements();
  const auto hidden = table.columns();
  DINFER_ASSERT(is_f32(args.out) && args.out.columns() == hidden && args.out.rows() >= tokens);
  const auto* positions = args.position_table == nullptr ? nullptr : &of(args.position_table);
  DINFER_ASSERT(positions == nullptr || positions->columns() == hidden);
  if (positions != nullptr) pool_.reserve_scratch(static_cast<std::size_t>(hidden));
  for_rows({0, tokens}, 16, [&](std::int64_t t, std::uint32_t thread) {
    float* out = args.out.as<float>() + t * hidden;
    const auto row = args.ids.as<std::int32_t>()[t] - args.first_row;
    if (row >= 0 && row < table.rows()) {
      table.read_row(row, out);
    } else {
      std::fill_n(out, hidden, 0.0F);
    }
    if (positions == nullptr) return;
    float* extra = pool_.scratch(thread);
    const std::int64_t position = args.positions.as<std::int32_t>()[t];
    DINFER_ASSERT(position >= 0 && position < positions->rows());
    positions->read_row(position, extra);
    for (std::int64_t i = 0; i < hidden; ++i) out[i] += extra[i];
  });
}

tensor cpu_ops::input_of(const weight& w, tensor x, producer from) const {
  // What follows a product is written by panels of 16 columns, half a block of bytes.
  if (from == producer::norm && bytes_ && of(&w).takes_bytes()) x.type = dtype::u8;
  return x;
}

byte_rows cpu_ops::round_to_bytes(tensor x) {
  if (x.type == dtype::u8) return byte_rows_of(x);
  const auto rows = x.rows(), k = x.columns();
  const auto need = static_cast<std::size_t>(rows * k);
  if (rounded_.size() < need) rounded_.resize(need), scales_.resize(need / 16);
  for_rows({0, rows}, 16, [&](std::int64_t r, std::uint32_t) {
    kernels_.round_to_bytes(x.as<float>() + r * k, k, rounded_.data() + r * k,
                            scales_.data() + r * (k / 16));
  });
  return {rounded_.data(), scales_.data()};
}

void cpu_ops::linear(const linear_args& args) {
  const auto& w = of(args.w);
  const bool paired = args.act == activation::swiglu;
  const auto rows = args.x.rows();
  DINFER_ASSERT(w.role() != weight_role::vector);
  DINFER_ASSERT(paired == (w.role() == weight_role::gate_up));
  const bool bytes = bytes_ && w.takes_bytes();
  DINFER_ASSERT(is_f32(args.x) || (bytes && args.x.type == dtype::u8));
  DINFER_ASSERT(is_f32(args.out) && args.x.columns() == w.columns());
  DINFER_ASSERT(args.out.columns() == (paired ? w.rows() / 2 : w.rows()));
  DINFER_ASSERT(args.out.rows() == rows);
  if (rows == 0 || w.rows() == 0) return;
  linear_job job;
  job.k = w.columns();
  job.x = args.x.as<float>();
  job.x_stride = args.x.columns();
  job.bias = vector_of(args.bias, w.rows());
  job.act = to_epilogue(args.act);
  job.out = args.out.as<float>();
  job.out_stride = args.out.columns();
  const auto panels = w.panels();
  const auto c = cut_up(static_cast<std::int64_t>(panels.size()), paired, rows, pool_.threads());
  if (bytes) {
    const byte_rows rounded = round_to_bytes(args.x);
    job.bytes = rounded.bytes;
    job.byte_scales = rounded.scales;
  }
  const auto run = bytes ? kernels_.dot : kernels_.linear;
  pool_.reserve_scratch(bytes ? dot_scratch(job.k) : linear_scratch);
  pool_.run(c.units * c.row_chunks, [&](std::int64_t chunk, std::uint32_t thread) {
    const auto unit = chunk % c.units;
    const auto row = chunk / c.units * linear_row_chunk;
    const auto begin = c.begin(unit);
    run(job, panels.data() + begin, c.begin(unit + 1) - begin, row,
        std::min(linear_row_chunk, rows - row), pool_.scratch(thread));
  });
}

void cpu_ops::gather_rows(tensor in, tensor rows, tensor out) {
  DINFER_ASSERT(in.columns() == out.columns() && in.type == out.type);
  DINFER_ASSERT(out.rows() == rows.elements());
  const auto bytes = row_bytes(in.type, in.columns());
  for (std::int64_t i = 0; i < rows.elements(); ++i) {
    const std::int64_t row = rows.as<std::int32_t>()[i];
    DINFER_ASSERT(row >= 0 && row < in.rows());
    std::memcpy(out.as<std::byte>() + i * bytes, in.as<std::byte>() + row * bytes,
                static_cast<std::size_t>(bytes));
  }
}

void cpu_ops::put_entries(tensor table, tensor entries) {
  DINFER_ASSERT(table.type == dtype::i32 && entries.type == dtype::i32);
  DINFER_ASSERT(entries.elements() == 0 || entries.columns() == 2);
  const auto* pairs = entries.as<std::int32_t>();
  for (std::int64_t i = 0; i < entries.rows(); ++i) {
    const std::int64_t at = pairs[2 * i];
    DINFER_ASSERT(at >= 0 && at < table.elements());
    table.as<std::int32_t>()[at] = pairs[2 * i + 1];
  }
}

std::unique_ptr<sampler> cpu_ops::make_sampler(std::uint32_t slots, std::int64_t vocabulary) {
  return make_cpu_sampler(slots, vocabulary, pool_, kernels_);
}

}  // namespace dinfer::kernels::cpu
