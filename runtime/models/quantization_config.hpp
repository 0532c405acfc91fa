// SPDX-License-Identifier: Apache-2.0
// How the matrices of a Hugging Face checkpoint are stored: quantization_config of its config.json.
// The text is hostile; what this build does not read is refused by name, with what it does. Which
// matrices are stored so, their tensors say (weights/quantised_parts.hpp). Pure; any thread.
#pragma once

#include "dinfer/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace dinfer::runtime {

enum class quant_method : std::uint8_t {
  none,
  f8,              // "fp8", and "compressed-tensors" of format "float-quantized"
  gptq,            // 4 bits
  awq,             // 4 bits, version "gemm"
  pack_quantized,  // "compressed-tensors" of that format, 4 bits
};

struct quantization {
  quant_method method = quant_method::none;
  std::int32_t group = 0;  // columns of a matrix of 4 bits that share a scale; 0: all of a row
  // Of 8-bit floats with a scale for every so many rows and columns; 0: a scale a row or a matrix.
  std::int32_t block_rows = 0, block_columns = 0;
  bool zeros_less_one = false;  // gptq's first convention
};

// `file` stands in messages. Errors: bad_file, unsupported; the subject is the key.
result<quantization> read_quantization(std::string_view config_json, const std::string& file);

}  // namespace dinfer::runtime
