// SPDX-License-Identifier: Apache-2.0
// The network between simulated processes. Each process has an actor system of its own; what its
// actors send to another process goes through proxies of ours, is serialised as CAF does it, waits
// in a queue and is decoded at the other end. A connection is reliable and ordered, as TCP is: a
// message is late, or lost together with its connection, whose ends learn of it at times of their
// own. As under CAF, a lost connection ends its proxies, and silence ends a connection.
#pragma once

#include "dinfer/error.hpp"
#include "tests/sim/world.hpp"

#include <caf/all.hpp>
#include <caf/proxy_registry.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dinfer::sim {

using process_id = std::uint32_t;  // of one life of a process; never used again
class network;

enum class frame_kind : std::uint8_t { message, monitor, down, fin };
// As BASP's header and payload: the sender is an actor of the process that sends.
struct frame {
  frame_kind what = frame_kind::message;
  caf::actor_id actor = 0, sender = 0;
  std::uint64_t message = 0;  // its id
  std::vector<char> bytes = {};
  usec due = 0;
};

// A process's end of the network.
class endpoint : public caf::proxy_registry::backend {
 public:
  endpoint(network& net, process_id id, std::uint32_t node, caf::actor_system& system);
  ~endpoint() override;
  endpoint(const endpoint&) = delete;
  endpoint& operator=(const endpoint&) = delete;

  process_id id() const noexcept { return id_; }
  std::uint32_t node() const noexcept { return node_; }
  bool paused() const noexcept { return paused_; }
  // Its process is dead: from now on nothing comes or goes.
  void close();
  // What a dialer finds here.
  void publish(const caf::strong_actor_ptr& actor);

  caf::strong_actor_ptr make_proxy(caf::node_id node, caf::actor_id actor) override;
  void set_last_hop(caf::node_id*) override {}

 private:
  friend class network;
  void accept(process_id from, const frame& what);

  network& net_;
  process_id id_;
  std::uint32_t node_;
  caf::actor_system& system_;
  bool paused_ = false;
  usec paused_at_ = 0;
  caf::strong_actor_ptr published_;
  caf::proxy_registry proxies_;
};

class network {
 public:
  network(world& w, std::uint32_t nodes, usec heartbeat, usec timeout);

  // Connects to the process of a node; the answer is its published actor.
  using dialed = std::function<void(result<caf::strong_actor_ptr>)>;
  void dial(process_id from, std::uint32_t node, dialed answer);

  // Faults. Blocked: nothing arrives in that direction until it is unblocked.
  void block(std::uint32_t from, std::uint32_t to, bool blocked);
  bool blocked(std::uint32_t from, std::uint32_t to) const { return link(from, to).blocked; }
  void slow_down(std::uint32_t from, std::uint32_t to, usec extra) { link(from, to).extra = extra; }
  // Ends the connection of two nodes; what is under way is lost from some point on.
  void cut(std::uint32_t a, std::uint32_t b);
  void pause(endpoint& end);
  void resume(endpoint& end);

  // A planted bug: one message of this kind is lost, and its connection is not.
  void lose_one(std::function<bool(const caf::message&)> which) { lose_next_ = std::move(which); }

  bool connected(std::uint32_t a, std::uint32_t b) const;

 private:
  friend class endpoint;
  friend class link_proxy;
  struct direction {
    std::deque<frame> queue;
    usec last_due = 0;
    bool armed = false;  // an event will look at the first frame
    std::optional<usec> silent_since;
  };
  struct connection {
    std::uint64_t id = 0;
    process_id ends[2] = {0, 0};
    std::uint32_t nodes[2] = {0, 0};
    bool open[2] = {true, true};
    direction to[2];  // to[e]: on the way to ends[e]
  };
  struct link_state {
    bool blocked = false;
    usec extra = 0;
  };

  void add(endpoint& end) { ends_[end.id()] = &end; }
  void remove(endpoint& end);
  endpoint* find(process_id id) const;
  endpoint* process_of(std::uint32_t node) const;
  connection* between(process_id a, process_id b);
  connection* open(endpoint& from, endpoint& to);
  void post(process_id from, process_id to, frame what);
  void send_message(process_id from, process_id to, caf::actor_id actor,
                    caf::mailbox_element& what);
  void push(connection& c, int end, frame what);
  void arm(connection& c, int end);
  void arrive(std::uint64_t id, int end);
  void deliver(connection& c, int end, frame what);
  void watch_actor(process_id watcher, endpoint& owner, caf::actor_id actor);
  void lose(connection& c, int end, const char* why);
  void drop_tail(direction& d);
  void listen(connection& c);
  void check_silence(std::uint64_t id, int end, usec since);
  usec latency(std::uint32_t from, std::uint32_t to);
  link_state& link(std::uint32_t from, std::uint32_t to) { return links_[from * nodes_ + to]; }
  const link_state& link(std::uint32_t from, std::uint32_t to) const {
    return links_[from * nodes_ + to];
  }

  world& world_;
  std::uint32_t nodes_;
  usec heartbeat_, timeout_;
  std::vector<link_state> links_;  // [from][to]
  std::map<process_id, endpoint*> ends_;
  std::map<std::uint64_t, std::unique_ptr<connection>> connections_;
  std::uint64_t opened_ = 0;
  std::function<bool(const caf::message&)> lose_next_;  // empty: nothing is to be lost
};

// The ID that a process's actor system has: set before its first actor.
caf::node_id node_id_of(process_id id);

}  // namespace dinfer::sim
