// SPDX-License-Identifier: Apache-2.0
// Every actor's interface, a line per handler, and the type IDs of all messages: who talks to whom.
// Nodes talk in a star: every node dials the first one, where the directory, the supervisor and the
// scheduler live; stages and gateways answer over that link.
#pragma once

#include "actors/messages.hpp"
#include "actors/messages_cluster.hpp"
#include "actors/messages_shard.hpp"
#include "actors/messages_status.hpp"
#include "actors/seam.hpp"

namespace dinfer::actors {

// What a scheduler knows of a gateway.
using token_sink_actor = actor_of<caf::result<void>(token_batch),    // of one step; no answer
                                  caf::result<void>(engine_pulse)>;  // sign of life

// Fans a plan out to the shards of one stage on one node.
using stage_actor = actor_of<caf::result<void>(run_step)>;
using stage_list = std::vector<stage_actor>;

// Runs runtime::scheduler at step boundaries, for group after group. One, on the first node.
using scheduler_actor = actor_of<  //
    caf::result<void>(submit),     // from a gateway: answered by a token_batch
    caf::result<void>(cancel),
    caf::result<void>(step_done),                      // from the last stage's tp rank 0
    caf::result<void>(add_gateway, token_sink_actor),  // before its first submit
    caf::result<void>(resume_engine, stage_list),      // from the supervisor: steps may go there
    caf::result<void>(interrupt_engine),  // requests wait for the next group, within a bound
    caf::result<void>(fail_engine),       // every request ends with an error; quits
    caf::result<drained>(drain_engine),   // no more submits; answered when no request is left
    caf::result<void>(plan_tick),         // to itself: once for all that just came in
    caf::result<void>(resume_tick),       // to itself: requests have waited long enough
    caf::result<void>(pulse_tick),        // to itself: step deadline and pulses
    caf::result<cluster_status>(status_query)>;  // its load alone

using status_source_actor = actor_of<caf::result<cluster_status>(status_query)>;  // the directory

// Implements net::engine_link for one front.
using gateway_actor = token_sink_actor::extend_with<actor_of<  //
    caf::result<void>(submit),                                 // from its front
    caf::result<void>(cancel),                                 // from its front
    caf::result<void>(engine_ready, scheduler_actor),          // requests go there from now on
    caf::result<void>(engine_notice),    // loading, draining or dead: new requests are refused
    caf::result<void>(fail_engine),      // from its node, which ends: so do open requests
    caf::result<drained>(drain_engine),  // refuses from now on; answered when none is open
    caf::result<void>(welcome, status_source_actor),  // from its node, which has joined
    caf::result<void>(show_cluster)>>;                // from its front

// What a shard tells of itself.
using fault_sink_actor = actor_of<    //
    caf::result<void>(shard_failed),  // a step failed; the shard waits for connect_shard
    caf::result<void>(load_progress)>;

// Owns one device and its runner, on a thread of its own.
using shard_actor = actor_of<                 //
    caf::result<shard_loaded>(load_shard),    // makes the runner and loads its weights
    caf::result<cache_offer>(size_cache),     // how many blocks fit
    caf::result<shard_card>(open_card),       // how peers reach it
    caf::result<shard_ready>(connect_shard),  // meets all others
    caf::result<links_checked>(check_links),  // measures its links, and holds no model
    caf::result<shard_ready>(start_cache, scheduler_actor),  // steps of this epoch may follow
    caf::result<void>(run_step)>;                            // in order, never skipped; no answer

// What the supervisor may order of a node.
using worker_actor = actor_of<                                //
    caf::result<shard_actor>(shard_order, fault_sink_actor),  // spawns a shard
    caf::result<stage_actor>(stage_order),                    // for the shards it has
    caf::result<void>(abort_shards),                          // wakes blocked collectives
    caf::result<void>(drop_shards),                           // forgets shards and weights
    caf::result<progress_report>(progress_query),             // which step each shard is at
    caf::result<void>(engine_notice),                         // for its own status
    caf::result<void>(end_node),                              // the process ends
    caf::result<void>(end_child)>;  // a child of it is lost: end its process

// Forms the group of shards, watches it, forms it again. One, on the first node.
using supervisor_actor = fault_sink_actor::extend_with<actor_of<  //
    caf::result<void>(node_joined, worker_actor),                 // from the directory
    caf::result<void>(node_lost),                                 // from the directory
    caf::result<void>(child_ended),                               // from the child's node
    caf::result<void>(add_gateway, gateway_actor),                // from the gateway's node
    caf::result<void>(step_overdue),                              // from the scheduler
    caf::result<void>(form_tick),                                 // to itself
    caf::result<drained>(drain_cluster),                          // from a node that leaves
    caf::result<cluster_status>(status_query)>>;                  // but for the nodes

// Who is there. One, published at the first node's address: all that a stranger can reach.
using directory_actor = status_source_actor::extend_with<
    actor_of<caf::result<welcome, supervisor_actor>(hello, worker_actor)>>;  // admits or refuses

// Waits on sockets so that nobody else has to: tries a port before CAF may connect to it.
using dialer_actor = actor_of<           //
    caf::result<directory_actor>(dial),  // errors: peer_lost, timeout, mismatch
    caf::result<welcome>(probe)>;        // the port accepts connections

// One per process: joins, and does what the supervisor orders.
using node_actor = worker_actor::extend_with<actor_of<  //
    caf::result<void>(join_now),                        // to itself: dial the first node
    caf::result<void>(child_ended),                     // from what keeps its children
    caf::result<void>(drain_engine)>>;                  // the process was asked to leave

}  // namespace dinfer::actors
#define DINFER_MESSAGE(type) CAF_ADD_TYPE_ID(dinfer, (dinfer::actors::type))
CAF_BEGIN_TYPE_ID_BLOCK(dinfer, caf::first_custom_type_id)
DINFER_MESSAGE(hello)
DINFER_MESSAGE(welcome)
DINFER_MESSAGE(node_joined)
DINFER_MESSAGE(node_lost)
DINFER_MESSAGE(child_ended)
DINFER_MESSAGE(dial)
DINFER_MESSAGE(probe)
DINFER_MESSAGE(shard_order)
DINFER_MESSAGE(stage_order)
DINFER_MESSAGE(drop_shards)
DINFER_MESSAGE(abort_shards)
DINFER_MESSAGE(progress_query)
DINFER_MESSAGE(progress_report)
DINFER_MESSAGE(end_node)
DINFER_MESSAGE(end_child)
DINFER_MESSAGE(drain_cluster)
DINFER_MESSAGE(status_query)
DINFER_MESSAGE(cluster_status)
DINFER_MESSAGE(show_cluster)
DINFER_MESSAGE(join_now)
DINFER_MESSAGE(form_tick)
DINFER_MESSAGE(load_shard)
DINFER_MESSAGE(shard_loaded)
DINFER_MESSAGE(size_cache)
DINFER_MESSAGE(cache_offer)
DINFER_MESSAGE(open_card)
DINFER_MESSAGE(shard_card)
DINFER_MESSAGE(connect_shard)
DINFER_MESSAGE(check_links)
DINFER_MESSAGE(links_checked)
DINFER_MESSAGE(start_cache)
DINFER_MESSAGE(shard_ready)
DINFER_MESSAGE(load_progress)
DINFER_MESSAGE(shard_failed)
DINFER_MESSAGE(run_step)
DINFER_MESSAGE(step_done)
DINFER_MESSAGE(submit)
DINFER_MESSAGE(cancel)
DINFER_MESSAGE(token_batch)
DINFER_MESSAGE(engine_pulse)
DINFER_MESSAGE(pulse_tick)
DINFER_MESSAGE(plan_tick)
DINFER_MESSAGE(resume_tick)
DINFER_MESSAGE(engine_notice)
DINFER_MESSAGE(engine_ready)
DINFER_MESSAGE(add_gateway)
DINFER_MESSAGE(interrupt_engine)
DINFER_MESSAGE(resume_engine)
DINFER_MESSAGE(fail_engine)
DINFER_MESSAGE(step_overdue)
DINFER_MESSAGE(drain_engine)
DINFER_MESSAGE(drained)
DINFER_MESSAGE(token_sink_actor)
DINFER_MESSAGE(scheduler_actor)
DINFER_MESSAGE(gateway_actor)
DINFER_MESSAGE(fault_sink_actor)
DINFER_MESSAGE(shard_actor)
DINFER_MESSAGE(stage_actor)
DINFER_MESSAGE(stage_list)
DINFER_MESSAGE(worker_actor)
DINFER_MESSAGE(supervisor_actor)
DINFER_MESSAGE(directory_actor)
DINFER_MESSAGE(status_source_actor)
CAF_END_TYPE_ID_BLOCK(dinfer)
#undef DINFER_MESSAGE
