// SPDX-License-Identifier: Apache-2.0
// A byte mesh over one connected socket per peer and lane. What send() buffers is bounded by the
// kernel's socket buffers. Thread: the rank's; wake() from any.
#pragma once

#include "dinfer/error.hpp"
#include "net/comm/byte_mesh.hpp"
#include "net/comm/meeting.hpp"

#include <memory>

namespace dinfer::net {

result<std::unique_ptr<byte_mesh>> make_socket_mesh(peer_sockets sockets, std::int32_t rank,
                                                    std::int32_t size);

}  // namespace dinfer::net
