// SPDX-License-Identifier: Apache-2.0
// Checked rectangles of stored tensors.
#include "runtime/weights/partition.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dinfer::runtime {
namespace {

result<void> check_inside(const stored_tensor& tensor, std::string_view what, range part,
                          std::int64_t size) {
  if (part.begin >= 0 && part.begin < part.end && part.end <= size) return {};
  return fail(errc::unsupported,
              fmt::format("tensor {}: {} {} to {} are asked for; it has {}", tensor.name, what,
                          part.begin, part.end, size),
              tensor.name);
}

}  // namespace

result<const stored_tensor*> require_tensor(const weight_source& source, std::string_view name,
                                            std::initializer_list<std::int64_t> shape) {
  const stored_tensor* tensor = source.find(name);
  if (tensor == nullptr)
    return fail(errc::bad_file, fmt::format("tensor {}: is missing", name), std::string(name));
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()))
    return fail(errc::bad_file,
                fmt::format("tensor {}: has shape [{}]; the model's sizes ask for [{}]", name,
                            fmt::join(tensor->shape, ", "), fmt::join(shape, ", ")),
                std::string(name));
  return tensor;
}

result<kernels::weight_slice> slice_all(const stored_tensor& tensor) {
  const std::size_t rank = tensor.shape.size();
  if (rank != 1 && rank != 2)
    return fail(errc::bad_file, fmt::format("tensor {}: has {} dimensions", tensor.name, rank),
                tensor.name);
  DINFER_ASSERT(!tensor.transposed && tensor.int4 == nullptr);
  kernels::weight_slice slice;
  slice.data = tensor.data.empty() ? nullptr : tensor.data.data();
  slice.made_up = tensor.made_up;
  slice.type = tensor.type;
  if (tensor.scaling != nullptr) {
    const f8_scaling& s = *tensor.scaling;
    slice.scales = {s.values.data(), s.rows, s.columns, s.stride};
  }
  slice.stored_columns = tensor.shape.back();
  slice.row_end = rank == 2 ? tensor.shape.front() : 1;
  slice.column_end = tensor.shape.back();
  return slice;
}

result<kernels::weight_slice> slice_rows(const stored_tensor& tensor, range rows) {
  DINFER_TRY(auto slice, slice_all(tensor));
  DINFER_CHECK(check_inside(tensor, "rows", rows, slice.row_end));
  slice.row_begin = rows.begin;
  slice.row_end = rows.end;
  return slice;
}

result<kernels::weight_slice> slice_columns(const stored_tensor& tensor, range columns) {
  DINFER_TRY(auto slice, slice_all(tensor));
  DINFER_CHECK(check_inside(tensor, "columns", columns, slice.stored_columns));
  slice.column_begin = columns.begin;
  slice.column_end = columns.end;
  return slice;
}

std::uint64_t slice_bytes(const kernels::weight_slice& slice) noexcept {
  const auto type = kernels::info(slice.type);
  const std::int64_t first = slice.column_begin / type.block_elements;
  const std::int64_t end = (slice.column_end + type.block_elements - 1) / type.block_elements;
  const std::int64_t row = (end - first) * type.block_bytes;
  return static_cast<std::uint64_t>((slice.row_end - slice.row_begin) * row);
}

}  // namespace dinfer::runtime
