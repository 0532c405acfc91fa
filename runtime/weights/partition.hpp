// SPDX-License-Identifier: Apache-2.0
// Which bytes of which stored tensor a rank needs. Models ask for slices by ranges of their layout;
// whatever the file says about type and shape is checked here before a kernel reads by it. Pure;
// any thread.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/ops.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/weights/source.hpp"

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace dinfer::runtime {

// A tensor of exactly this row-major shape. Errors: bad_file, naming the tensor, its shape and the
// one that would fit.
result<const stored_tensor*> require_tensor(const weight_source& source, std::string_view name,
                                            std::initializer_list<std::int64_t> shape);

// The whole of it, or whole rows, or a range of every row. A vector [n] is one row of n columns.
// Of a tensor that is stored as it is read: not transposed, not made of other numbers. Errors:
// bad_file (not one or two dimensions), unsupported (the range lies outside): both name the tensor.
result<kernels::weight_slice> slice_all(const stored_tensor& tensor);
result<kernels::weight_slice> slice_rows(const stored_tensor& tensor, range rows);
result<kernels::weight_slice> slice_columns(const stored_tensor& tensor, range columns);

// Bytes of the file that a slice covers, blocks that it cuts through included.
std::uint64_t slice_bytes(const kernels::weight_slice& slice) noexcept;

}  // namespace dinfer::runtime
