// SPDX-License-Identifier: Apache-2.0
// A node in somebody else's actor system, made of parts of the caller's choice: spawn_node() of
// dinfer/caf.hpp with the real ones, tests with others. Any thread.
#pragma once

#include "actors/node_process.hpp"
#include "dinfer/caf.hpp"

namespace dinfer::actors {

// `options.system` and `options.make_own_front` are filled in. Errors: as node_process::start().
result<embedded_node> embed(caf::actor_system& system, node_options options);

}  // namespace dinfer::actors
