// SPDX-License-Identifier: Apache-2.0
// CAF's broker of messages over sessions of net/tls. All but connect() and open() runs on CAF's
// network thread. What a connection has to say waits until both sides have proven who they are, so
// a stranger's bytes never reach CAF; what strangers may hold is a socket for each of a few.
#include "actors/network.hpp"

#include "actors/wire.hpp"
#include "net/tls/session.hpp"
#include "runtime/base/log.hpp"

#include <sys/socket.h>
#include <caf/detail/socket_guard.hpp>
#include <caf/io/all.hpp>
#include <caf/io/basp_broker.hpp>
#include <caf/io/middleman_actor_impl.hpp>
#include <caf/io/network/default_multiplexer.hpp>
#include <caf/io/network/doorman_impl.hpp>
#include <caf/io/network/stream_impl.hpp>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

namespace dinfer::actors {

namespace {

namespace io = caf::io;
using io::network::native_socket;
using io::network::rw_state;

constexpr std::size_t most_unproven = 64;
constexpr milliseconds open_timeout{5000};
constexpr std::chrono::seconds between_complaints{1};

struct connection {
  net::tls_session session;
  native_socket socket;
};

std::string peer_of(native_socket socket) {
  const auto address = io::network::remote_addr_of_fd(socket);
  const auto port = io::network::remote_port_of_fd(socket);
  return address && port ? *address + ":" + std::to_string(*port) : "a peer that is gone";
}

// How CAF's stream moves bytes.
class tls_policy {
 public:
  tls_policy(std::shared_ptr<connection> over, std::function<void()> on_proven)
      : over_(std::move(over)), on_proven_(std::move(on_proven)) {}

  rw_state read_some(std::size_t& got, native_socket, void* to, std::size_t bytes) {
    got = 0;
    if (!over_->session.proven()) {
      const auto done = over_->session.shake_hands();
      if (!done) return refuse(done.error());
      if (!*done) return rw_state::success;
      on_proven_();
    }
    const auto read = over_->session.read_some({static_cast<std::byte*>(to), bytes});
    if (!read) return rw_state::failure;
    got = *read;
    return rw_state::success;
  }

  rw_state write_some(std::size_t& put, native_socket, const void* from, std::size_t bytes) {
    put = 0;
    const auto written = over_->session.write_some({static_cast<const std::byte*>(from), bytes});
    if (!written) return rw_state::failure;
    put = *written;
    return rw_state::success;
  }

  bool must_read_more(native_socket, std::size_t) const { return over_->session.buffered(); }

 private:
  // Strangers may come in any number; a line a second is enough to see why. One that only tried the
  // port is none.
  rw_state refuse(const error& why) const {
    static std::atomic<std::chrono::steady_clock::time_point> next{};
    const auto now = std::chrono::steady_clock::now();
    if (why.code == errc::mismatch && now >= next.load()) {
      next = now + between_complaints;
      DINFER_LOG_WARN("connection with {} refused: {}", peer_of(over_->socket), why.message);
    }
    return rw_state::failure;
  }

  std::shared_ptr<connection> over_;
  std::function<void()> on_proven_;
};

class tls_scribe final : public io::scribe {
 public:
  tls_scribe(io::network::default_multiplexer& loop, const std::shared_ptr<connection>& over)
      : scribe(io::network::conn_hdl_from_socket(over->socket)),
        over_(over),
        stream_(loop, over->socket, over, [this] { stream_.flush(this); }) {}

  void configure_read(io::receive_policy::config config) override {
    stream_.configure_read(config);
    if (std::exchange(launched_, true)) return;
    stream_.start(this);
  }
  void ack_writes(bool enable) override { stream_.ack_writes(enable); }
  std::vector<char>& wr_buf() override { return stream_.wr_buf(); }
  std::vector<char>& rd_buf() override { return stream_.rd_buf(); }
  // Before the handshake a socket could be written to all the time, to no avail.
  void flush() override {
    if (over_->session.proven()) stream_.flush(this);
  }
  void graceful_shutdown() override {
    stream_.graceful_shutdown();
    detach(&stream_.backend(), false);
  }
  std::string addr() const override {
    auto found = io::network::remote_addr_of_fd(stream_.fd());
    return found ? *found : std::string();
  }
  std::uint16_t port() const override {
    auto found = io::network::remote_port_of_fd(stream_.fd());
    return found ? *found : std::uint16_t{0};
  }
  void add_to_loop() override { stream_.activate(this); }
  void remove_from_loop() override { stream_.passivate(); }

