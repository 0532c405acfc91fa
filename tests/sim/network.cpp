// SPDX-License-Identifier: Apache-2.0
// See network.hpp.
#include "tests/sim/network.hpp"

#include <caf/actor_proxy.hpp>
#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <caf/scoped_execution_unit.hpp>

#include <algorithm>
#include <utility>

namespace dinfer::sim {

namespace {

constexpr usec least_latency = 50, most_latency = 3 * millisecond;
constexpr std::size_t content_guess = 256;
constexpr usec probe_timeout = second;          // as dialer_setup has it
constexpr usec handshake_timeout = second / 2;  // a frozen host's kernel still accepts

process_id process_of_id(const caf::node_id& id) {
  return static_cast<const caf::node_id::default_data&>(*id).process_id();
}

}  // namespace

caf::node_id node_id_of(process_id id) {
  caf::node_id::default_data::host_id_type host{};
  host.fill(1);
  return caf::make_node_id(id, host);
}

// What an actor holds of another process's actor.
class link_proxy : public caf::actor_proxy {
 public:
  link_proxy(caf::actor_config& config, network& net, process_id home)
      : caf::actor_proxy(config), net_(net), home_(home) {}

  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    if (!dead_) net_.send_message(home_, process_of_id(node()), id(), *what);
  }
  void kill_proxy(caf::execution_unit* context, caf::error reason) override {
    dead_ = true;
    cleanup(std::move(reason), context);
  }

 private:
  network& net_;
  process_id home_;
  bool dead_ = false;
};

endpoint::endpoint(network& net, process_id id, std::uint32_t node, caf::actor_system& system)
    : net_(net), id_(id), node_(node), system_(system), proxies_(system, *this) {
  net_.add(*this);
}

endpoint::~endpoint() {
  close();
  proxies_.clear();
}

void endpoint::close() {
  if (net_.find(id_) == this) net_.remove(*this);
}

void endpoint::publish(const caf::strong_actor_ptr& actor) {
  published_ = actor;
  system_.registry().put(actor->id(), actor);
}

caf::strong_actor_ptr endpoint::make_proxy(caf::node_id node, caf::actor_id actor) {
  const auto peer = process_of_id(node);
  caf::actor_config config;
  auto proxy = caf::make_actor<link_proxy, caf::strong_actor_ptr>(actor, std::move(node), &system_,
                                                                  config, net_, id_);
  if (net_.between(id_, peer) == nullptr)
    net_.world_.broken("a handle of a process came to one that has no connection to it");
  net_.post(id_, peer, frame{frame_kind::monitor, actor});
  return proxy;
}

void endpoint::accept(process_id from, const frame& what) {
  caf::scoped_execution_unit context{&system_};
  context.proxy_registry_ptr(&proxies_);
  caf::strong_actor_ptr sender;
  if (what.sender != 0) sender = proxies_.get_or_put(node_id_of(from), what.sender);
  caf::message content;
  caf::binary_deserializer source{&context, what.bytes};
  if (auto failed = source(content))
    return net_.world_.broken("a message cannot be read: " + to_string(failed));
  if (auto target = system_.registry().get(what.actor))
    target->enqueue(std::move(sender), caf::make_message_id(what.message), std::move(content),
                    nullptr);
}

network::network(world& w, std::uint32_t nodes, usec heartbeat, usec timeout)
    : world_(w), nodes_(nodes), heartbeat_(heartbeat), timeout_(timeout), links_(nodes * nodes) {}

endpoint* network::find(process_id id) const {
  const auto found = ends_.find(id);
  return found == ends_.end() ? nullptr : found->second;
}

endpoint* network::process_of(std::uint32_t node) const {
  for (const auto& [id, end] : ends_)
    if (end->node() == node) return end;
  return nullptr;
}

network::connection* network::between(process_id a, process_id b) {
  for (const auto& [id, c] : connections_)
    if ((c->ends[0] == a && c->ends[1] == b) || (c->ends[0] == b && c->ends[1] == a))
      return c.get();
  return nullptr;
}

bool network::connected(std::uint32_t a, std::uint32_t b) const {
  return std::any_of(connections_.begin(), connections_.end(), [&](const auto& entry) {
    const auto& c = *entry.second;
    return c.open[0] && c.open[1] &&
           ((c.nodes[0] == a && c.nodes[1] == b) || (c.nodes[0] == b && c.nodes[1] == a));
  });
}

usec network::latency(std::uint32_t from, std::uint32_t to) {
  return world_.random.between(least_latency, most_latency) + link(from, to).extra;
}

