// SPDX-License-Identifier: Apache-2.0
// Matrices that a checkpoint stores in several tensors: 8-bit floats and their scales, words of
// 4-bit numbers with scales and zeros. Which are so, the tensors' names and types say; a matrix
// that lies there as a plain weight stays one, whatever quantization_config says about it. Their
// parts may lie in different files. Used while a checkpoint is opened; thread: any.
//
//   q_proj.weight (F8_E4M3)   with weight_scale or weight_scale_inv
//   q_proj.qweight            with scales, qzeros and perhaps g_idx
//   q_proj.weight_packed      with weight_scale and perhaps weight_zero_point, weight_shape,
//                             weight_g_idx
//
// Scales of activations and of keys and values (input_scale, k_scale, ...) are left out: the former
// are found while serving, the latter are not 8-bit floats here.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/models/quantization_config.hpp"
#include "runtime/weights/safetensors.hpp"
#include "runtime/weights/source.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class quantised_parts {
 public:
  explicit quantised_parts(const quantization& how) : how_(how) {}

  // Takes an entry of a file that belongs to such a matrix; false: it is a plain tensor. Error:
  // bad_file (it stands twice).
  result<bool> take(const safetensors_entry& entry, const std::string& file);

  // The matrices of all that was taken, named as the checkpoint's plain weights are. Errors:
  // bad_file (a part is missing, has a type or shape that does not fit, or holds what no scale can
  // be), unsupported (columns in another order than their groups); each names tensor and file.
  result<std::vector<stored_tensor>> matrices() const;

  std::size_t left_out() const noexcept { return left_out_; }  // scales, see above

 private:
  struct part {
    safetensors_entry entry;
    std::string file;
  };
  struct module;

  quantization how_;
  std::size_t left_out_ = 0;
  std::map<std::string, std::map<std::string, part, std::less<>>, std::less<>> modules_;
};

}  // namespace dinfer::runtime
