// SPDX-License-Identifier: Apache-2.0
// Shape checks, slicing and byte counts of a rank's weights. Files are hostile: a tensor is used
// only when its shape is exactly what the model expects. Thread: the shard's.
#include "runtime/models/weight_loader.hpp"

#include "kernels/cuda/packed_layout.hpp"
#include "runtime/weights/int4.hpp"
#include "runtime/weights/partition.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace dinfer::runtime {
namespace {

constexpr std::uint64_t most_made_bytes = 64 << 20;  // of host memory, before the device is awaited

// out[r][c] = in[c][r] of elements of `size` bytes; a tile at a time, for both sides' caches.
void turn(const std::byte* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns,
          std::int64_t size, std::byte* out) {
  constexpr std::int64_t tile = 32;
  for (std::int64_t r0 = 0; r0 < rows; r0 += tile)
    for (std::int64_t c0 = 0; c0 < columns; c0 += tile)
      for (std::int64_t r = r0; r < std::min(rows, r0 + tile); ++r)
        for (std::int64_t c = c0; c < std::min(columns, c0 + tile); ++c)
          std::memcpy(out + (r * columns + c) * size, in + (c * in_stride + r) * size,
                      static_cast<std::size_t>(size));
}

}  // namespace

weight_loader::~weight_loader() {
  try {
    drop_made();
  } catch (const kernels::device_error&) {  // a device that failed reads no more
  }
}

void weight_loader::drop_made() {
  if (!made_.empty()) device_->synchronize();
  made_.clear();
  made_bytes_ = 0;
}

bool weight_loader::listed(const std::string& name, std::vector<std::int64_t> shape,
                           kernels::weight_role role) {
  if (list_ == nullptr) return false;
  const bool again = !list_->empty() && list_->back().name == name;  // parts of one matrix
  if (!again) list_->push_back({name, std::move(shape), role});
  return true;
}

weight_ptr weight_loader::prepare(std::span<const kernels::weight_slice> slices,
                                  kernels::weight_role role) {
  for (const auto& s : slices) stored_bytes_ += slice_bytes(s);
  if (device_ == nullptr) return nullptr;
  weight_ptr w = device_->ops().prepare(slices, role, options_);
  weight_bytes_ += w->bytes();
  if (*progress_) (*progress_)(stored_bytes_, total_);
  if (made_bytes_ > most_made_bytes) drop_made();
  return w;
}

// The part of a matrix that is stored transposed, as one that is not.
kernels::weight_slice weight_loader::turned(const stored_tensor& tensor, range rows,
                                            range columns) {
  kernels::weight_slice slice;
  slice.type = tensor.type;
  slice.stored_columns = columns.size();
  slice.row_end = rows.size();
  slice.column_end = columns.size();
  if (device_ == nullptr) return slice;
  const std::int64_t size = kernels::info(tensor.type).block_bytes;
  auto& copy = made_.emplace_back(slice_bytes(slice));
  made_bytes_ += copy.size();
  const std::int64_t stride = tensor.shape.front();
  turn(tensor.data.data() + (columns.begin * stride + rows.begin) * size, stride, rows.size(),
       columns.size(), size, copy.data());
  slice.data = copy.data();
  return slice;
}

// The part of a matrix of 4-bit numbers as blocks: those that hold its columns.
result<kernels::weight_slice> weight_loader::converted(const stored_tensor& tensor, range rows,
                                                       range columns) {
  const std::int64_t block = kernels::info(tensor.type).block_elements;
  const range covering{columns.begin / block * block, (columns.end + block - 1) / block * block};
  kernels::weight_slice slice;
  slice.type = tensor.type;
  slice.stored_columns = covering.size();
  slice.row_end = rows.size();
  slice.column_begin = columns.begin - covering.begin;
  slice.column_end = columns.end - covering.begin;
  if (device_ == nullptr) return slice;
  auto& copy = made_.emplace_back(slice_bytes(slice));
  made_bytes_ += copy.size();
  DINFER_CHECK(to_q4_1(*tensor.int4, rows, covering, copy.data()));
  slice.data = copy.data();
  return slice;
}