void network::dial(process_id from, std::uint32_t node, dialed answer) {
  auto* caller = find(from);
  auto* callee = process_of(node);
  const auto refuse = [&](usec when, errc code, const char* why) {
    world_.after(when, [this, from, answer, code, why] {
      if (find(from) != nullptr) answer(fail(code, why));
    });
  };
  const bool cut_off = link(caller->node(), node).blocked || link(node, caller->node()).blocked;
  if (cut_off) return refuse(probe_timeout, errc::timeout, "did not answer");
  const auto trip = latency(caller->node(), node) + latency(node, caller->node());
  if (callee == nullptr || !callee->published_) return refuse(trip, errc::peer_lost, "refused");
  if (callee->paused()) return refuse(handshake_timeout, errc::peer_lost, "no handshake");
  world_.after(trip, [this, from, to = callee->id(), answer] {
    auto* a = find(from);
    auto* b = find(to);
    if (a == nullptr) return;
    if (b == nullptr || link(a->node(), b->node()).blocked || link(b->node(), a->node()).blocked)
      return answer(fail(errc::peer_lost, "closed during the handshake"));
    auto* c = open(*a, *b);
    if (c == nullptr) return answer(fail(errc::peer_lost, "the last connection is not closed yet"));
    answer(a->proxies_.get_or_put(node_id_of(to), b->published_->id()));
  });
}

// The one that is there, or a new one; none while the other side has not noticed that its last one
// is gone.
network::connection* network::open(endpoint& from, endpoint& to) {
  if (auto* c = between(from.id(), to.id())) return c->open[0] && c->open[1] ? c : nullptr;
  auto made = std::make_unique<connection>();
  made->id = ++opened_;
  made->ends[0] = from.id();
  made->ends[1] = to.id();
  made->nodes[0] = from.node();
  made->nodes[1] = to.node();
  world_.note(packed(1, from.id(), to.id()), "process {} connects to {}", from.id(), to.id());
  auto* c = made.get();
  connections_[c->id] = std::move(made);
  listen(*c);
  return c;
}

void network::send_message(process_id from, process_id to, caf::actor_id actor,
                           caf::mailbox_element& what) {
  auto* sender_end = find(from);
  if (sender_end == nullptr) return;  // it is being taken down
  auto content = what.move_content_to_message();
  if (lose_next_ && lose_next_(content)) {
    lose_next_ = {};
    world_.note(packed(2, from, to), "a message of {} to {} is lost: planted", from, to);
    return;
  }
  frame f;
  f.actor = actor;
  f.message = what.mid.integer_value();
  if (what.sender) {
    f.sender = what.sender->id();
    sender_end->system_.registry().put(f.sender, what.sender);
    if (what.sender->node() != sender_end->system_.node())
      world_.broken("a message is sent on for another process");
  }
  f.bytes.reserve(content_guess);
  caf::scoped_execution_unit context{&sender_end->system_};
  context.proxy_registry_ptr(&sender_end->proxies_);
  caf::binary_serializer sink{&context, f.bytes};
  if (auto failed = sink(content))
    return world_.broken("a message cannot be written: " + to_string(failed));
  post(from, to, std::move(f));
}

void network::post(process_id from, process_id to, frame what) {
  auto* c = between(from, to);
  if (c == nullptr) return;
  const int end = c->ends[0] == to ? 0 : 1;
  if (c->open[1 - end]) push(*c, end, std::move(what));
}

void network::push(connection& c, int end, frame what) {
  auto& d = c.to[end];
  d.last_due = std::max(d.last_due, world_.now() + latency(c.nodes[1 - end], c.nodes[end]));
  what.due = d.last_due;
  d.queue.push_back(std::move(what));
  arm(c, end);
}

void network::arm(connection& c, int end) {
  auto& d = c.to[end];
  if (d.armed || d.queue.empty() || link(c.nodes[1 - end], c.nodes[end]).blocked) return;
  const auto* receiver = find(c.ends[end]);
  if (receiver != nullptr && receiver->paused()) return;
  d.armed = true;
  world_.after(std::max<usec>(0, d.queue.front().due - world_.now()),
               [this, id = c.id, end] { arrive(id, end); });
}

void network::arrive(std::uint64_t id, int end) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  auto& c = *found->second;
  auto& d = c.to[end];
  d.armed = false;
  const auto* receiver = find(c.ends[end]);
  if (d.queue.empty() || link(c.nodes[1 - end], c.nodes[end]).blocked) return;
  if (receiver != nullptr && receiver->paused()) return;
  if (d.queue.front().due > world_.now()) return arm(c, end);
  auto what = std::move(d.queue.front());
  d.queue.pop_front();
  arm(c, end);
  deliver(c, end, std::move(what));
}

void network::deliver(connection& c, int end, frame what) {
  auto* receiver = find(c.ends[end]);
  if (!c.open[end] || receiver == nullptr) return;
  world_.note(packed(3, c.ends[end], static_cast<std::uint64_t>(what.what), what.actor),
              "frame {} for actor {} arrives at {} from {}", static_cast<int>(what.what),
              what.actor, c.ends[end], c.ends[1 - end]);
  switch (what.what) {
    case frame_kind::message:
      return receiver->accept(c.ends[1 - end], what);
    case frame_kind::monitor:
      return watch_actor(c.ends[1 - end], *receiver, what.actor);
    case frame_kind::down: {
      caf::error reason;
      caf::binary_deserializer source{receiver->system_, what.bytes};
      if (auto failed = source(reason)) return world_.broken("an end cannot be read");
      return receiver->proxies_.erase(node_id_of(c.ends[1 - end]), what.actor, std::move(reason));
    }
    case frame_kind::fin:
      return lose(c, end, "its peer closed");
  }
}

