// SPDX-License-Identifier: Apache-2.0
// Bodies of the OpenAI endpoints to values. What is wrong is an invalid_argument whose subject is
// the field; known fields that would change the meaning but are not served are refused, unknown
// ones are ignored and listed. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "net/openai/types.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace dinfer::net {

// `defaults`: of the model, for what a body leaves out.
result<generate_call> parse_completion(std::string_view body, const sampling_params& defaults = {});
result<generate_call> parse_chat(std::string_view body, const sampling_params& defaults = {});
// The names of all fields that such a body may have.
std::vector<std::string> known_fields(call_kind kind);
result<tokenize_call> parse_tokenize(std::string_view body);
result<detokenize_call> parse_detokenize(std::string_view body);

}  // namespace dinfer::net