result<kernels::weight_slice> weight_loader::cut(const stored_tensor& tensor, range rows,
                                                 range columns) {
  const range all_rows{0, tensor.shape.front()}, all_columns{0, tensor.shape.back()};
  if (!tensor.transposed && tensor.int4 == nullptr)
    return rows == all_rows ? slice_columns(tensor, columns) : slice_rows(tensor, rows);
  const auto inside = [](range part, range all) {
    return part.begin >= 0 && part.begin < part.end && part.end <= all.end;
  };
  const bool whole_elements =
      !tensor.data.empty() && kernels::info(tensor.type).block_elements == 1;
  if (!inside(rows, all_rows) || !inside(columns, all_columns) ||
      (tensor.transposed && !whole_elements))
    return fail(
        errc::unsupported,
        fmt::format("tensor {}: rows {} to {}, columns {} to {} of a {}{} matrix "
                    "are asked for",
                    tensor.name, rows.begin, rows.end, columns.begin, columns.end,
                    tensor.transposed ? "transposed " : "", kernels::info(tensor.type).name),
        tensor.name);
  return tensor.transposed ? turned(tensor, rows, columns) : converted(tensor, rows, columns);
}

result<weight_ptr> weight_loader::vector(const std::string& name, std::int64_t size) {
  if (listed(name, {size}, kernels::weight_role::vector)) return nullptr;
  DINFER_TRY(const stored_tensor* t, require_tensor(*source_, name, {size}));
  DINFER_TRY(const kernels::weight_slice slice, slice_all(*t));
  weight_ptr w = prepare(std::span(&slice, 1), kernels::weight_role::vector);
  if (w) replicated_bytes_ += w->bytes();
  return w;
}

result<weight_ptr> weight_loader::vector_parts(std::span<const row_part> parts) {
  std::vector<kernels::weight_slice> slices;
  for (const row_part& p : parts) {
    if (listed(p.name, {p.rows}, kernels::weight_role::vector)) continue;
    DINFER_TRY(const stored_tensor* t, require_tensor(*source_, p.name, {p.rows}));
    DINFER_TRY(slices.emplace_back(), slice_columns(*t, p.part));
  }
  if (list_ != nullptr) return nullptr;
  return prepare(slices, kernels::weight_role::vector);
}

result<weight_ptr> weight_loader::rows(std::span<const row_part> parts, kernels::weight_role role) {
  std::vector<kernels::weight_slice> slices;
  for (const row_part& p : parts) {
    if (listed(p.name, {p.rows, p.columns}, role)) continue;
    DINFER_TRY(const stored_tensor* t, require_tensor(*source_, p.name, {p.rows, p.columns}));
    DINFER_TRY(slices.emplace_back(), cut(*t, p.part, {0, p.columns}));
  }
  if (list_ != nullptr) return nullptr;
  return prepare(slices, role);
}

result<weight_ptr> weight_loader::columns(const std::string& name, std::int64_t rows,
                                          std::int64_t columns, range part) {
  if (listed(name, {rows, columns}, kernels::weight_role::matrix)) return nullptr;
  DINFER_TRY(const stored_tensor* t, require_tensor(*source_, name, {rows, columns}));
  DINFER_TRY(const kernels::weight_slice slice, cut(*t, {0, rows}, part));
  return prepare(std::span(&slice, 1), kernels::weight_role::matrix);
}

std::uint64_t cpu_bytes(const stored_tensor& tensor) noexcept {
  const bool expanded = tensor.type == kernels::dtype::f8_e4m3;
  return runtime::stored_bytes(tensor) * (expanded ? sizeof(float) : 1);
}

std::uint64_t f8_elements(const stored_tensor& tensor) noexcept {
  const bool by_row = tensor.scaling != nullptr && tensor.scaling->rows == 1;
  return by_row && tensor.scaling->stride == 1 ? runtime::stored_bytes(tensor) : 0;
}

std::uint64_t packed_bytes(const stored_tensor& tensor) noexcept {
  using kernels::cuda::packed_kind;
  std::int64_t elements = 1;
  for (const std::int64_t n : tensor.shape) elements *= n;
  if (tensor.shape.size() < 2) return static_cast<std::uint64_t>(elements) * sizeof(float);
  const std::int64_t rows = tensor.shape.front(), columns = tensor.shape.back();
  const packed_kind kind = kernels::cuda::packed_kind_of(tensor.type);
  const bool packed = kind != packed_kind::none && kernels::cuda::packed_takes(0, columns);
  return static_cast<std::uint64_t>(packed ? kernels::cuda::packed_bytes(kind, rows, columns)
                                           : 2 * elements);
}

std::uint64_t bytes_of(const weight_source& source, std::string_view prefix,
                       std::uint64_t (*bytes)(const stored_tensor&) noexcept) {
  std::uint64_t sum = 0;
  for (const stored_tensor& t : source.tensors()) {
    if (std::string_view(t.name).starts_with(prefix)) sum += bytes(t);
  }
  return sum;
}

}  // namespace dinfer::runtime
