// SPDX-License-Identifier: Apache-2.0
// What a node is made of, passed in: runners, the model's head, the plan of the cluster, the front
// that serves requests, clock and randomness. `default_parts()` gives the real ones; tests and the
// simulator give others. No CAF here. The functions are called from the actors' threads, a runner's
// from its shard's own; the same function may be called from several shards at once.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "net/http/server.hpp"
#include "net/openai/engine_link.hpp"
#include "net/tls/identity.hpp"
#include "runtime/parallel/placement.hpp"
#include "runtime/runner.hpp"
#include "runtime/schedule/scheduler.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::actors {

// One shard's place: what it computes, where, and what it may use there.
struct planned_rank {
  runtime::rank_layout layout;
  std::uint32_t node = 0;         // index into config.nodes
  std::string device;             // "cpu:0"
  std::uint32_t cpu_threads = 0;  // 0: the device's choice
  std::int32_t first_core = -1;   // -1: not pinned
  std::uint64_t cache_bytes = 0;  // 0: what is free there
};

// Who computes what: made once on the first node, before any weight is read.
struct cluster_plan {
  std::vector<planned_rank> ranks;  // by rank: stage * tensor_parallel_size + tp_rank
  std::uint32_t stages = 1;
  std::uint32_t tensor_parallel_size = 1;
  std::uint32_t max_model_len = 0;
  std::vector<token_id> eos_tokens;
  std::string text;  // for a person: a table and the reason
};

// What a node reads of the model before any weight: nodes compare the fingerprint, gateways serve
// the rest.
struct model_head {
  std::string fingerprint;
  net::served_model served;
};

// What a gateway serves through: the HTTP server, or a test's own client. `deliver` may be called
// from any thread.
class front {
 public:
  virtual ~front() = default;
  virtual result<void> start() = 0;
  virtual std::uint16_t port() const noexcept = 0;
  virtual void model_ready(const net::served_model& model) = 0;
  virtual void deliver(net::engine_events events) = 0;
  virtual void stop(std::chrono::milliseconds drain) = 0;
};

// `here` is the node that the runner works on.
using runner_factory = std::function<result<std::unique_ptr<runtime::runner>>(
    const runtime::runner_options&, const node_section& here)>;
using front_factory = std::function<result<std::unique_ptr<front>>(
    const gateway_section&, std::shared_ptr<net::engine_link>)>;

struct node_parts {
  runner_factory make_runner;
  front_factory make_front;
  std::function<result<model_head>(const cluster_config&)> read_model;
  // `hosts[i]` is config.nodes[i]'s. Called on the first node once all nodes with devices are
  // there.
  std::function<result<cluster_plan>(const cluster_config&,
                                     const std::vector<runtime::host_facts>& hosts)>
      make_plan;
  // This one, as `here` lists its devices. Error: unsupported, a device that is not there.
  std::function<result<runtime::host_facts>(const node_section& here)> host;
  // Called as `steps`, `cache` and the queues change, from the scheduler's thread, and with the
  // start of every life of the engine. May be empty.
  std::function<void(const runtime::scheduler_stats&)> on_stats;
  // Seconds that a phase of the start took, of the slowest rank; on the first node, but for "http"
  // from any thread that calls node_process::start(). May be empty.
  std::function<void(const std::string& phase, double seconds)> on_phase;
  // A fault that ended a life of the engine: the node to blame, or "", and the cause in few words.
  // On the first node, from any thread. May be empty.
  std::function<void(const std::string& node, const std::string& cause)> on_fault;
  std::function<std::uint64_t()> random;  // start of request counters
  std::uint32_t steps_ahead = 1;          // plans sent before a result is back; 0: to measure

  // Who we say we are when we join; two nodes must agree on all three.
  std::string build;
  std::uint32_t protocol = 0;
  std::string config_text;                       // the canonical cluster-wide part
  std::shared_ptr<const net::tls_identity> own;  // for TLS with other nodes; null: without
};

// The wires between ranks whose devices have none of their own, for a rank on node `here`.
std::unique_ptr<runtime::transport> make_wires(const runtime::runner_options& options,
                                               const node_section& here,
                                               const cluster_config& config,
                                               std::shared_ptr<const net::tls_identity> own);

// The real parts: "fake:N" devices run the fake runner, all others the model's with the CPU's
// transport; gateways serve HTTP with `metrics`. Reads no file.
node_parts default_parts(const cluster_config& config,
                         std::shared_ptr<runtime::metrics_registry> metrics,
                         std::shared_ptr<const net::tls_identity> own = nullptr);

}  // namespace dinfer::actors
