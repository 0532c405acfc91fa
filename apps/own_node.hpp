// SPDX-License-Identifier: Apache-2.0
// Which node of a configuration this host is. Any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <cstddef>
#include <set>
#include <string>

namespace dinfer::apps {

// Of this host's interfaces.
std::set<std::string> own_addresses();

// The node of `config` that this process is: the one named `name`; else the only one; else the one
// whose address is an address of this host. Errors: not_found, invalid_argument when several fit,
// listing the names.
result<std::size_t> find_node(const cluster_config& config, const std::string& name);

}  // namespace dinfer::apps
