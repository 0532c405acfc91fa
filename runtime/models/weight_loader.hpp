// SPDX-License-Identifier: Apache-2.0
// Turns named tensors of a file into prepared weights, checks their shapes and counts their bytes.
// Without a device it only measures: the same model code then tells, from headers alone, what a
// rank will hold. Used by models while they load; thread: the shard's.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/models/model.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/weights/source.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace dinfer::runtime {

using weight_ptr = std::unique_ptr<kernels::weight>;

// Rows of a stored matrix [rows, columns] that a rank takes.
struct row_part {
  std::string name;
  std::int64_t rows = 0, columns = 0;  // of the whole matrix
  range part;
};

class weight_loader {
 public:
  // Measures: every call returns a null weight and counts stored bytes.
  explicit weight_loader(const weight_source& source) : source_(&source) {}
  // Loads; `progress` hears of every tensor, against `total` stored bytes.
  weight_loader(const weight_source& source, kernels::device& device,
                const kernels::prepare_options& options, std::uint64_t total,
                const load_progress& progress)
      : source_(&source),
        device_(&device),
        options_(options),
        total_(total),
        progress_(&progress) {}

  // A whole vector [size], the same on every rank of the stage.
  result<weight_ptr> vector(const std::string& name, std::int64_t size);
  // Parts of matrices stacked by rows: a column-parallel linear, gate_up or an embedding.
  result<weight_ptr> rows(std::span<const row_part> parts, kernels::weight_role role);
  // Columns `part` of a matrix [rows, columns]: a row-parallel linear.
  result<weight_ptr> columns(const std::string& name, std::int64_t rows, std::int64_t columns,
                             range part);

  std::uint64_t stored_bytes() const noexcept { return stored_bytes_; }  // read from the file
  std::uint64_t weight_bytes() const noexcept { return weight_bytes_; }  // held on the device
  std::uint64_t replicated_bytes() const noexcept { return replicated_bytes_; }

 private:
  weight_ptr prepare(std::span<const kernels::weight_slice> slices, kernels::weight_role role);

  const weight_source* source_;
  kernels::device* device_ = nullptr;
  kernels::prepare_options options_;
  std::uint64_t total_ = 0;
  const load_progress* progress_ = nullptr;
  std::uint64_t stored_bytes_ = 0, weight_bytes_ = 0, replicated_bytes_ = 0;
};

// Stored bytes of every tensor whose name starts with `prefix`.
std::uint64_t stored_bytes_of(const weight_source& source, std::string_view prefix);

}  // namespace dinfer::runtime
