// SPDX-License-Identifier: Apache-2.0
// From slices of stored matrices to a weight's memory, in pieces for the upload queue.
#include "kernels/cuda/weights.hpp"

#include "dinfer/error.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::kernels::cuda {

namespace {

constexpr std::int64_t group = 8;  // gate rows, then as many up rows

std::int64_t rows_of(const weight_slice& s) { return s.row_end - s.row_begin; }
std::int64_t columns_of(const weight_slice& s) { return s.column_end - s.column_begin; }

void check_slices(std::span<const weight_slice> slices, weight_role role) {
  DINFER_ASSERT(!slices.empty());
  for (const auto& s : slices) {
    DINFER_ASSERT(s.type != dtype::i32 && s.type != dtype::u8);
    DINFER_ASSERT(s.row_begin >= 0 && s.row_end >= s.row_begin && s.column_begin >= 0);
    DINFER_ASSERT(s.column_end >= s.column_begin && s.column_end <= s.stored_columns);
    DINFER_ASSERT(role == weight_role::vector || columns_of(s) == columns_of(slices[0]));
  }
  if (role == weight_role::gate_up) {
    DINFER_ASSERT(slices.size() == 2 && rows_of(slices[0]) == rows_of(slices[1]));
  }
}

// Stored as a GPU computes with it.
bool kept(const weight_slice& s) { return s.type == dtype::f8_e4m3 && s.scales.by_row(); }

packed_kind kind_of(const weight_slice& s) {
  const bool fits = s.data != nullptr && packed_takes(s.column_begin, columns_of(s));
  return fits ? packed_kind_of(s.type) : packed_kind::none;
}

std::int64_t part_bytes(const packed_rows& part, std::int64_t columns) {
  constexpr std::int64_t alignment = 256;
  return (packed_bytes(part.kind, part.rows, columns) + alignment - 1) / alignment * alignment;
}

// Of slices that are all packed, in as few parts as they have kinds in turn; none when they cannot
// be.
std::vector<packed_rows> parts_of(std::span<const weight_slice> slices, weight_role role,
                                  std::int64_t padded_rows) {
  std::vector<packed_rows> parts;
  std::int64_t row = 0;
  for (const auto& s : slices) {
    if (rows_of(s) == 0) continue;
    const packed_kind kind = kind_of(s);
    if (kind == packed_kind::none) return {};
    if (parts.empty() || parts.back().kind != kind) parts.push_back({kind, row, 0, 0});
    parts.back().rows += rows_of(s);
    row += rows_of(s);
  }
  const bool one = role == weight_role::embedding || role == weight_role::gate_up;
  if (row == 0 || (one && parts.size() > 1)) return {};
  if (role == weight_role::gate_up) parts[0].rows = padded_rows;
  std::int64_t begin = 0;
  for (auto& part : parts) {
    part.begin = begin;
    begin += part_bytes(part, columns_of(slices[0]));
  }
  return parts;
}

cuda_weight::shape shape_of(std::span<const weight_slice> slices, weight_role role,
                            dtype activation, const prepare_options& options, bool fp8) {
  cuda_weight::shape shape;
  shape.role = role;
  if (role == weight_role::vector) {
    shape.rows = shape.padded_rows = 1;
    for (const auto& s : slices) shape.columns += rows_of(s) * columns_of(s);
    return shape;
  }
  shape.type = activation;
  shape.columns = columns_of(slices[0]);
  for (const auto& s : slices) shape.rows += rows_of(s);
  shape.padded_rows = role == weight_role::gate_up
                          ? 2 * ((rows_of(slices[0]) + group - 1) / group * group)
                          : shape.rows;
  const bool layers = role == weight_role::matrix || role == weight_role::gate_up;
  const bool stored = fp8 && !options.dequantize && std::all_of(slices.begin(), slices.end(), kept);
  if ((options.fp8 || stored) && layers && f8_takes(shape.padded_rows, shape.columns, activation)) {
    shape.type = dtype::f8_e4m3;
  }
  if (!options.fp8 && !options.dequantize && activation != dtype::f32)
    shape.parts = parts_of(slices, role, shape.padded_rows);
  return shape;
}

std::int64_t bytes_of(const cuda_weight::shape& s) {
  if (!s.parts.empty()) return s.parts.back().begin + part_bytes(s.parts.back(), s.columns);
  return s.type == dtype::f8_e4m3 ? f8_bytes(s.padded_rows, s.columns)
                                  : row_bytes(s.type, s.padded_rows * s.columns);
}

std::byte* element_of(const placed_rows& to, std::int64_t column) {
  return static_cast<std::byte*>(to.data) + row_bytes(to.type, column);
}

}  // namespace

cuda_weight::~cuda_weight() {
  if (uploads_.idle()) return;
  try {
    uploads_.finish();
  } catch (const device_error&) {  // this weight's owner has given it up
  }
}

