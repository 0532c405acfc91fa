// SPDX-License-Identifier: Apache-2.0
// kernels::communicator over frames: the same code for shared memory and TCP, so all wires give the
// same bits. Thread: the rank's; abort() from any.
#pragma once

#include "kernels/communicator.hpp"
#include "net/comm/byte_mesh.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::net {

// peers[i]: how messages name rank i. timeout: of every operation.
std::unique_ptr<kernels::communicator> make_communicator(std::unique_ptr<byte_mesh> mesh,
                                                         const std::string& group,
                                                         std::vector<std::string> peers,
                                                         std::chrono::milliseconds timeout);

}  // namespace dinfer::net
