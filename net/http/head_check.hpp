// SPDX-License-Identifier: Apache-2.0
// Refuses every request head that two parsers could read differently: request smuggling lives on
// what a lenient parser lets through (obsolete folding, doubtful Transfer-Encoding, repeated Host
// or Content-Length). Runs on the raw bytes before Beast sees them. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dinfer::net {

struct head_problem {
  unsigned status = 400;
  std::string_view message;
};

// `head` ends with the empty line. nullopt: the head is beyond doubt (RFC 9112).
std::optional<head_problem> check_head(std::string_view head, std::uint32_t fields_max);

}  // namespace dinfer::net
