// SPDX-License-Identifier: Apache-2.0
// The model behind every family of plain decoders: embedding, layers of attention and MLP over the
// residual, final norm, head. What differs between families is in the shape, which a family's own
// file reads; that file makes its line of the registry with decoder_factory(). Any thread.
#pragma once

#include "runtime/models/model.hpp"

#include <memory>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

std::unique_ptr<model> make_decoder(const model_shape& shape, const rank_layout& layout);
result<weight_estimate> estimate_decoder(const model_shape& shape, const weight_source& source);
result<std::uint64_t> decoder_rank_bytes(const model_shape& shape, const rank_layout& layout,
                                         const weight_source& source);
result<std::vector<model_tensor>> decoder_tensors(const model_shape& shape);

constexpr model_factory decoder_factory(std::string_view architecture, std::string_view config_name,
                                        decltype(model_factory::read_gguf) read_gguf,
                                        decltype(model_factory::read_config) read_config) {
  return {architecture,  config_name,       read_gguf,           read_config,
          &make_decoder, &estimate_decoder, &decoder_rank_bytes, &decoder_tensors};
}

}  // namespace dinfer::runtime
