// SPDX-License-Identifier: Apache-2.0
// The CPU's way to join ranks into groups. One transport per rank; the kind of wire is decided per
// group from the cards alone, so all members agree: threads of one process share its memory,
// processes of one host at one address share a memory file, all others use TCP. Thread: the rank's;
// one thread inside accepts connections. A group's communicator may outlive its transport.
#pragma once

#include "dinfer/config.hpp"
#include "net/tls/identity.hpp"
#include "runtime/runner.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace dinfer::net {

struct cpu_transport_options {
  std::string address = "127.0.0.1";  // bound for data connections, any free port; peers dial it
  // automatic: the rule above. shared_memory and tcp hold for the whole group once one member asks;
  // tcp wins.
  transport_choice choice = transport_choice::automatic;
  std::chrono::milliseconds timeout{10'000};  // of every operation of a communicator
  std::string name;                           // how peers name this rank in messages: "a/cpu:0"
  std::shared_ptr<const tls_identity> own = nullptr;  // TCP is TLS then
};

std::unique_ptr<runtime::transport> make_cpu_transport(const cpu_transport_options& options);

}  // namespace dinfer::net
