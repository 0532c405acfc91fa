// SPDX-License-Identifier: Apache-2.0
// CAF's connections to other nodes, over TLS where the cluster has certificates. CAF's own OpenSSL
// module is not used: it reads the files again at each connection and ends the process when it
// cannot, keeps silent strangers for ever, and falls back to TLS without any certificate.
#pragma once

#include "actors/interfaces.hpp"
#include "net/tls/identity.hpp"

#include <caf/io/middleman_actor.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace dinfer::actors {

using network_actor = caf::io::middleman_actor;

// Connects and listens. Null `own`: plain TCP, by the actor that the system has for it. Needs the
// middleman.
network_actor spawn_network(caf::actor_system& system,
                            std::shared_ptr<const net::tls_identity> own);

// Listens; `published` is what others find there, and may be null. Blocks. Error: io_error.
result<void> open_port(caf::actor_system& system, const network_actor& network,
                       const directory_actor& published, const std::string& address,
                       std::uint16_t port);

// Before the system ends.
void end_network(network_actor& network, bool with_tls);

}  // namespace dinfer::actors
