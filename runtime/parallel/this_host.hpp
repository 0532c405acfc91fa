// SPDX-License-Identifier: Apache-2.0
// What this host has, as plans take it. Any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "runtime/parallel/placement.hpp"

namespace dinfer::runtime {

// But for devices with memory of their own.
host_facts this_machine();

// With the devices that `here` lists, asked before anything is loaded. Error: unsupported, a device
// that cannot be used.
result<host_facts> this_host(const node_section& here);

}  // namespace dinfer::runtime
