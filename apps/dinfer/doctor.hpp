// SPDX-License-Identifier: Apache-2.0
// `dinfer doctor`: what of this host would keep a node from serving, or slow it down, before one is
// started. Opens no port for longer than a moment and loads no weight. One thread.
#pragma once

#include <string>

namespace dinfer::apps {

struct doctor_options {
  std::string config;  // cluster.conf; empty: only what concerns any node
  std::string node;    // which of its nodes this host is; empty: found by address
  bool json = false;
};

// The exit code: 0, 1 (something fails), 2 (flags).
int doctor(const doctor_options& options);

}  // namespace dinfer::apps
