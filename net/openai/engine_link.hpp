// SPDX-License-Identifier: Apache-2.0
// What the HTTP side asks of the engine, and what comes back. The gateway actor implements
// `engine_link`; tests put a simulated engine there. Neither side knows the other's threads: submit
// and cancel may be called from any io thread, and events are handed to the server's deliver(),
// which any thread may call.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dinfer::net {

enum class engine_state : std::uint8_t { loading, ready, draining, dead };

std::string_view state_text(engine_state state) noexcept;

struct engine_status {
  engine_state state = engine_state::loading;
  std::string stage;                   // "loading weights", "serving", ...
  std::string reason;                  // why it is not ready
  std::uint64_t last_step_age_ms = 0;  // while work exists
  std::uint32_t running = 0, waiting = 0;
};

// Everything that one step meant for one server.
struct engine_events {
  std::vector<token_event> tokens;
  std::vector<std::pair<request_id, error>>
      rejected;  // never started; nothing else follows for them
  std::vector<std::pair<request_id, result<std::string>>> clusters;  // what show_cluster() asked
};

class engine_link {
 public:
  virtual ~engine_link() = default;
  // Answered through deliver(): a rejection or token events. `request.id` was taken from next_id().
  virtual void submit(generate_request request) = 0;
  virtual void cancel(request_id id, finish_reason reason) = 0;
  // Answered through deliver(), with JSON for a person: who is there, who holds what.
  virtual void show_cluster(request_id id) = 0;
  virtual request_id next_id() noexcept = 0;
  virtual engine_status status() const = 0;
};

}  // namespace dinfer::net
