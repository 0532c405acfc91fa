// SPDX-License-Identifier: Apache-2.0
// One HTTP request and the way back for its answer, free of sockets: connection.cpp implements
// `exchange` for net/openai/service, tests implement it in memory. All calls happen on the io
// thread of the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dinfer::net {

using http_fields = std::vector<std::pair<std::string, std::string>>;

struct http_request {
  std::string method;  // "GET"
  std::string path;    // as sent, never decoded, without query: compared byte for byte
  http_fields fields;  // names in lower case
  std::string body;

  // The value of a field by its lower-case name; empty when absent.
  std::string_view field(std::string_view name) const noexcept {
    for (const auto& [key, value] : fields)
      if (key == name) return value;
    return {};
  }
};

struct http_response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  http_fields fields;  // further ones; length, date and connection are the connection's
};

// Why an answer found no reader.
enum class lost_reason : std::uint8_t { disconnected, too_slow, stopped };

class exchange {
 public:
  virtual ~exchange() = default;
  // Either one whole answer ...
  virtual void respond(http_response response) = 0;
  // ... or a stream: begin, any number of sends, end. `chunks` is how many events `data` holds.
  virtual void begin_stream(http_fields fields) = 0;
  virtual void send(std::string_view data, std::uint32_t chunks) = 0;
  virtual void end_stream(bool close) = 0;  // close: the connection ends with it
  // Called at most once, never from within the calls above, when the client is gone, reads too
  // slowly or the server stops before the answer was complete. Nothing may be sent after it.
  virtual void on_lost(std::function<void(lost_reason)> callback) = 0;
};

// Runs `work` on a thread that may take its time, then `done` back on the io thread.
using offload_function =
    std::function<void(std::function<void()> work, std::function<void()> done)>;

}  // namespace dinfer::net
