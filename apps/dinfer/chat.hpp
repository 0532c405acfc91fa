// SPDX-License-Identifier: Apache-2.0
// `dinfer chat`: talks to a running gateway from the terminal. Blocking, one thread.
#pragma once

#include "apps/dinfer/server.hpp"

#include <cstdint>
#include <string>

namespace dinfer::apps {

struct chat_options {
  server_options server;
  std::string question;            // asked first; empty: the prompt at once
  std::uint32_t wait_seconds = 0;  // for the server to become ready
  std::int32_t process = 0;        // server's process: waiting ends when it is gone
  std::string log;                 // of that process, shown when it ended early
  double began = 0;  // unix seconds: "first token after" counts from here; 0: the question
  std::uint32_t max_tokens = 512;
  double temperature = 0.2;
  std::uint64_t seed = 1;
};

// The exit code: 0, 2 (bad url), 5 (no server).
int chat(const chat_options& options);

}  // namespace dinfer::apps
