// SPDX-License-Identifier: Apache-2.0
// The blobs that cross nodes: plans, results, submitted requests, batches of token events. Each
// begins with its kind and dinfer's protocol version, and must be read to its last byte. decode
// takes anything from the network: errors are errc::mismatch, and memory stays within a small
// multiple of the blob. Ranges of values are not checked here: runtime::validate() and the users of
// a plan do that. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "runtime/schedule/step.hpp"

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dinfer::runtime {

// Everything that one step meant for one gateway.
struct token_batch {
  std::vector<token_event> tokens;
  std::vector<std::pair<request_id, error>> rejected;  // never started
};

std::string encode(const step_plan& plan);
std::string encode(const step_result& result);
std::string encode(const generate_request& request);
std::string encode(const token_batch& batch);

result<step_plan> decode_plan(std::string_view bytes);
result<step_result> decode_result(std::string_view bytes);
result<generate_request> decode_request(std::string_view bytes);
result<token_batch> decode_batch(std::string_view bytes);

}  // namespace dinfer::runtime