 private:
  bool launched_ = false;
  std::shared_ptr<connection> over_;
  io::network::stream_impl<tls_policy> stream_;
};

class tls_doorman final : public io::network::doorman_impl {
 public:
  tls_doorman(io::network::default_multiplexer& loop, native_socket socket,
              std::shared_ptr<const net::tls_identity> own)
      : doorman_impl(loop, socket), own_(std::move(own)) {}

  bool new_connection() override {
    if (detached()) return false;
    auto& loop = acceptor_.backend();
    const auto socket = acceptor_.accepted_socket();
    caf::detail::socket_guard guard{socket};
    if (!io::network::nonblocking(socket, true)) return true;
    io::network::child_process_inherit(socket, false);
    auto session = net::tls_session::open(own_, socket, net::tls_side::server);
    if (!session) return true;
    auto over = std::make_shared<connection>(connection{std::move(*session), socket});
    make_room();
    unproven_.push_back(over);
    auto made = caf::make_counted<tls_scribe>(loop, over);
    guard.release();
    const auto handle = made->hdl();
    parent()->add_scribe(std::move(made));
    return doorman::new_connection(&loop, handle);
  }

 private:
  // The one that has kept silent for longest goes when too many do. A member has proven itself
  // long before as many strangers have come after it.
  void make_room() {
    std::erase_if(unproven_, [](const std::weak_ptr<connection>& one) {
      const auto over = one.lock();
      return over == nullptr || over->session.proven();
    });
    if (unproven_.size() < most_unproven) return;
    if (const auto oldest = unproven_.front().lock()) ::shutdown(oldest->socket, SHUT_RDWR);
    unproven_.pop_front();
  }

  std::shared_ptr<const net::tls_identity> own_;
  std::deque<std::weak_ptr<connection>> unproven_;
};

class tls_network final : public io::middleman_actor_impl {
 public:
  tls_network(caf::actor_config& settings, caf::actor broker,
              std::shared_ptr<const net::tls_identity> own)
      : middleman_actor_impl(settings, std::move(broker)), own_(std::move(own)) {}
  const char* name() const override { return "dinfer.network"; }

 protected:
  caf::expected<io::scribe_ptr> connect(const std::string& host, std::uint16_t port) override {
    auto socket = io::network::new_tcp_connection(host, port);
    if (!socket) return std::move(socket.error());
    caf::detail::socket_guard guard{*socket};
    io::network::nonblocking(*socket, true);
    io::network::child_process_inherit(*socket, false);
    auto session = net::tls_session::open(own_, *socket, net::tls_side::client);
    // The first word is ours; what follows is driven by what arrives.
    if (!session || !session->shake_hands()) return caf::sec::cannot_connect_to_node;
    guard.release();
    return caf::make_counted<tls_scribe>(
        loop(), std::make_shared<connection>(connection{std::move(*session), *socket}));
  }

  caf::expected<io::doorman_ptr> open(std::uint16_t port, const char* address,
                                      bool reuse) override {
    auto socket = io::network::new_tcp_acceptor_impl(port, address, reuse);
    if (!socket) return std::move(socket.error());
    return caf::make_counted<tls_doorman>(loop(), *socket, own_);
  }

 private:
  io::network::default_multiplexer& loop() {
    return static_cast<io::network::default_multiplexer&>(system().middleman().backend());
  }

  std::shared_ptr<const net::tls_identity> own_;
};

}  // namespace

network_actor spawn_network(caf::actor_system& system,
                            std::shared_ptr<const net::tls_identity> own) {
  auto& middleman = system.middleman();
  if (own == nullptr) return middleman.actor_handle();
  return system.spawn<tls_network, caf::detached>(
      middleman.named_broker<io::basp_broker>(caf::atom("BASP")), std::move(own));
}

result<void> open_port(caf::actor_system& system, const network_actor& network,
                       const directory_actor& published, const std::string& address,
                       std::uint16_t port) {
  const caf::scoped_actor self{system};
  result<void> out;
  const auto opened = [](std::uint16_t) {};
  const auto refused = [&](const caf::error& why) { out = tl::unexpected(from_caf(why)); };
  if (published)
    ask(&*self, network, open_timeout, caf::publish_atom_v, port,
        caf::actor_cast<caf::strong_actor_ptr>(published), system.message_types<directory_actor>(),
        address, true)
        .receive(opened, refused);
  else
    ask(&*self, network, open_timeout, caf::open_atom_v, port, address, true)
        .receive(opened, refused);
  return out;
}

// CAF's ends with the system; ours, like it, heeds no other reason.
void end_network(network_actor& network, bool with_tls) {
  if (network && with_tls) caf::anon_send_exit(network, caf::exit_reason::kill);
  network = network_actor{};
}

}  // namespace dinfer::actors