// The watcher's proxy ends with the actor, after all that the actor sent.
void network::watch_actor(process_id watcher, endpoint& owner, caf::actor_id actor) {
  const auto tell = [this, watcher, owner = owner.id(), actor](caf::error reason) {
    auto* end = find(owner);
    if (end == nullptr) return;
    frame f{frame_kind::down, actor};
    caf::binary_serializer sink{end->system_, f.bytes};
    if (auto failed = sink(reason)) return world_.broken("an end cannot be written");
    post(owner, watcher, std::move(f));
  };
  const auto target = owner.system_.registry().get(actor);
  if (!target) return tell(caf::exit_reason::unknown);
  target->get()->attach_functor([tell](const caf::error& reason) { tell(reason); });
}

// One end is done with a connection: its proxies end, and its peer hears of it as far as it can.
void network::lose(connection& c, int end, const char* why) {
  if (!c.open[end]) return;
  c.open[end] = false;
  c.to[end].queue.clear();
  world_.note(packed(4, c.ends[end], c.ends[1 - end]), "process {} loses its connection to {}: {}",
              c.ends[end], c.ends[1 - end], why);
  if (c.open[1 - end]) push(c, 1 - end, {frame_kind::fin});
  const auto peer = node_id_of(c.ends[1 - end]);
  auto* owner = find(c.ends[end]);
  if (!c.open[1 - end]) connections_.erase(c.id);
  if (owner != nullptr) owner->proxies_.erase(peer);
}

void network::drop_tail(direction& d) {
  if (d.queue.empty()) return;
  const auto kept = static_cast<std::ptrdiff_t>(world_.random.below(d.queue.size() + 1));
  d.queue.erase(d.queue.begin() + kept, d.queue.end());
}

// A process has died: what its kernel had not sent yet is lost.
void network::remove(endpoint& end) {
  ends_.erase(end.id());
  std::vector<std::uint64_t> ids;
  for (const auto& [id, c] : connections_)
    if (c->ends[0] == end.id() || c->ends[1] == end.id()) ids.push_back(id);
  for (const auto id : ids) {
    auto& c = *connections_[id];
    const int mine = c.ends[0] == end.id() ? 0 : 1;
    if (c.open[mine]) drop_tail(c.to[1 - mine]);
    lose(c, mine, "it died");
  }
}

void network::cut(std::uint32_t a, std::uint32_t b) {
  for (const auto& [id, c] : connections_) {
    if (!(c->nodes[0] == a && c->nodes[1] == b) && !(c->nodes[0] == b && c->nodes[1] == a))
      continue;
    for (const int end : {0, 1}) {
      if (!c->open[end]) continue;
      drop_tail(c->to[end]);
      push(*c, end, {frame_kind::fin});
    }
  }
}

void network::block(std::uint32_t from, std::uint32_t to, bool blocked) {
  link(from, to).blocked = blocked;
  for (const auto& [id, c] : connections_) listen(*c);
}

void network::pause(endpoint& end) {
  end.paused_ = true;
  end.paused_at_ = world_.now();
  for (const auto& [id, c] : connections_) listen(*c);
}

void network::resume(endpoint& end) {
  end.paused_ = false;
  std::vector<std::uint64_t> mine;
  for (const auto& [id, c] : connections_)
    if (c->ends[0] == end.id() || c->ends[1] == end.id()) mine.push_back(id);
  for (const auto id : mine) {
    auto& c = *connections_[id];
    const int side = c.ends[0] == end.id() ? 0 : 1;
    // Whether the tick of the heartbeat or what lies in the socket comes first is luck.
    const bool late = world_.now() - end.paused_at_ > timeout_;
    if (late && world_.random.chance(50)) lose(c, side, "its own heartbeat is late");
  }
  for (const auto& [id, c] : connections_) listen(*c);
}

// Silence begins or ends: nothing comes from a peer that is paused or cut off, heartbeats included.
void network::listen(connection& c) {
  for (const int end : {0, 1}) {
    auto& d = c.to[end];
    const auto* sender = find(c.ends[1 - end]);
    const bool silent =
        link(c.nodes[1 - end], c.nodes[end]).blocked || (sender != nullptr && sender->paused());
    if (!silent) {
      d.silent_since.reset();
      arm(c, end);
      continue;
    }
    if (!d.silent_since) d.silent_since = world_.now();
    const auto patience = *d.silent_since + timeout_ - world_.now();
    world_.after(
        std::max<usec>(0, patience) + world_.random.between(0, heartbeat_),
        [this, id = c.id, end, since = *d.silent_since] { check_silence(id, end, since); });
  }
}

void network::check_silence(std::uint64_t id, int end, usec since) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  auto& c = *found->second;
  const auto* receiver = find(c.ends[end]);
  if (c.to[end].silent_since != since || receiver == nullptr || receiver->paused()) return;
  lose(c, end, "silence");
}

}  // namespace dinfer::sim
