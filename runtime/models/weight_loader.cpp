// SPDX-License-Identifier: Apache-2.0
// Shape checks, slicing and byte counts of a rank's weights. Files are hostile: a tensor is used
// only when its shape is exactly what the model expects.
#include "runtime/models/weight_loader.hpp"

#include "runtime/weights/partition.hpp"

#include <vector>

namespace dinfer::runtime {

weight_ptr weight_loader::prepare(std::span<const kernels::weight_slice> slices,
                                  kernels::weight_role role) {
  for (const auto& s : slices) stored_bytes_ += slice_bytes(s);
  if (device_ == nullptr) return nullptr;
  weight_ptr w = device_->ops().prepare(slices, role, options_);
  weight_bytes_ += w->bytes();
  if (*progress_) (*progress_)(stored_bytes_, total_);
  return w;
}

result<weight_ptr> weight_loader::vector(const std::string& name, std::int64_t size) {
  DINFER_TRY(const stored_tensor* t, require_tensor(*source_, name, {size}));
  DINFER_TRY(const kernels::weight_slice slice, slice_all(*t));
  weight_ptr w = prepare(std::span(&slice, 1), kernels::weight_role::vector);
  if (w) replicated_bytes_ += w->bytes();
  return w;
}

result<weight_ptr> weight_loader::rows(std::span<const row_part> parts, kernels::weight_role role) {
  std::vector<kernels::weight_slice> slices;
  for (const row_part& p : parts) {
    DINFER_TRY(const stored_tensor* t, require_tensor(*source_, p.name, {p.rows, p.columns}));
    DINFER_TRY(slices.emplace_back(), slice_rows(*t, p.part));
  }
  return prepare(slices, role);
}

result<weight_ptr> weight_loader::columns(const std::string& name, std::int64_t rows,
                                          std::int64_t columns, range part) {
  DINFER_TRY(const stored_tensor* t, require_tensor(*source_, name, {rows, columns}));
  DINFER_TRY(const kernels::weight_slice slice, slice_columns(*t, part));
  return prepare(std::span(&slice, 1), kernels::weight_role::matrix);
}

std::uint64_t stored_bytes_of(const weight_source& source, std::string_view prefix) {
  std::uint64_t bytes = 0;
  for (const stored_tensor& t : source.tensors()) {
    if (std::string_view(t.name).starts_with(prefix)) bytes += stored_bytes(t);
  }
  return bytes;
}

}  // namespace dinfer::runtime
