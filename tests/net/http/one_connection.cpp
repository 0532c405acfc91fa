// SPDX-License-Identifier: Apache-2.0
#include "tests/net/http/one_connection.hpp"

#include "net/http/connection.hpp"

#include <sys/socket.h>
#include <unistd.h>
#include <boost/asio/io_context.hpp>

#include <system_error>

namespace dinfer::tests {
namespace {

// The client's end; the other one belongs to the connection.
class client_end {
 public:
  client_end() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::system_error(errno, std::generic_category(), "socketpair");
    own_ = ends[0];
    servers_ = ends[1];
  }
  ~client_end() { ::close(own_); }
  client_end(const client_end&) = delete;
  client_end& operator=(const client_end&) = delete;

  int servers() const noexcept { return servers_; }
  // How many bytes fitted; 0 too when the server has closed.
  std::size_t send(std::string_view text) const {
    const auto sent = ::send(own_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }
  void end() const { ::shutdown(own_, SHUT_WR); }
  // true: the server has ended its direction.
  bool receive(std::string& to) const {
    char part[4096];
    for (;;) {
      const auto got = ::recv(own_, part, sizeof part, MSG_DONTWAIT);
      if (got <= 0) return got == 0 || errno != EAGAIN;
      to.append(part, static_cast<std::size_t>(got));
    }
  }

 private:
  int own_ = -1, servers_ = -1;
};

}  // namespace

connection_seen serve_parts(const net::http_limits& limits,
                            std::span<const std::string_view> parts) {
  connection_seen out;
  boost::asio::io_context context(1);
  net::connection_host host;
  host.context = &context;
  host.limits = &limits;
  host.now_unix = [] { return std::int64_t{1'700'000'000}; };
  host.handle = [&](net::http_request request, const std::shared_ptr<net::exchange>& to) {
    out.handed.push_back(std::move(request));
    to->respond({});
  };
  host.closed = [&](net::connection*) { out.closed = true; };
  const client_end client;
  const auto connection = net::make_connection(host, client.servers(), nullptr);
  connection->start();
  const auto settle = [&] {
    while (context.poll() > 0) out.ended = client.receive(out.answers);
    out.ended = client.receive(out.answers);
  };
  settle();
  for (auto part : parts) {
    while (!part.empty()) {
      const auto sent = client.send(part);
      part.remove_prefix(sent);
      settle();
      if (sent == 0) break;
    }
  }
  const bool ended = out.ended;
  client.end();
  settle();
  out.ended = ended;
  return out;
}

std::vector<std::string_view> split_answers(std::string_view all) {
  constexpr std::string_view mark = "HTTP/1.1 ";  // which messages hold too, without a number
  std::vector<std::string_view> out;
  std::size_t from = 0;
  for (auto at = all.find(mark, 1); at != all.npos; at = all.find(mark, at + 1)) {
    const auto after = at + mark.size();
    if (after >= all.size() || all[after] < '1' || all[after] > '5') continue;
    out.push_back(all.substr(from, at - from));
    from = at;
  }
  if (!all.empty()) out.push_back(all.substr(from));
  return out;
}

}  // namespace dinfer::tests
