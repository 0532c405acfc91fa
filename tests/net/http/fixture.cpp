// SPDX-License-Identifier: Apache-2.0
// Sockets and waiting for the tests of the server.
#include "tests/net/http/fixture.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace dinfer::tests {

using clock = std::chrono::steady_clock;
constexpr auto patience = std::chrono::seconds(10);

server_fixture::server_fixture(const setup& s) {
  net::http_server::options options;
  options.gateway.port = 0;
  options.gateway.io_threads = s.io_threads;
  options.gateway.cors_origins = s.origins;
  options.limits = s.limits;
  options.api_keys = s.keys;
  options.now_unix = [] { return std::int64_t{1'700'000'000}; };
  options.random_seed = [n = std::uint64_t{0}]() mutable { return ++n; };
  server = std::make_unique<net::http_server>(options, engine, metrics);
  REQUIRE(server->start());
  engine->connect([this](net::engine_events events) { server->deliver(std::move(events)); });
  if (!s.loaded) return;
  net::served_model model;
  model.name = "echo";
  model.root = "echo.gguf";
  model.max_model_len = s.max_model_len;
  model.words = std::make_shared<byte_tokenizer>();
  model.chat = std::make_shared<runtime::chat_template>(*runtime::chat_template::parse(
      "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
      "{% if add_generation_prompt %}assistant: {% endif %}"));
  model.eos_tokens = {byte_tokenizer::eos_id};
  server->model_ready(std::move(model));
}

server_fixture::~server_fixture() {
  server->stop(std::chrono::milliseconds(0));
  engine->stop();
}

net::http_client server_fixture::client(std::string key) const {
  net::http_client::options options;
  options.port = server->port();
  options.api_key = std::move(key);
  options.timeout = patience;
  options.silence = patience;
  return net::http_client(options);
}

net::client_response server_fixture::get(std::string_view path) const {
  auto answer = client().get(path);
  REQUIRE(answer);
  return *answer;
}

net::client_response server_fixture::post(std::string_view path, std::string json) const {
  auto answer = client().post(path, std::move(json));
  REQUIRE(answer);
  return *answer;
}

std::vector<std::string> server_fixture::stream(std::string_view path, std::string json) const {
  std::vector<std::string> out;
  const auto answer = client().stream(path, std::move(json), [&](std::string_view data) {
    out.emplace_back(data);
    return true;
  });
  REQUIRE(answer);
  CHECK(answer->status == 200);
  return out;
}

double server_fixture::metric(const std::string& line_start) const {
  const auto text = metrics->text();
  const auto at = text.find("\n" + line_start);
  if (at == std::string::npos) return -1;
  const auto end = text.find('\n', at + 1);
  const auto line = text.substr(at + 1, end - at - 1);
  return std::stod(line.substr(line.rfind(' ')));
}

raw_socket::raw_socket(std::uint16_t port, int receive_buffer)
    : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
  REQUIRE(fd_ >= 0);
  if (receive_buffer > 0)
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
}

raw_socket::~raw_socket() {
  if (fd_ >= 0) ::close(fd_);
}

void raw_socket::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::string raw_socket::read_until(std::string_view text) const {
  std::string out;
  const auto until = clock::now() + patience;
  while (text.empty() || out.find(text) == std::string::npos) {
    pollfd waiting{fd_, POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now());
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) {
      FAIL("the server neither answered nor closed; so far: " << out);
    }
    char bytes[4096];
    const auto got = ::recv(fd_, bytes, sizeof bytes, 0);
    if (got <= 0) break;
    out.append(bytes, static_cast<std::size_t>(got));
  }
  return out;
}

std::string raw_socket::read_all() const { return read_until({}); }

void raw_socket::reset() const {
  const linger hard{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  ::close(fd_);
  fd_ = -1;
}

void eventually(const std::function<bool()>& condition, const char* what) {
  const auto until = clock::now() + patience;
  while (!condition()) {
    if (clock::now() > until) FAIL("waited in vain for: " << what);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace dinfer::tests
