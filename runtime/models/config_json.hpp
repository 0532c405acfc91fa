// SPDX-License-Identifier: Apache-2.0
// The shape of a model from a Hugging Face style config.json. The text is hostile: every number has
// a range, and what would change the model's result and is not built is refused by name. Pure; any
// thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/models/model_config.hpp"

#include <string>
#include <string_view>

namespace dinfer::runtime {

// `file` stands in messages, `name` becomes the shape's. Errors: bad_file (not JSON, a key is
// missing, of the wrong type or out of range), unsupported (another architecture, or a feature that
// is not built); the subject is the key.
result<model_shape> parse_config_json(std::string_view text, const std::string& file,
                                      const std::string& name);

}  // namespace dinfer::runtime