std::unique_ptr<cuda_weight> weight_uploader::prepare(std::span<const weight_slice> slices,
                                                      weight_role role,
                                                      const prepare_options& options) {
  check_slices(slices, role);
  const auto shape = shape_of(slices, role, activation_, options, fp8_);
  const auto bytes = bytes_of(shape);
  auto made =
      std::make_unique<cuda_weight>(shape, allocate_(static_cast<std::size_t>(bytes)), uploads_);
  if (bytes == 0) return made;
  if (made->packed()) {
    add_packed(slices, *made);
    return made;
  }
  placed_rows to;
  to.data = const_cast<void*>(made->data());
  to.type = shape.type;
  to.leading = shape.columns;
  to.scales = const_cast<float*>(made->scales());
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const weight_slice& s = slices[i];
    const auto rows = rows_of(s);
    if (role == weight_role::vector) {  // laid end to end
      to.leading = columns_of(s);
      add(s, to);
      to.data = element_of(to, rows * columns_of(s));
      continue;
    }
    if (role == weight_role::gate_up) {
      to.map = i == 0 ? row_map::gate : row_map::up;
      to.first_row = rows;
      add_zeros(shape.padded_rows / 2 - rows, shape.columns, to);
      to.first_row = 0;
    }
    add(s, to);
    to.first_row += rows;
  }
  return made;
}

// Elements as they are, and their rows' scales beside them.
void weight_uploader::add_kept(const weight_slice& slice, placed_rows to) {
  placed_rows scales = to;
  scales.data = std::exchange(to.scales, nullptr);
  scales.type = dtype::f32;
  scales.leading = 1;
  scales.scales = nullptr;
  add(slice, to);
  weight_slice column;
  column.data = reinterpret_cast<const std::byte*>(slice.scales.data);
  column.stored_columns = column.column_end = 1;
  column.row_begin = slice.row_begin;
  column.row_end = slice.row_end;
  add(column, scales);
}

// Rows that fill up a part or a half are zeros.
void weight_uploader::add_packed(std::span<const weight_slice> slices, const cuda_weight& made) {
  placed_rows to;
  to.type = made.type();
  to.leading = made.columns();
  std::size_t next = 0;
  for (const packed_rows& part : made.parts()) {
    to.data = const_cast<std::byte*>(made.matrix(part).data);
    to.packed = part.kind;
    to.first_row = 0;
    if (made.role() == weight_role::gate_up) {
      for (std::size_t i = 0; i < 2; ++i) {
        to.map = i == 0 ? row_map::gate : row_map::up;
        to.first_row = 0;
        add(slices[i], to);
        to.first_row = rows_of(slices[i]);
        add_zeros(part.rows / 2 - to.first_row, to.leading, to);
      }
      return;
    }
    for (; to.first_row < part.rows; ++next) {
      add(slices[next], to);
      to.first_row += rows_of(slices[next]);
    }
    add_zeros((packed_tile - part.rows % packed_tile) % packed_tile, to.leading, to);
  }
}

void weight_uploader::add(const weight_slice& slice, placed_rows to) {
  const auto rows = rows_of(slice), columns = columns_of(slice);
  if (rows == 0 || columns == 0) return;
  if (to.scales != nullptr && kept(slice)) return add_kept(slice, to);
  upload work;
  if (slice.data == nullptr) {
    const auto first = slice.row_begin * slice.stored_columns + slice.column_begin;
    work.made_up = {slice.made_up, static_cast<std::uint64_t>(first),
                    static_cast<std::uint64_t>(slice.stored_columns), rows, columns};
    work.to = to;
    return uploads_.add(work);
  }
  const auto layout = info(slice.type);
  // A row is cut only when it is longer than an upload may be. One block more may cover a piece.
  const auto blocks = most_upload_bytes / layout.block_bytes - 1;
  const auto wide = std::min(columns, blocks * layout.block_elements);
  // f8_takes, packed_takes
  DINFER_ASSERT((to.scales == nullptr && to.packed == packed_kind::none) || wide == columns);
  work.type = slice.type;
  work.stored_row_bytes = row_bytes(slice.type, slice.stored_columns);
  work.first_column = slice.column_begin % layout.block_elements;
  work.columns = wide;
  work.scales = slice.scales;
  const auto tall = std::max(std::int64_t{1}, most_upload_bytes / work.row_bytes());
  const auto first_block = row_bytes(slice.type, slice.column_begin - work.first_column);
  for (std::int64_t c = 0; c < columns; c += wide) {
    for (std::int64_t r = 0; r < rows; r += tall) {
      work.data = slice.data + (slice.row_begin + r) * work.stored_row_bytes + first_block +
                  row_bytes(slice.type, c);
      work.rows = std::min(tall, rows - r);
      work.columns = std::min(wide, columns - c);
      work.scaled_row = slice.row_begin + r;
      work.scaled_column = slice.column_begin + c;
      work.to = to;
      work.to.data = element_of(to, c);
      work.to.first_row = to.first_row + r;
      uploads_.add(work);
    }
  }
}

void weight_uploader::add_zeros(std::int64_t rows, std::int64_t columns, const placed_rows& to) {
  if (rows == 0) return;
  upload work;
  work.made_up = {made_up_weights{}, 0, 0, rows, columns};  // 0 + k * 0
  work.to = to;
  uploads_.add(work);
}

}  // namespace dinfer::kernels::cuda
