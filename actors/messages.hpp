// SPDX-License-Identifier: Apache-2.0
// The messages of serving, one plain struct each: steps, requests, tokens, the engine's state. No
// CAF include, no float, no handle (those travel beside a struct, see interfaces.hpp). Bulk
// (`blob`) is a packed string of runtime/schedule/step_codec.hpp. Changing anything here, or in the
// files beside it, raises protocol_version.
#pragma once

#include "dinfer/fields.hpp"
#include "dinfer/request.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::actors {

// Makes `fields` of a message type without members.
#define DINFER_EMPTY_MESSAGE(type)                                 \
  struct type {                                                    \
    static auto fields(auto& /*x*/, auto&& f) { return f(#type); } \
  }

// A step: out to every stage and from there to its shards, back from the last one's rank 0.
struct run_step {
  std::uint32_t epoch = 0;
  std::uint64_t step = 0;
  std::string blob;  // step_plan
  static auto fields(auto& x, auto&& f) {
    return f("run_step", named{"epoch", x.epoch}, named{"step", x.step}, named{"blob", x.blob});
  }
};
struct step_done {
  std::uint32_t epoch = 0;
  std::uint64_t step = 0;
  std::string blob;  // step_result
  static auto fields(auto& x, auto&& f) {
    return f("step_done", named{"epoch", x.epoch}, named{"step", x.step}, named{"blob", x.blob});
  }
};

// A request on its way in; `blob` is a generate_request. The gateway is known by the id's high
// bits.
struct submit {
  std::uint64_t id = 0;
  std::string blob;
  static auto fields(auto& x, auto&& f) {
    return f("submit", named{"id", x.id}, named{"blob", x.blob});
  }
};
struct cancel {
  std::uint64_t id = 0;
  std::uint8_t reason = 0;  // finish_reason
  static auto fields(auto& x, auto&& f) {
    return f("cancel", named{"id", x.id}, named{"reason", x.reason});
  }
};

// What a step, or an end without a step, meant for one gateway; `blob` holds its token events and
// rejections.
struct token_batch {
  std::uint32_t running = 0, waiting = 0;
  std::string blob;
  static auto fields(auto& x, auto&& f) {
    return f("token_batch", named{"running", x.running}, named{"waiting", x.waiting},
             named{"blob", x.blob});
  }
};

// The scheduler's sign of life, once per heartbeat.
struct engine_pulse {
  std::uint32_t epoch = 0;
  std::uint32_t running = 0, waiting = 0;
  std::uint64_t last_step_age_ms = 0;  // 0 while there is no work
  static auto fields(auto& x, auto&& f) {
    return f("engine_pulse", named{"epoch", x.epoch}, named{"running", x.running},
             named{"waiting", x.waiting}, named{"last_step_age_ms", x.last_step_age_ms});
  }
};
DINFER_EMPTY_MESSAGE(pulse_tick);   // the scheduler to itself: time to look at deadlines
DINFER_EMPTY_MESSAGE(plan_tick);    // the scheduler to itself: plan once for all that just came in
DINFER_EMPTY_MESSAGE(resume_tick);  // the scheduler to itself: requests have waited long enough

// The engine's state as gateways and `status` report it.
struct engine_notice {
  std::uint8_t state = 0;  // net::engine_state
  std::uint32_t epoch = 0;
  std::string stage;
  std::string reason;
  static auto fields(auto& x, auto&& f) {
    return f("engine_notice", named{"state", x.state}, named{"epoch", x.epoch},
             named{"stage", x.stage}, named{"reason", x.reason});
  }
};
struct engine_ready {
  std::uint32_t epoch = 0;
  static auto fields(auto& x, auto&& f) { return f("engine_ready", named{"epoch", x.epoch}); }
};

// A gateway is there, or gone, as the scheduler or supervisor is told; sent with its handle.
struct add_gateway {
  std::uint32_t index = 0;  // into config.gateways; 32768 and up: a node's own front
  static auto fields(auto& x, auto&& f) { return f("add_gateway", named{"index", x.index}); }
};

// Ends every request of a scheduler or gateway with this error; the scheduler ends as well.
struct fail_engine {
  std::string reason;
  static auto fields(auto& x, auto&& f) { return f("fail_engine", named{"reason", x.reason}); }
};

// The group is lost: the scheduler's requests wait for another one, within a bound.
struct interrupt_engine {
  std::string reason;
  static auto fields(auto& x, auto&& f) { return f("interrupt_engine", named{"reason", x.reason}); }
};
// A group stands, with so many blocks in each KV group: they go on. Sent with its stages.
struct resume_engine {
  std::uint32_t epoch = 0;
  std::vector<std::uint32_t> blocks;
  static auto fields(auto& x, auto&& f) {
    return f("resume_engine", named{"epoch", x.epoch}, named{"blocks", x.blocks});
  }
};

// The scheduler asks why: a step was not answered within its deadline.
struct step_overdue {
  std::uint32_t epoch = 0;
  std::uint64_t step = 0;
  std::uint64_t age_ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("step_overdue", named{"epoch", x.epoch}, named{"step", x.step},
             named{"age_ms", x.age_ms});
  }
};

// No new requests; answered when none is left.
struct drain_engine {
  std::uint32_t timeout_ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("drain_engine", named{"timeout_ms", x.timeout_ms});
  }
};
DINFER_EMPTY_MESSAGE(drained);

}  // namespace dinfer::actors
