// SPDX-License-Identifier: Apache-2.0
// A small random llama model in a GGUF file, and what it must compute: a naive forward pass in
// double precision that shares nothing with the engine.
#pragma once

#include "dinfer/request.hpp"
#include "kernels/tensor.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace dinfer::tests {

struct tiny_llama_options {
  int layers = 4, hidden = 64, heads = 6, kv_heads = 3, head_dim = 16, mlp = 160, vocabulary = 97;
  int positions = 128;
  bool tied = true;
  kernels::dtype matrices = kernels::dtype::f32;  // or q4_1, q8_0, q4_k; others stay f32
  std::uint64_t seed = 7;
};

class tiny_llama {
 public:
  explicit tiny_llama(const tiny_llama_options& options);
  ~tiny_llama();  // removes the file
  tiny_llama(const tiny_llama&) = delete;
  tiny_llama& operator=(const tiny_llama&) = delete;

  const std::string& path() const { return path_; }
  const tiny_llama_options& options() const { return options_; }

  // Logits after every token of a sequence: [tokens][vocabulary].
  std::vector<std::vector<double>> logits(std::span<const token_id> tokens) const;
  // Whether `output` is what greedy decoding draws after `prompt`.
  bool greedy_after(const std::vector<token_id>& prompt, const std::vector<token_id>& output) const;
  // The sequence with `count` greedy tokens appended.
  std::vector<token_id> greedy(std::vector<token_id> tokens, int count) const;

 private:
  struct matrix {
    int rows = 0, columns = 0;
    std::vector<double> values;
    std::vector<double> times(std::span<const double> x) const;
  };
  void attend(const std::string& layer, std::vector<std::vector<double>>& residual) const;
  void widen(const std::string& layer, std::vector<std::vector<double>>& residual) const;
  std::vector<double> normed(const std::string& gain, std::span<const double> x) const;
  void rotate(std::span<double> head, std::size_t position) const;

  tiny_llama_options options_;
  std::string path_;
  std::map<std::string, matrix> weights_;
};

std::vector<double> log_softmax(std::span<const double> logits);

}  // namespace dinfer::tests
