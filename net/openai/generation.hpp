// SPDX-License-Identifier: Apache-2.0
// One HTTP call while it generates: its choices (n of each prompt), their text, stop strings,
// log-probabilities and usage. Token events go in; events for a stream or one JSON answer come out.
// Knows no socket, engine or clock. One thread: that of the call's connection.
#pragma once

#include "net/openai/prepare.hpp"
#include "net/openai/render.hpp"
#include "net/openai/stop_matcher.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dinfer::net {

// What events caused; the caller empties it.
struct generation_effects {
  std::string events;             // for the client, when the call streams
  std::uint32_t event_count = 0;  // how many
  std::vector<request_id> stop;   // found a stop string: cancel these with reason stop
  std::vector<request_id> ended;  // no event of these matters any more
  bool started = false;           // the engine has accepted: the head of a stream may be sent
  bool complete = false;          // all choices ended; body() is whole
  std::optional<error> failure;   // the call failed as a whole
};

// Numbers about a finished call, for metrics and the access log. Seconds; negative: unknown.
struct generation_summary {
  usage used;
  double first_token_s = -1, total_s = 0, decode_s = -1;
  finish_reason finish = finish_reason::none;  // of the first choice
};

class generation {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  // Called with the seconds between two events of one choice that both brought tokens.
  using gap_observer = std::function<void(double seconds)>;

  generation(prepared_call call, answer_style style, std::shared_ptr<const served_model> model,
             time_point arrival);
  ~generation();

  // What to submit: one request per choice. Call once.
  std::vector<generate_request> requests(const std::function<request_id()>& next_id);

  void take(const token_event& event, time_point now, generation_effects& out);
  void reject(request_id id, const error& why, generation_effects& out);

  bool streams() const noexcept { return call_.call.stream; }
  std::string body() const;                    // the whole answer of a call that does not stream
  std::vector<request_id> unfinished() const;  // to cancel when the client is gone
  const answer_style& style() const noexcept { return style_; }
  const prepared_call& call() const noexcept { return call_; }
  generation_summary summary(time_point now) const;
  void observe_gaps(gap_observer observer) { on_gap_ = std::move(observer); }

 private:
  struct choice;
  struct piece;

  choice* find(request_id id) noexcept;
  void open(choice& c, generation_effects& out);
  void add_tokens(choice& c, const token_event& event, piece& now);
  bool feed(choice& c, const std::string& text, piece& now) const;
  void note_time(choice& c, bool tokens, time_point now);
  void emit(choice& c, const piece& now, generation_effects& out);
  void end(choice& c, generation_effects& out);
  std::string logprobs_of(const choice& c, std::span<const sampled_token> tokens, bool echo,
                          std::size_t& offset) const;
  usage used() const;

  prepared_call call_;
  answer_style style_;
  std::shared_ptr<const served_model> model_;
  std::shared_ptr<const stop_strings> stops_;
  std::vector<std::unique_ptr<choice>> choices_;
  std::size_t open_ = 0;  // choices that have not ended
  time_point arrival_, first_token_{}, last_token_{};
  bool any_token_ = false;
  gap_observer on_gap_;
};

}  // namespace dinfer::net
