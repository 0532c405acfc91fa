// SPDX-License-Identifier: Apache-2.0
// Forms the group of shards: waits for the nodes, plans, has shards spawned, loaded, sized and
// connected, starts the scheduler, tells the gateways. When a node, a shard or a step is lost it
// interrupts the scheduler, and forms the group again under the next epoch; shards that lived keep
// their weights on the first try. One, on the first node.
#pragma once

#include "actors/interfaces.hpp"
#include "actors/orders.hpp"
#include "actors/parts.hpp"
#include "runtime/check/findings.hpp"
#include "runtime/check/rank_check.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace dinfer::actors {

struct supervisor_setup {
  std::shared_ptr<const cluster_config> config;
  std::function<result<cluster_plan>(const cluster_config&,
                                     const std::vector<runtime::host_facts>&)>
      make_plan;
  dialer_actor dialer;  // to say why a node is missing; may be empty
  bool detached = true;
  std::uint32_t steps_ahead = 1;
  std::function<void(const runtime::scheduler&)> on_change;  // after each result and heartbeat
  std::function<void(const std::string& phase, double seconds)> on_phase;  // of a start
  std::function<void(const std::string& node, const std::string& cause)> on_fault;
  // Set: devices and links are checked and no model is loaded; then the cluster ends. Called with
  // the table of what was found.
  std::function<void(const std::vector<runtime::finding>&)> on_check;
  // Lines for a person; any may be empty.
  std::function<void(const std::string&)> on_progress, on_plan, on_ready, on_error;
};

class supervisor {
 public:
  using handle_type = supervisor_actor;
  using self_type = std::remove_pointer_t<supervisor_actor::pointer>;
  static inline const char* name = "dinfer.supervisor";

  supervisor(supervisor_actor::pointer self, supervisor_setup setup);
  ~supervisor();
  supervisor(const supervisor&) = delete;
  supervisor& operator=(const supervisor&) = delete;
  supervisor_actor::behavior_type make_behavior();

 private:
  struct member {
    worker_actor worker;
    runtime::host_facts host;
    std::uint32_t process = 0;
  };
  struct kept_child {  // a process that another node's process keeps
    std::size_t index = 0;
    std::uint32_t process = 0;
    bool operator==(const kept_child&) const = default;
  };
  struct rank_state {
    shard_actor shard;
    bool loaded = false;
    bool fresh = false;                 // in this attempt
    std::uint64_t weight_bytes = 0;     // once loaded
    std::uint64_t done = 0, total = 0;  // bytes of weights
  };
  enum class phase { waiting, forming, serving, ended };
  struct fault {
    error why;
    std::string node = {};                 // that is to blame; empty: no single one
    std::string cause = {};                // empty: the error's code
    std::optional<kept_child> child = {};  // whose parent may yet tell how it ended
    bool left = false;                     // the node is gone; the others are as they were
  };

  // Who is there.
  void join(const node_joined& message, const worker_actor& worker);
  void take_fault(const shard_failed& message);
  void lose_node(std::size_t index, const std::string& why);
  void lose_child(const child_ended& message);
  void hold(fault what);
  std::string forget_node(std::size_t index);
  void join_gateway(std::uint32_t index, const gateway_actor& gateway);
  std::vector<std::size_t> missing_nodes() const;
  void report_missing();
  void say_missing(const std::vector<std::string>& words);

  // Telling (supervisor_status.cpp).
  caf::result<cluster_status> status() const;
  rank_line line_of(std::size_t rank) const;

  // Forming, in this order (supervisor_form.cpp).
  void form();
  void plan();
  void spawn_shards();
  void load();
  void note_progress(const load_progress& message);
  void size();
  void exchange_cards();
  void connect();
  void check();
  void end_check();
  void spawn_stages();
  void start_scheduler();
  void spawn_scheduler(runtime::scheduler_config config);
  void note_phases(const shard_ready& ready);
  void end_phase(const char* phase_name, clock_time since);
  void say_phases();
  void serve();
  // Asks every rank of `who`; `take(rank, answer)` for each, `next()` after the last. An error ends
  // the attempt; answers of an attempt that has ended are dropped.
  template <class Answer, class Ask, class Take, class Next>
  void gather(const std::vector<std::size_t>& who, Ask ask_one, Take take, Next next);
  std::vector<std::size_t> all_ranks() const;
  milliseconds startup_left() const;

  // Ending (supervisor.cpp).
  fault fault_of(std::size_t rank, error why) const;
  void fail(const fault& what);
  void end_frozen(const kept_child& child);
  void rest(bool fresh);
  void give_up(int code, const std::string& reason);
  void explain_overdue(const step_overdue& message);
  caf::result<drained> drain(const drain_cluster& message);
  void finish_drain(std::uint32_t index, caf::typed_response_promise<drained> promise);
  void announce(net::engine_state state, const std::string& stage, const std::string& reason);
  static void say(const std::function<void(const std::string&)>& to, const std::string& line);

  supervisor_actor::pointer self_;
  supervisor_setup setup_;
  down_watch<self_type> watch_;
  engine_notice notice_;
  phase phase_ = phase::waiting;
  std::uint64_t attempt_ = 1;
  std::uint32_t epoch_ = 0, failures_ = 0;  // failures in a row, without a stable time between
  bool served_ = false, resting_ = false, probing_ = false;
  std::set<std::uint32_t> draining_;  // nodes that want to leave, by index
  clock_time waiting_since_, connecting_since_, serving_since_;
  std::string missing_said_;
  std::optional<fault> held_fault_;  // while serving, until the next form_tick
  std::string last_fault_;           // until the engine serves again
  std::string told_fault_;           // the last one, whatever came after it
  clock_time fault_at_;
  std::uint32_t faults_ = 0;
  std::uint64_t percent_said_ = 0;
  std::vector<member> members_;  // by index into config.nodes
  std::map<std::uint32_t, gateway_actor> gateways_;
  std::optional<cluster_plan> plan_;
  std::vector<rank_state> ranks_;
  std::vector<cache_offer> offers_;
  std::vector<std::uint32_t> blocks_;  // of each KV group
  std::vector<phase_word> phases_;     // of this attempt, on the slowest rank that loads in it
  std::vector<std::string> cards_;
  std::vector<runtime::rank_check> checks_;
  std::vector<stage_actor> stages_;
  scheduler_actor scheduler_;
};

}  // namespace dinfer::actors
