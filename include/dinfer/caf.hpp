// SPDX-License-Identifier: Apache-2.0
// The engine inside another program that uses CAF: a node of a cluster, or the whole cluster, whose
// actors live in that program's actor system. Link dinfer::caf. docs/EMBEDDING.md has the rules of
// lifetime and threads. The messages may cross nodes; their numbers of bytes are bounded.
//
//   struct app_config : caf::actor_system_config { app_config() { dinfer::configure(*this); } };
//   caf::actor_system system(config);
//   auto node = dinfer::spawn_node(system, cluster);   // a dinfer::cluster_config; once per engine
//   node->wait_ready(60s);
//   self->request(node->engine(), 1s, dinfer::open_stream{request})   // from an actor
//       .then([](dinfer::stream_opened opened) { ... });
//   [=](const dinfer::stream_event& event) {                          // its handler of tokens
//     ...
//     self->send(engine, dinfer::grant_credit{event.event.id});
//   }
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "dinfer/export.hpp"
#include "dinfer/request.hpp"

#include <caf/error.hpp>
#include <caf/fwd.hpp>
#include <caf/meta/load_callback.hpp>
#include <caf/meta/type_name.hpp>
#include <caf/typed_actor.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer {

// Opens a stream of tokens to the actor that sends this (with request(), so that it learns the
// stream's id). `request.id` is ignored.
struct open_stream {
  generate_request request;
  std::uint32_t credit = 16;  // events that may come before the first grant
};
struct stream_opened {
  request_id id = 0;
};

// To the actor that opened the stream. Each event but the last takes one credit. While there is
// none tokens are kept and come together in one event; 256 steps of them, and the stream ends with
// an error and all that was kept. So at most credit + 1 events of a stream wait in a mailbox.
struct stream_event {
  token_event event;       // the last one has `finish`; its message is for finish == error
  errc code = errc::none;  // of that error. invalid_argument, queue_full: the request was refused;
                           // cancelled: no credit came; unavailable: the engine is lost, or ends
};

// More events may come. Credit above 4096 is cut.
struct grant_credit {
  request_id id = 0;
  std::uint32_t events = 1;
};
// The last event has finish_reason::abort. Unknown ids are ignored. A stream also closes, without
// an event, when the actor that opened it ends.
struct close_stream {
  request_id id = 0;
};

using engine_actor = caf::typed_actor<caf::replies_to<open_stream>::with<stream_opened>,
                                      caf::reacts_to<grant_credit>, caf::reacts_to<close_stream>>;

// What a cluster.conf says, for nodes of one cluster that share the file: with dinfer-node
// processes or among themselves. Errors: not_found, io_error; invalid_argument, all problems of the
// text.
DINFER_EXPORT result<cluster_config> read_cluster(const std::string& file);

// Adds message types, and CAF's network when `cluster` has several nodes: heartbeats and timeout as
// it says, and its protocol beside the names of networks that are there. Before the actor system is
// made; calling it again does nothing new.
DINFER_EXPORT void configure(caf::actor_system_config& config, const cluster_config& cluster = {});

// A node in somebody's actor system. Thread: any, one at a time. Ends before the system does.
class DINFER_EXPORT embedded_node {
 public:
  embedded_node(embedded_node&&) noexcept;
  embedded_node& operator=(embedded_node&&) noexcept;
  ~embedded_node();  // as stop()

  // Where streams are opened. Requests that come before the engine is ready are refused. A handle
  // that is still held when the actor system ends keeps it from ending.
  engine_actor engine() const;
  // Errors: timeout, with what it is waiting for; unavailable, the node has ended, with the reason.
  result<void> wait_ready(std::chrono::milliseconds timeout) const;

  // As engine::encode and engine::decode.
  std::vector<token_id> encode(std::string_view text) const;
  std::string decode(std::span<const token_id> tokens) const;

  // Every stream gets its last event, then the node's actors end, within seconds. Error: timeout,
  // some do not (a device that hangs), and the actor system will not end either.
  result<void> stop();

  struct impl;
  explicit embedded_node(std::unique_ptr<impl> parts);

 private:
  std::unique_ptr<impl> impl_;
};

// Reads the model's head and begins to join and load; returns before that is done. HTTP is served
// only where `cluster` lists a gateway. `node` is a name in it; empty: the first. Several engines
// may live in one system. Errors: as of dinfer-node's start; unsupported, one process a device
// (isolation), or nodes without the network that configure() adds.
DINFER_EXPORT result<embedded_node> spawn_node(caf::actor_system& system, cluster_config cluster,
                                               const std::string& node = {});

// How what is large in messages crosses: packed, read with bounds.
DINFER_EXPORT std::string pack(const generate_request& words);
DINFER_EXPORT std::string pack(const token_event& words);
DINFER_EXPORT caf::error unpack(std::string_view bytes, generate_request& words);
DINFER_EXPORT caf::error unpack(std::string_view bytes, token_event& words);

template <class Inspector, class Plain, class Packed>
auto inspect_packed(Inspector& f, const char* name, Plain& plain, Packed& words) {
  std::string bytes = Inspector::reads_state ? pack(words) : std::string{};
  return f(caf::meta::type_name(name), plain, bytes,
           caf::meta::load_callback([&] { return unpack(bytes, words); }));
}
template <class Inspector>
auto inspect(Inspector& f, open_stream& x) {
  return inspect_packed(f, "dinfer::open_stream", x.credit, x.request);
}
template <class Inspector>
auto inspect(Inspector& f, stream_event& x) {
  return inspect_packed(f, "dinfer::stream_event", x.code, x.event);
}
template <class Inspector>
auto inspect(Inspector& f, stream_opened& x) {
  return f(caf::meta::type_name("dinfer::stream_opened"), x.id);
}
template <class Inspector>
auto inspect(Inspector& f, grant_credit& x) {
  return f(caf::meta::type_name("dinfer::grant_credit"), x.id, x.events);
}
template <class Inspector>
auto inspect(Inspector& f, close_stream& x) {
  return f(caf::meta::type_name("dinfer::close_stream"), x.id);
}

}  // namespace dinfer
