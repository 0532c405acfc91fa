// SPDX-License-Identifier: Apache-2.0
// A server on a free port over the simulated engine, and ways to talk to it.
#pragma once

#include "net/http/client.hpp"
#include "net/http/server.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/simulated_engine.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::tests {

struct server_fixture {
  struct setup {
    net::http_limits limits;
    std::vector<std::string> keys, origins;
    std::uint32_t io_threads = 1;
    bool loaded = true;
    std::uint32_t max_model_len = 4096;
  };
  server_fixture() : server_fixture(setup{}) {}
  explicit server_fixture(const setup& s);
  ~server_fixture();

  net::http_client client(std::string key = {}) const;
  net::client_response get(std::string_view path) const;
  net::client_response post(std::string_view path, std::string json) const;
  // The data of each event.
  std::vector<std::string> stream(std::string_view path, std::string json) const;
  double metric(const std::string& line_start) const;  // the value of a sample in /metrics

  std::shared_ptr<simulated_engine> engine = std::make_shared<simulated_engine>();
  std::shared_ptr<runtime::metrics_registry> metrics =
      std::make_shared<runtime::metrics_registry>();
  std::unique_ptr<net::http_server> server;
};

// A socket that sends exactly what it is told.
class raw_socket {
 public:
  explicit raw_socket(std::uint16_t port, int receive_buffer = 0);
  ~raw_socket();
  raw_socket(const raw_socket&) = delete;
  raw_socket& operator=(const raw_socket&) = delete;
  void send(std::string_view bytes) const;  // an error is ignored: the server may have closed
  // All bytes until the server closes; fails the test after 10 s.
  std::string read_all() const;
  // Until `text` has been seen or the server closes.
  std::string read_until(std::string_view text) const;
  void reset() const;  // closes with RST

 private:
  mutable int fd_;
};

// Waits for `condition`, at most 10 s; fails the test then.
void eventually(const std::function<bool()>& condition, const char* what);

}  // namespace dinfer::tests
