// SPDX-License-Identifier: Apache-2.0
// /tokenize and /detokenize: body in, JSON out. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "net/http/server.hpp"

#include <string>
#include <string_view>

namespace dinfer::net {

result<std::string> tokenize_answer(std::string_view body, const served_model& model,
                                    std::int64_t now_unix);
result<std::string> detokenize_answer(std::string_view body, const served_model& model);

// Error: not_found, unless `asked` is empty or the model's name.
result<void> check_model_name(const std::string& asked, const served_model& model);

}  // namespace dinfer::net
