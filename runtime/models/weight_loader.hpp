// SPDX-License-Identifier: Apache-2.0
// Turns named tensors of a file into prepared weights, checks their shapes and counts their bytes.
// Without a device it only measures: the same model code then tells, from headers alone, what a
// rank will hold; without a source it lists what the model would ask for. Used by models while they
// load; thread: the shard's.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/models/model.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/weights/source.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

using weight_ptr = std::unique_ptr<kernels::weight>;

// Rows of a stored matrix [rows, columns] that a rank takes, or elements of a vector [rows].
struct row_part {
  std::string name;
  std::int64_t rows = 0, columns = 0;  // of the whole matrix
  range part;
};

class weight_loader {
 public:
  // Lists, and measures: every call returns a null weight and notes a tensor, or counts bytes.
  explicit weight_loader(std::vector<model_tensor>& list) : list_(&list) {}
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
  ~weight_loader();  // waits for the device when it may still be reading what was made for it
  weight_loader(const weight_loader&) = delete;
  weight_loader& operator=(const weight_loader&) = delete;

  // A whole vector [size], the same on every rank of the stage.
  result<weight_ptr> vector(const std::string& name, std::int64_t size);
  // Parts of vectors laid end to end: the bias of such a linear.
  result<weight_ptr> vector_parts(std::span<const row_part> parts);
  // Parts of matrices stacked by rows: a column-parallel linear, gate_up or an embedding.
  result<weight_ptr> rows(std::span<const row_part> parts, kernels::weight_role role);
  // Columns `part` of a matrix [rows, columns]: a row-parallel linear.
  result<weight_ptr> columns(const std::string& name, std::int64_t rows, std::int64_t columns,
                             range part);

  std::uint64_t stored_bytes() const noexcept { return stored_bytes_; }  // read from the file
  std::uint64_t weight_bytes() const noexcept { return weight_bytes_; }  // held on the device
  std::uint64_t replicated_bytes() const noexcept { return replicated_bytes_; }

 private:
  bool listed(const std::string& name, std::vector<std::int64_t> shape, kernels::weight_role role);
  weight_ptr prepare(std::span<const kernels::weight_slice> slices, kernels::weight_role role);
  result<kernels::weight_slice> cut(const stored_tensor& tensor, range rows, range columns);
  kernels::weight_slice turned(const stored_tensor& tensor, range rows, range columns);
  result<kernels::weight_slice> converted(const stored_tensor& tensor, range rows, range columns);
  void drop_made();

  std::vector<model_tensor>* list_ = nullptr;
  const weight_source* source_ = nullptr;
  kernels::device* device_ = nullptr;
  kernels::prepare_options options_;
  std::uint64_t total_ = 0;
  const load_progress* progress_ = nullptr;
  std::vector<std::vector<std::byte>> made_;  // copies that the device may still be reading
  std::uint64_t made_bytes_ = 0;
  std::uint64_t stored_bytes_ = 0, weight_bytes_ = 0, replicated_bytes_ = 0;
};

// Of a whole tensor on a CPU, which expands 8-bit floats.
std::uint64_t cpu_bytes(const stored_tensor& tensor) noexcept;
// Of 8-bit floats with a scale a row.
std::uint64_t f8_elements(const stored_tensor& tensor) noexcept;

// Of a whole tensor on a GPU that keeps what is quantised packed, vectors in f32 and other matrices
// in 16 bits.
std::uint64_t packed_bytes(const stored_tensor& tensor) noexcept;

// Sum of bytes(tensor) over all tensors whose names start with `prefix`.
std::uint64_t bytes_of(const weight_source& source, std::string_view prefix,
                       std::uint64_t (*bytes)(const stored_tensor&) noexcept);

}  // namespace dinfer::runtime
