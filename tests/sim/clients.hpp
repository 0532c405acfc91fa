// SPDX-License-Identifier: Apache-2.0
// The clients of a simulated cluster and the model that they hold it to: each request gets every
// token of its own exactly once, in order, and one end, after which nothing comes.
#pragma once

#include "dinfer/request.hpp"
#include "net/openai/engine_link.hpp"
#include "tests/sim/network.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dinfer::sim {

inline constexpr std::int32_t vocabulary = 1000;

// What happened to all requests, to see that a simulation did something.
struct tally {
  std::uint64_t finished = 0, refused = 0, failed = 0, aborted = 0, disconnected = 0, tokens = 0;
};

class clients {
 public:
  explicit clients(world& w) : world_(w) {}

  // A request that `gateway` of that process is about to be given, with its id set.
  void submitted(const generate_request& request, process_id at);
  // An error is something to expect from now on.
  void expect_errors() { errors_expected_ = true; }
  void cancelled(request_id id) { requests_.at(id).cancelled = true; }

  // What a gateway hands to its clients.
  void take(process_id from, const net::engine_events& events);
  // A process says goodbye: its gateways have told all of their clients.
  void check_told(process_id left);
  // A process has died: its clients see their connections close.
  void disconnect(process_id died);

  bool all_ended() const noexcept { return open_ == 0; }
  std::string open_words() const;
  // Whether it ended with its last token.
  bool served(request_id id) const { return requests_.at(id).served; }
  const std::string& how(request_id id) const { return requests_.at(id).how; }  // it ended
  // Requests of this gateway that ended with an error after they were let in.
  std::uint64_t failures(std::uint32_t gateway) const;
  const tally& counts() const noexcept { return tally_; }

 private:
  struct request {
    process_id at = 0;
    std::vector<token_id> expected;
    finish_reason expected_end = finish_reason::length;
    std::size_t got = 0;
    bool cancelled = false, ended = false, served = false, failed = false;
    std::string how;
  };
  request* find(process_id from, request_id id);
  void take(request_id id, request& r, const token_event& event);
  void end(request_id id, request& r, std::string how);
  void wrong(request_id id, const std::string& what);

  world& world_;
  bool errors_expected_ = false;
  std::size_t open_ = 0;
  std::map<request_id, request> requests_;
  tally tally_;
};

}  // namespace dinfer::sim
