// SPDX-License-Identifier: Apache-2.0
// `dinfer check`: dinfer-node --check for every node that is on this host. Blocking, one thread.
#pragma once

#include "apps/setting_flags.hpp"

#include <string>

namespace dinfer::apps {

struct check_options {
  std::string config;
  setting_flags settings;
  bool json = false;
};

// The exit code: that of the nodes' dinfer-node --check, and 1 when they do not end.
int check(const check_options& options);

}  // namespace dinfer::apps
