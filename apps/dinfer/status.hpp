// SPDX-License-Identifier: Apache-2.0
// `dinfer status`: nodes, ranks, engine and load of a running cluster, as its gateway tells them.
// Blocking, one thread.
#pragma once

#include "apps/dinfer/server.hpp"

namespace dinfer::apps {

struct status_options {
  server_options server;
  double watch_seconds = 0;  // 0: once
  bool json = false;
};

// The exit code: 0 (it serves), 1 (it does not), 2 (flags), 5 (no answer, or no leave to ask).
int status(const status_options& options);

}  // namespace dinfer::apps
