// SPDX-License-Identifier: Apache-2.0
// Where actors of another program open streams of tokens (dinfer/caf.hpp): one actor a node, behind
// a front of its own. It bounds what waits for a slow consumer, and never waits for one. Detached:
// a pool whose threads are taken must not hold up tokens.
#pragma once

#include "actors/interfaces.hpp"
#include "actors/parts.hpp"
#include "dinfer/caf.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

namespace dinfer::actors {

using token_desk_actor =
    engine_actor::extend_with<actor_of<caf::result<void>(stream_event),   // from its front
                                       caf::result<void>(fail_engine)>>;  // every stream ends with
                                                                          // this error; quits

class token_desk {
 public:
  using handle_type = token_desk_actor;
  using self_type = std::remove_pointer_t<token_desk_actor::pointer>;
  static inline const char* name = "dinfer.token_desk";

  token_desk(token_desk_actor::pointer self, std::shared_ptr<net::engine_link> link);
  ~token_desk();
  token_desk(const token_desk&) = delete;
  token_desk& operator=(const token_desk&) = delete;
  token_desk_actor::behavior_type make_behavior();

 private:
  struct stream {
    caf::actor consumer;
    std::uint32_t credit = 0;
    std::uint32_t kept_events = 0;  // that `kept` was put together from
    stream_event kept;
  };

  caf::result<stream_opened> open(const open_stream& message);
  void grant(const grant_credit& message);
  void take(const stream_event& message);
  void lose(const caf::actor& consumer);
  void forget(request_id id);
  void end_all(const std::string& reason);

  token_desk_actor::pointer self_;
  std::shared_ptr<net::engine_link> link_;
  down_watch<self_type> watch_;
  std::unordered_map<request_id, stream> streams_;
  std::map<caf::actor, std::set<request_id>> consumers_;  // each is watched once
};

// The front of a desk that it spawns.
class desk_front : public front {
 public:
  desk_front(caf::actor_system& system, std::shared_ptr<net::engine_link> link);
  result<void> start() override { return {}; }
  std::uint16_t port() const noexcept override { return 0; }
  void model_ready(const net::served_model& model) override { words_ = model.words; }
  void deliver(net::engine_events events) override;
  void stop(std::chrono::milliseconds drain) override;

  engine_actor engine() const { return desk_; }
  net::engine_status status() const { return link_->status(); }
  // Null: the model has none, or is not read yet.
  std::shared_ptr<const runtime::tokenizer> words() const noexcept { return words_; }

 private:
  caf::actor_system& system_;
  std::shared_ptr<net::engine_link> link_;
  std::shared_ptr<const runtime::tokenizer> words_;
  token_desk_actor desk_;
};

}  // namespace dinfer::actors
