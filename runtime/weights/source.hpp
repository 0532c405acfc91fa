// SPDX-License-Identifier: Apache-2.0
// Tensors by name, whatever the file format, mapped read-only; nothing is read before it is
// touched. Files are hostile: every offset, count and product was checked when the source was
// opened. Thread: const calls from any.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "kernels/tensor.hpp"
#include "kernels/weight.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// What the elements of a matrix of f8_e4m3 are multiplied by: kernels::weight_scales says which.
struct f8_scaling {
  std::vector<float> values;
  std::int64_t rows = 1, columns = 1, stride = 1;
};

struct int4_matrix;  // int4.hpp

struct stored_tensor {
  std::string name;
  kernels::dtype type = kernels::dtype::f32;
  std::vector<std::int64_t> shape;  // row-major: [rows, columns] or [n]
  std::span<const std::byte> data;  // into the mapping; empty: the tensor is made up
  kernels::made_up_weights made_up = {};
  bool transposed = false;                         // the data are [columns, rows]
  std::shared_ptr<const f8_scaling> scaling = {};  // of f8_e4m3
  std::shared_ptr<const int4_matrix> int4 = {};    // without data: q4_1 that is made of these
};

// Of its data, or what they would be: of 8-bit floats, and of blocks made of 4-bit numbers.
std::uint64_t stored_bytes(const stored_tensor& tensor) noexcept;

class weight_source {
 public:
  virtual ~weight_source() = default;
  virtual const std::vector<stored_tensor>& tensors() const noexcept = 0;
  virtual const stored_tensor* find(std::string_view name) const noexcept = 0;

  // Metadata, by the format's own keys ("llama.block_count"). nullopt: absent or of another type.
  // Without a GGUF file there are texts alone: whole files by their names, and general.name.
  virtual std::optional<std::string_view> text(std::string_view key) const = 0;
  virtual std::optional<std::int64_t> integer(std::string_view) const { return {}; }
  virtual std::optional<double> number(std::string_view) const { return {}; }
  virtual std::optional<bool> boolean(std::string_view) const { return {}; }
  virtual std::optional<std::span<const std::string_view>> texts(std::string_view) const {
    return {};
  }
  virtual std::optional<std::vector<std::int64_t>> integers(std::string_view) const { return {}; }
  virtual std::optional<std::vector<double>> numbers(std::string_view) const { return {}; }

  virtual std::string_view format() const noexcept = 0;  // "gguf", "safetensors", "config.json"
  virtual std::uint64_t file_bytes() const noexcept = 0;
  // SHA-256 over names, sizes, headers and 64 sampled 4 KB pages (`full`: every byte), in hex.
  // Nodes compare it.
  virtual std::string fingerprint(bool full) const = 0;
};

// Opens a .gguf file or a Hugging Face checkpoint (safetensors.hpp), or a directory that holds one
// of them; with load_format::random a config.json or its directory, and weights made up from
// `seed`. Errors: not_found, invalid_argument (the directory holds more than one model, which are
// named), bad_file (what is wrong and where), unsupported (a tensor type or format that this build
// does not read).
result<std::unique_ptr<weight_source>> open_weights(const std::string& path,
                                                    load_format format = load_format::automatic,
                                                    std::uint64_t seed = 0);

}  // namespace dinfer::runtime
