// SPDX-License-Identifier: Apache-2.0
// Where the members of a group find each other before a deadline. Thread: each member's own.
// Errors: timeout and peer_lost, naming the member; cancelled.
#pragma once

#include "net/comm/byte_mesh.hpp"
#include "net/comm/card.hpp"
#include "net/comm/door.hpp"
#include "net/comm/lending.hpp"
#include "net/comm/shared_memory.hpp"
#include "net/comm/stream.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dinfer::net {

struct meeting {
  std::string group;
  std::span<const card> members;
  std::int32_t index = 0;
  wait_limit limit;
  std::shared_ptr<const tls_identity> own = nullptr;  // for TCP; null: without TLS

  std::int32_t size() const { return static_cast<std::int32_t>(members.size()); }
  std::uint64_t key() const { return group_key(group, members); }
};

// "rank 2 (b/cpu:1 at 10.0.0.2:41234)", and without "rank 2" for tables.
std::string member_name(const meeting& of, std::int32_t member);
std::string member_place(const card& member);

// What all members, threads of this process, share. The first to come makes it.
struct common_room {
  std::shared_ptr<shared_memory> memory;
  std::shared_ptr<lending> loans;
};
result<common_room> meet_in_process(const meeting& of);

// One connection per lane to every other member: sockets[lane][member]. Each member dials those
// before it and is dialled by those after it; both ends prove that they hold the other's card.
using peer_sockets = std::array<std::vector<stream>, lane_count>;
result<peer_sockets> meet_by_socket(const meeting& of, door& own, wire_kind kind,
                                    std::int32_t lanes);

// Member 0 makes the memory and hands it to the others over sockets[0].
result<std::shared_ptr<shared_memory>> share_memory(const meeting& of, const peer_sockets& sockets,
                                                    std::size_t bytes);

}  // namespace dinfer::net
