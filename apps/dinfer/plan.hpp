// SPDX-License-Identifier: Apache-2.0
// `dinfer plan`: who would hold what, as `dinfer-node --plan` prints it, for hosts that need not be
// there. One thread.
#pragma once

#include "apps/setting_flags.hpp"

#include <cstdint>
#include <string>

namespace dinfer::apps {

struct plan_options {
  std::string config;
  setting_flags settings;
  // What every host of the cluster has; empty or 0: what this one has.
  std::string device_memory, host_memory;
  std::uint32_t cores = 0;
  bool json = false;
};

// The exit code: 0, 1 (it does not fit), 2 (flags, configuration), 3 (the model's files).
int plan(const plan_options& options);

}  // namespace dinfer::apps
