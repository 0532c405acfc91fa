// SPDX-License-Identifier: Apache-2.0
// What a checkpoint's generation_config.json says about requests: how tokens are drawn unless a
// request says otherwise. Its end-of-sequence tokens are read with the shape. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

#include <string_view>

namespace dinfer::runtime {

class weight_source;

inline constexpr std::string_view generation_config_key = "generation_config.json";

// temperature, top_k, top_p, min_p and repetition_penalty; without such a file, or without a key,
// a request's own defaults. Error: bad_file, naming the key and what fits.
result<sampling_params> read_sampling_defaults(const weight_source& source);

}  // namespace dinfer::runtime
