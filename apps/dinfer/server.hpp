// SPDX-License-Identifier: Apache-2.0
// What the subcommands that talk to a gateway have in common. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "net/http/client.hpp"
#include "runtime/base/exit_code.hpp"

#include <string>

namespace dinfer::apps {

// How a subcommand ends, as docs/OPERATING.md has it.
inline constexpr int exit_refused = runtime::exit_failure;  // it answers, but does not serve
inline constexpr int exit_usage = runtime::exit_bad_config;
inline constexpr int exit_file = runtime::exit_bad_file;
inline constexpr int exit_no_server = runtime::exit_cluster;

struct server_options {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
};

// "http://host:port"; nothing else is served. Error: invalid_argument.
result<net::http_client::options> address_of(const server_options& server);

// What an answer that is not 200 says, with what to do about it.
std::string refusal_text(const net::client_response& answer, const std::string& url);

}  // namespace dinfer::apps
