// SPDX-License-Identifier: Apache-2.0
// Which nodes of a configuration this host is. Any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace dinfer::apps {

// The only node; of several those whose name is this host's or whose address is one of its own, the
// loopback's included. Those that another keeps are left out: it starts them.
std::vector<std::size_t> nodes_here(const cluster_config& config);

// "a (10.0.0.1), b (10.0.0.2)".
std::string names_of(const cluster_config& config, const std::vector<std::size_t>& nodes);

// The node of `config` that this process is: the one named `name`; else the one that is here.
// Errors: not_found, invalid_argument when several fit, listing the names.
result<std::size_t> find_node(const cluster_config& config, const std::string& name);

}  // namespace dinfer::apps
