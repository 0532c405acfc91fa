// SPDX-License-Identifier: Apache-2.0
// How a GPU keeps a weight. Matrices are [rows, columns] of activations' type, contiguous along
// columns, whatever type was stored, or where that was asked for 8-bit floats with a scale a row
// (fp8.hpp), made of the values as they were stored; vectors are f32. What was stored as such
// floats with a scale a row stays as it is, elements and scales, where the GPU multiplies them.
// Where all that a matrix is made of was stored quantised in blocks, and 16-bit activations meet
// it, it is packed instead (packed_layout.hpp): in parts, one below the other, where slices are of
// different kinds; an embedding and a gate_up weight only if it takes one. A gate_up weight
// alternates eight gate rows and eight up rows, so that a product has a gate and its up eight
// columns apart: row r of gate is row 16 (r / 8) + r % 8, of up the same + 8; each half is filled
// up to a multiple of eight with rows of zeros. A slice of columns has scales of its own: those of
// its part of each row, or the stored ones. Thread: the device's own.
#pragma once

#include "kernels/cuda/fp8.hpp"
#include "kernels/cuda/packed_layout.hpp"
#include "kernels/cuda/upload.hpp"
#include "kernels/weight.hpp"

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace dinfer::kernels::cuda {

// Rows of a packed weight that are of one kind.
struct packed_rows {
  packed_kind kind = packed_kind::none;
  std::int64_t first_row = 0, rows = 0;
  std::int64_t begin = 0;  // byte of the weight's memory
};

class cuda_weight final : public weight {
 public:
  struct shape {
    weight_role role = weight_role::matrix;
    dtype type = dtype::f32;
    std::int64_t rows = 0, columns = 0;  // vectors: one row
    std::int64_t padded_rows = 0;        // in memory: rows, or more for gate_up
    std::vector<packed_rows> parts;      // of padded_rows; empty: not packed
  };

  cuda_weight(shape s, buffer memory, upload_queue& uploads)
      : shape_(std::move(s)), memory_(std::move(memory)), uploads_(uploads) {}
  // Waits for all uploads when there are any: they would write to memory that is gone.
  ~cuda_weight() override;
  cuda_weight(const cuda_weight&) = delete;
  cuda_weight& operator=(const cuda_weight&) = delete;

  std::int64_t rows() const noexcept override { return shape_.rows; }
  std::int64_t columns() const noexcept override { return shape_.columns; }
  std::uint64_t bytes() const noexcept override { return memory_.bytes(); }

  weight_role role() const noexcept { return shape_.role; }
  dtype type() const noexcept { return shape_.type; }
  const void* data() const noexcept { return memory_.data(); }
  std::int64_t padded_rows() const noexcept { return shape_.padded_rows; }
  bool packed() const noexcept { return !shape_.parts.empty(); }
  std::span<const packed_rows> parts() const noexcept { return shape_.parts; }
  packed_matrix matrix(const packed_rows& part) const noexcept {
    return {static_cast<const std::byte*>(data()) + part.begin, part.kind, part.rows,
            shape_.columns};
  }
  bool fp8() const noexcept { return shape_.type == dtype::f8_e4m3; }
  const float* scales() const noexcept {  // of padded_rows; null where there are none
    return fp8() ? f8_scales(data(), shape_.padded_rows, shape_.columns) : nullptr;
  }

 private:
  shape shape_;
  buffer memory_;
  upload_queue& uploads_;
};

// Prepares weights of one GPU. Outlives them.
class weight_uploader {
 public:
  using allocator = std::function<buffer(std::size_t bytes)>;

  // `fp8`: the GPU has products of 8-bit floats. `allocate` gives memory that every stream may use
  // at once.
  weight_uploader(int gpu, dtype activation, bool fp8, allocator allocate)
      : activation_(activation), fp8_(fp8), allocate_(std::move(allocate)), uploads_(gpu) {}

  // The weight's contents are on their way until finish(). Throws device_error.
  std::unique_ptr<cuda_weight> prepare(std::span<const weight_slice> slices, weight_role role,
                                       const prepare_options& options);
  // Before the first use of any weight, and before what slices point to goes; costs nothing when
  // all is there. Throws device_error: what failed on the way.
  void finish() { uploads_.finish(); }

 private:
  void add_packed(std::span<const weight_slice> slices, const cuda_weight& made);
  void add(const weight_slice& slice, placed_rows to);
  void add_kept(const weight_slice& slice, placed_rows to);
  void add_zeros(std::int64_t rows, std::int64_t columns, const placed_rows& to);

  dtype activation_;
  bool fp8_;
  allocator allocate_;
  upload_queue uploads_;
};

}  // namespace dinfer::kernels::cuda
