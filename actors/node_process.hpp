// SPDX-License-Identifier: Apache-2.0
// One process of a cluster: its actor system, its node actor and its gateways. What a program
// calls; it knows no CAF, but may name an actor system that is there already. Thread: any, one at a
// time, but wait(), drain() and abort() may overlap.
//
//   node_process node(options);
//   if (auto up = node.start(); !up) ...   // bound, gateways answer (503 while loading)
//   int code = node.wait();                // until drained, aborted, refused or lost
#pragma once

#include "actors/parts.hpp"
#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/check/findings.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace caf {
class actor_system;
}

namespace dinfer::actors {

struct node_options {
  cluster_config config;       // checked by runtime::check_config
  std::size_t node_index = 0;  // into config.nodes; 0 is the first node
  node_parts parts;            // default_parts(config, metrics)
  // Program and arguments of this process, if it shall keep processes for its children; each is
  // started with "--node" and its name at the end.
  std::vector<std::string> command;
  // Set: the cluster checks devices and links, ends, and serves nothing (check_parts.hpp). Called
  // on the first node with what was found, from an actor's thread.
  std::function<void(const std::vector<runtime::finding>&)> on_check;
  // Lines for a person, from the actors' threads; may be empty.
  std::function<void(const std::string&)> on_progress;  // phases, missing nodes, loading
  std::function<void(const std::string&)> on_plan;      // the plan's text, on the first node
  std::function<void(const std::string&)> on_ready;     // once per life of the engine
  std::function<void(const std::string&)> on_error;     // why it is not ready or ends
  // Where the actors live, beside those of strangers, who may block its pool: ours then have
  // threads of their own. It outlives the node. Null: in a system that the node makes.
  caf::actor_system* system = nullptr;
  // A front beside those that the configuration lists, of which there may then be none. May be
  // empty.
  std::function<std::shared_ptr<front>(std::shared_ptr<net::engine_link>)> make_own_front;
};

// What the engine does, as this node knows it.
struct node_status {
  net::engine_status engine;
  std::uint32_t epoch = 0;
  // Of the scheduler; all zero on nodes that do not run it.
  runtime::scheduler_stats stats;
  double generated_per_second = 0, prompt_per_second = 0;  // since the last call of status()
};

class node_process {
 public:
  explicit node_process(node_options options);
  ~node_process();  // as abort(), then stop()
  node_process(const node_process&) = delete;
  node_process& operator=(const node_process&) = delete;

  // Reads the model's head, binds the node's port, starts the gateways and begins to join. Returns
  // before the cluster is ready. Errors: those of the model's file and of the sockets.
  result<void> start();

  // Blocks until the process should end; returns its exit code.
  int wait();

  // Stops admitting, waits at most `timeout` for the running requests, then makes wait() return. On
  // the first node the whole cluster drains and ends; on another one its own gateways do, and when
  // it holds shards the engine as well.
  void drain(std::chrono::milliseconds timeout);

  // Ends at once: running requests get an error event as far as they can still be told.
  void abort();

  // Ends every actor of the node, gateways first, so that their clients are told. Bounded. Once.
  // Error: timeout, some do not end (a device that hangs); they are left behind, and a process with
  // them in it must not end by exit().
  result<void> stop();

  node_status status();
  // Port of gateway `i` of this node, or 0.
  std::uint16_t gateway_port(std::size_t i = 0) const noexcept;
  bool ended() const;  // wait() returns at once
  // The last error's text; empty when wait() returned 0.
  std::string reason() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::actors
