// SPDX-License-Identifier: Apache-2.0
// From cards to communicators: opens the door, picks the wire, meets the group.
#include "net/comm/transport.hpp"

#include "net/comm/card.hpp"
#include "net/comm/collectives.hpp"
#include "net/comm/door.hpp"
#include "net/comm/meeting.hpp"
#include "net/comm/ring_mesh.hpp"
#include "net/comm/socket_mesh.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace dinfer::net {
namespace {

constexpr std::size_t most_members = 1024;

class cpu_transport final : public runtime::transport {
 public:
  explicit cpu_transport(const cpu_transport_options& options) : options_(options) {}

  result<std::string> card() override {
    if (door_ == nullptr) {
      own_.secret = make_nonce();
      DINFER_TRY(door_, door::open(options_.address, own_.secret, options_.own));
      own_.host = this_host();
      own_.process = this_process();
      own_.choice = options_.choice;
      own_.address = options_.address;
      own_.port = door_->port();
      own_.name = options_.name;
    }
    return write_card(own_);
  }

  result<std::unique_ptr<kernels::communicator>> join(const std::string& group,
                                                      std::span<const std::string> cards,
                                                      std::int32_t index,
                                                      runtime::join_limit limit) override {
    if (index < 0 || static_cast<std::size_t>(index) >= cards.size() || cards.size() > most_members)
      return fail(errc::invalid_argument,
                  fmt::format("group {}: member {} of {}", group, index, cards.size()));
    std::vector<net::card> members;
    for (const auto& text : cards) {
      DINFER_TRY(auto one, read_card(text));
      members.push_back(std::move(one));
    }
    if (door_ == nullptr ||
        !same_nonce(members[static_cast<std::size_t>(index)].secret, own_.secret))
      return fail(errc::invalid_argument,
                  fmt::format("group {}: card {} is not this rank's", group, index));
    DINFER_TRY(const auto kind, choose_wire(members));
    const meeting here{
        group, members, index, {clock::now() + limit.deadline, limit.aborted}, options_.own};
    DINFER_TRY(auto mesh, meet(here, kind));
    std::vector<std::string> places;
    for (const auto& one : members) places.push_back(member_place(one));
    return make_communicator(std::move(mesh), group, std::move(places), options_.timeout);
  }

 private:
  result<std::unique_ptr<byte_mesh>> meet(const meeting& here, wire_kind kind) {
    if (kind == wire_kind::local) {
      DINFER_TRY(auto shared, meet_in_process(here));
      return make_ring_mesh(std::move(shared.memory), std::move(shared.loans), here.index,
                            here.size());
    }
    const bool tcp = kind == wire_kind::tcp;
    DINFER_TRY(auto sockets, meet_by_socket(here, *door_, kind, tcp ? lane_count : 1));
    if (tcp) return make_socket_mesh(std::move(sockets), here.index, here.size());
    DINFER_TRY(auto memory, share_memory(here, sockets, ring_mesh_bytes(here.size())));
    return make_ring_mesh(std::move(memory), std::move(sockets[0]), here.index, here.size());
  }

  cpu_transport_options options_;
  net::card own_;
  std::unique_ptr<door> door_;
};

}  // namespace

std::unique_ptr<runtime::transport> make_cpu_transport(const cpu_transport_options& options) {
  return std::make_unique<cpu_transport>(options);
}

}  // namespace dinfer::net
