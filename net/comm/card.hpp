// SPDX-License-Identifier: Apache-2.0
// What a rank tells its peers over the control plane, so that they find it and it knows them: where
// it listens, which host and process it lives in, and the nonce that opens its data connections.
// Pure text handling; any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dinfer::net {

using nonce = std::array<std::uint8_t, 16>;

struct card {
  std::string host;     // equal: one kernel and one network namespace; empty: not known
  std::string process;  // equal: one process
  nonce secret{};
  transport_choice choice = transport_choice::automatic;
  std::string address;
  std::uint16_t port = 0;
  std::string name;  // for messages; may be empty
};

enum class wire_kind : std::uint8_t { local, shared_memory, tcp };
std::string_view to_string(wire_kind kind) noexcept;

std::string write_card(const card& from);
result<card> read_card(std::string_view text);

// Decided from the cards alone, equal on all members. Error: invalid_argument when shared memory
// is asked for across hosts.
result<wire_kind> choose_wire(std::span<const card> members);

// One number for one meeting: the group's name and all members in order.
std::uint64_t group_key(const std::string& group, std::span<const card> members);

nonce make_nonce();
bool same_nonce(const nonce& a, const nonce& b) noexcept;  // in constant time
std::string hex(const nonce& value);
std::string this_host();
std::string this_process();

}  // namespace dinfer::net
