// SPDX-License-Identifier: Apache-2.0
// A byte mesh in shared memory: one ring per ordered pair and lane, one writer and one reader each,
// and a bell per rank that its peers ring. A rank that waits helps its peers or spins shortly
// (yields, where there are more ranks than cores), then sleeps on its bell, so idle ranks cost no
// processor time. Thread: the rank's; wake() from any.
#pragma once

#include "net/comm/byte_mesh.hpp"
#include "net/comm/lending.hpp"
#include "net/comm/shared_memory.hpp"
#include "net/comm/stream.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dinfer::net {

// Bytes that a group of `size` ranks needs. Pages are taken from the system when first used.
std::size_t ring_mesh_bytes(std::int32_t size);

// `memory` starts as zeros. Of ranks that are threads of one process, who may show each other
// tensors.
std::unique_ptr<byte_mesh> make_ring_mesh(std::shared_ptr<shared_memory> memory,
                                          std::shared_ptr<lending> loans, std::int32_t rank,
                                          std::int32_t size);
// Of processes. `liveness[peer]`: a socket to the peer's process, closed when it dies.
std::unique_ptr<byte_mesh> make_ring_mesh(std::shared_ptr<shared_memory> memory,
                                          std::vector<stream> liveness, std::int32_t rank,
                                          std::int32_t size);

}  // namespace dinfer::net
