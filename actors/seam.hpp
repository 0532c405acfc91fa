// SPDX-License-Identifier: Apache-2.0
// The only file that asks which CAF this is. It speaks the words of CAF 1.x over 0.17.6, which
// Debian 12 ships: a later move rewrites this file, interfaces.hpp and system.cpp and leaves the
// actors alone. Used by the .cpp files of actors/ and by their tests.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/fields.hpp"

#include <caf/all.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#if __has_include(<caf/actor_from_state.hpp>)
#error \
    "dinfer: actors/seam.hpp knows CAF 0.17.6 only; see docs/ARCHITECTURE.md for the words to map"
#endif

namespace dinfer::actors {

using clock_time = caf::actor_clock::time_point;
using std::chrono::milliseconds;

// A message names its members once, in fields(); this makes CAF read and write them.
struct probe_fields {
  template <class... Ts>
  int operator()(const char*, Ts&&...) const {
    return 0;
  }
};
template <class T>
concept wire_message = requires(T& x) {
  std::remove_const_t<T>::fields(x, probe_fields{});
};

template <class Inspector, wire_message T>
auto inspect(Inspector& f, T& x) {
  return T::fields(x, [&](const char* name, auto... members) {
    return f(caf::meta::type_name(name), members.value...);
  });
}

// actor_of<caf::result<answer>(question), ...>: a typed handle, spelled as in CAF 1.x.
namespace detail {
template <class Signature>
struct handler;
template <class... Out, class... In>
struct handler<caf::result<Out...>(In...)> {
  using type = typename caf::replies_to<In...>::template with<Out...>;
};
}  // namespace detail
template <class... Signatures>
using actor_of = caf::typed_actor<typename detail::handler<Signatures>::type...>;

// Holds a state class with constructor (self, args...), make_behavior() and `name`. It is built in
// the actor's init function, so on the actor's own thread when detached.
template <class State>
struct state_cell {
  state_cell() {}  // not an aggregate: CAF would pour the self pointer into its first member
  std::optional<State> value;
  static inline const char* name = State::name;
};

// Keeps the text of an exception that left a handler; CAF would send a bare runtime_error.
template <class Self>
void keep_exception_text(Self* self) {
  self->set_exception_handler([](std::exception_ptr& caught) -> caf::error {
    std::string text = "unknown exception";
    try {
      std::rethrow_exception(caught);
    } catch (const std::exception& e) {
      text = e.what();
    } catch (...) {
    }
    return caf::error{static_cast<std::uint8_t>(errc::internal), caf::atom("dinfer"),
                      caf::make_message(std::move(text), std::string{})};
  });
}

template <class State, caf::spawn_options Options, class Spawner, class... Args>
auto spawn_with(Spawner& spawner, Args&&... args) {
  using handle = typename State::handle_type;
  static_assert(!std::is_aggregate_v<state_cell<State>>);
  auto init = [](typename handle::template stateful_pointer<state_cell<State>> self,
                 const std::decay_t<Args>&... xs) -> typename handle::behavior_type {
    keep_exception_text(self);
    return self->state.value.emplace(self, xs...).make_behavior();
  };
  return spawner.template spawn<Options>(+init, std::forward<Args>(args)...);
}

// spawn_state<shard>(system, detached, args...). Detached: a thread of its own. All are hidden: who
// waits until the actors of a program have ended does not wait for the engine's.
template <class State, class Spawner, class... Args>
auto spawn_state(Spawner& spawner, bool detached, Args&&... args) {
  constexpr auto apart = caf::detached + caf::hidden;
  if (detached) return spawn_with<State, apart>(spawner, std::forward<Args>(args)...);
  return spawn_with<State, caf::hidden>(spawner, std::forward<Args>(args)...);
}

// Sends without an answer.
void tell(auto* self, const auto& to, auto&&... xs) {
  self->send(to, std::forward<decltype(xs)>(xs)...);
}

// Sends and expects an answer: ask(...).then(on_answer, on_error). The timeout is always finite.
auto ask(auto* self, const auto& to, milliseconds timeout, auto&&... xs) {
  return self->request(to, timeout, std::forward<decltype(xs)>(xs)...);
}

// Sends after a while.
void later(auto* self, milliseconds delay, const auto& to, auto&&... xs) {
  self->delayed_send(to, delay, std::forward<decltype(xs)>(xs)...);
}

// Sends from a thread that is no actor's.
void post(const auto& to, auto&&... xs) { caf::anon_send(to, std::forward<decltype(xs)>(xs)...); }

// The handle to oneself, as one's own interface.
template <class Handle>
Handle me(auto* self) {
  return caf::actor_cast<Handle>(self);
}

inline clock_time now(auto* self) { return self->home_system().clock().now(); }

// Holds `what` until an actor has ended and all who watch it, CAF's network too, were told.
void hold_until_end(const auto& handle, auto what) {
  handle->attach_functor([held = std::move(what)](const caf::error&) {});
}

// Calls back once when a watched actor is gone, whatever the reason. Monitors, never links: a link
// would take our side down as well. One per actor; lives in its state.
template <class Self>
class down_watch {
 public:
  using callback = std::function<void(const caf::error&)>;

  explicit down_watch(Self* self) : self_(self) {
    self_->set_down_handler([this](const caf::down_msg& message) {
      auto found = callbacks_.find(message.source);
      if (found == callbacks_.end()) return;
      auto call = std::move(found->second);
      callbacks_.erase(found);
      call(message.reason);
    });
  }

  template <class Handle>
  void on_down(const Handle& handle, callback call) {
    self_->monitor(handle);
    callbacks_[handle.address()] = std::move(call);
  }
  template <class Handle>
  void forget(const Handle& handle) {
    if (callbacks_.erase(handle.address()) > 0) self_->demonitor(handle.address());
  }

 private:
  Self* self_;
  std::map<caf::actor_addr, callback> callbacks_;
};

}  // namespace dinfer::actors
