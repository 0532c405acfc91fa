// SPDX-License-Identifier: Apache-2.0
// Token events to text, text to answers.
#include "net/openai/generation.hpp"

#include <algorithm>

namespace dinfer::net {

struct generation::choice {
  choice(const runtime::tokenizer& words, bool skip_special,
         std::shared_ptr<const stop_strings> strings)
      : text(words, skip_special), stops(std::move(strings)) {}

  request_id id = 0;
  std::uint32_t index = 0;
  const prepared_prompt* prompt = nullptr;
  bool first_of_prompt = false;  // its prompt counts in the usage

  runtime::detokenizer text;
  stop_matcher stops;
  std::vector<sampled_token> prompt_logprobs;
  std::size_t text_offset = 0;  // in a stream: of the next token, in characters

  // Kept for the answer as a whole.
  std::string output;
  std::vector<token_id> token_ids;
  std::vector<sampled_token> logprobs;

  std::uint32_t tokens = 0, cached_tokens = 0;
  bool opened = false, ended = false;
  finish_reason finish = finish_reason::none;
  stop_cause cause;
  std::optional<time_point> last_token;
};

// What one event adds to a choice.
struct generation::piece {
  std::string text;
  std::vector<token_id> token_ids;
  std::vector<sampled_token> logprobs;
};

namespace {

double seconds_between(generation::time_point from, generation::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

generation::generation(prepared_call call, answer_style style,
                       std::shared_ptr<const served_model> model, time_point arrival)
    : call_(std::move(call)),
      style_(std::move(style)),
      model_(std::move(model)),
      stops_(std::make_shared<const stop_strings>(std::move(call_.call.stop))),
      arrival_(arrival) {
  style_.kind = call_.call.kind;
  style_.include_usage = call_.call.include_usage;
  style_.logprobs = call_.call.sampling.logprobs;
}

generation::~generation() = default;

std::vector<generate_request> generation::requests(const std::function<request_id()>& next_id) {
  std::vector<generate_request> out;
  for (const auto& prompt : call_.prompts) {
    for (std::uint32_t i = 0; i < call_.call.n; ++i) {
      auto made = std::make_unique<choice>(*model_->words, call_.call.skip_special_tokens, stops_);
      made->id = next_id();
      made->index = static_cast<std::uint32_t>(choices_.size());
      made->prompt = &prompt;
      made->first_of_prompt = i == 0;
      auto& request = out.emplace_back();
      request.id = made->id;
      request.prompt = prompt.tokens;
      request.sampling = call_.call.sampling;
      request.sampling.seed = choice_seed(call_.call.sampling.seed, i);
      request.priority = call_.call.priority;
      request.cache_salt = call_.call.cache_salt;
      choices_.push_back(std::move(made));
    }
  }
  open_ = choices_.size();
  return out;
}

generation::choice* generation::find(request_id id) noexcept {
  for (const auto& c : choices_)
    if (c->id == id) return c->ended ? nullptr : c.get();
  return nullptr;
}

void generation::reject(request_id id, const error& why, generation_effects& out) {
  auto* c = find(id);
  if (c == nullptr) return;
  c->finish = finish_reason::error;
  c->ended = true;
  --open_;
  out.ended.push_back(id);
  if (!out.failure) out.failure = why;
}

void generation::take(const token_event& event, time_point now, generation_effects& out) {
  auto* found = find(event.id);
  if (found == nullptr) return;
  auto& c = *found;
  if (event.finish == finish_reason::error || event.finish == finish_reason::abort) {
    const bool aborted = event.finish == finish_reason::abort;
    auto text = aborted ? std::string("the server ended this request") : event.message;
    if (text.empty()) text = "the engine failed while it worked on this request";
    return reject(event.id, {aborted ? errc::cancelled : errc::internal, std::move(text), {}}, out);
  }
  out.started = true;
  c.cached_tokens = event.used.cached_tokens;
  c.prompt_logprobs.insert(c.prompt_logprobs.end(), event.prompt_logprobs.begin(),
                           event.prompt_logprobs.end());
  note_time(c, !event.tokens.empty(), now);

  piece fresh;
  if (!call_.scoring_only) add_tokens(c, event, fresh);
  if (c.finish != finish_reason::none) {
    // A stop string, which the engine cannot see.
    if (event.finish == finish_reason::none) out.stop.push_back(c.id);
  } else if (event.finish != finish_reason::none) {
    c.finish = call_.scoring_only ? finish_reason::length : event.finish;
    const auto& own = call_.call.sampling.stop_token_ids;
    if (event.stop_token && std::find(own.begin(), own.end(), *event.stop_token) != own.end())
      c.cause = *event.stop_token;
  }
  // Before the first token nothing is known that a client could use.
  if (!event.tokens.empty() || c.finish != finish_reason::none) open(c, out);
  emit(c, fresh, out);
  if (c.finish != finish_reason::none) end(c, out);
}

void generation::note_time(choice& c, bool tokens, time_point now) {
  if (!tokens) return;
  if (!any_token_) first_token_ = now;
  any_token_ = true;
  last_token_ = now;
  if (c.last_token && on_gap_) on_gap_(seconds_between(*c.last_token, now));
  c.last_token = now;
}

// Sets c.finish when a stop string is complete; tokens after it are dropped.
void generation::add_tokens(choice& c, const token_event& event, piece& fresh) {
  const bool keep_ids = call_.call.return_token_ids;
  for (std::size_t i = 0; i < event.tokens.size(); ++i) {
    const auto& token = event.tokens[i];
    ++c.tokens;
    if (keep_ids) fresh.token_ids.push_back(token.token);
    if (style_.logprobs >= 0) fresh.logprobs.push_back(token);
    const bool ends = event.stop_token && i + 1 == event.tokens.size();
    if (ends && !call_.call.include_stop_string) break;
    if (feed(c, c.text.push(token.token), fresh)) return;
  }
  if (event.finish == finish_reason::none) return;
  if (feed(c, c.text.finish(), fresh)) return;
  fresh.text += c.stops.finish();
}

// Through the stop strings; before min_tokens they do not count. true: one is complete.
bool generation::feed(choice& c, const std::string& text, piece& fresh) const {
  if (c.tokens <= call_.call.sampling.min_tokens) {
    fresh.text += text;
    return false;
  }
  const auto found = c.stops.push(text, fresh.text);
  if (!found) return false;
  c.finish = finish_reason::stop;
  c.cause = stops_->texts()[*found];
  if (call_.call.include_stop_string) fresh.text += stops_->texts()[*found];
  return true;
}

// `offset`: of the first token, in characters; moved past the last.
std::string generation::logprobs_of(const choice& c, std::span<const sampled_token> tokens,
                                    bool echo, std::size_t& offset) const {
  std::string out;
  if (style_.logprobs < 0) return out;
  const auto& words = *model_->words;
  if (style_.kind == call_kind::chat) {
    append_chat_logprobs(out, words, {tokens, false, 0}, style_.logprobs);
    return out;
  }
  std::vector<sampled_token> all;
  if (echo) {
    // The first prompt token has no probability; the others have what the engine reported.
    all.push_back({c.prompt->tokens.front(), 0, {}});
    all.insert(all.end(), c.prompt_logprobs.begin(), c.prompt_logprobs.end());
  }
  all.insert(all.end(), tokens.begin(), tokens.end());
  append_completion_logprobs(out, words, {all, echo, offset}, style_.logprobs);
  for (const auto& t : all) offset += characters(words.bytes(t.token));
  return out;
}

// The first events of a choice: the role, or the prompt when it is to be repeated.
void generation::open(choice& c, generation_effects& out) {
  if (c.opened) return;
  c.opened = true;
  if (!streams()) return;
  choice_part part;
  part.index = c.index;
  if (call_.call.return_token_ids) part.prompt_token_ids = &c.prompt->tokens;
  const bool chat = style_.kind == call_kind::chat;
  if (!chat && !call_.call.echo && part.prompt_token_ids == nullptr) return;
  std::string logprobs;
  if (call_.call.echo) {
    part.text = c.prompt->text;
    logprobs = logprobs_of(c, {}, true, c.text_offset);
    part.logprobs = logprobs;
  }
  const auto total = used();
  append_chunk_event(out.events, style_, part, delta_kind::role,
                     call_.call.continuous_usage ? &total : nullptr);
  ++out.event_count;
}

void generation::emit(choice& c, const piece& fresh, generation_effects& out) {
  if (!streams()) {
    c.output += fresh.text;
    c.token_ids.insert(c.token_ids.end(), fresh.token_ids.begin(), fresh.token_ids.end());
    c.logprobs.insert(c.logprobs.end(), fresh.logprobs.begin(), fresh.logprobs.end());
    return;
  }
  if (fresh.text.empty() && fresh.logprobs.empty() && fresh.token_ids.empty()) return;
  choice_part part;
  part.index = c.index;
  part.text = fresh.text;
  std::string logprobs;
  if (!fresh.logprobs.empty()) logprobs = logprobs_of(c, fresh.logprobs, false, c.text_offset);
  part.logprobs = logprobs;
  if (call_.call.return_token_ids) part.token_ids = &fresh.token_ids;
  const auto total = used();
  append_chunk_event(out.events, style_, part, delta_kind::content,
                     call_.call.continuous_usage ? &total : nullptr);
  ++out.event_count;
}

void generation::end(choice& c, generation_effects& out) {
  c.ended = true;
  --open_;
  out.ended.push_back(c.id);
  out.complete = open_ == 0;
  if (!streams()) return;
  choice_part part;
  part.index = c.index;
  part.finish = c.finish;
  part.cause = &c.cause;
  const auto total = used();
  append_chunk_event(out.events, style_, part, delta_kind::end,
                     call_.call.continuous_usage ? &total : nullptr);
  ++out.event_count;
  if (!out.complete) return;
  if (style_.include_usage) append_usage_event(out.events, style_, total);
  out.events += done_event;
  out.event_count += 2;
}

usage generation::used() const {
  usage total;
  for (const auto& c : choices_) {
    total.completion_tokens += c->tokens;
    if (!c->first_of_prompt) continue;
    total.prompt_tokens += static_cast<std::uint32_t>(c->prompt->tokens.size());
    total.cached_tokens += c->cached_tokens;
  }
  return total;
}

std::string generation::body() const {
  std::vector<std::string> texts, logprobs;
  texts.reserve(choices_.size());
  logprobs.reserve(choices_.size());
  std::vector<choice_part> parts;
  for (const auto& c : choices_) {
    auto& part = parts.emplace_back();
    part.index = c->index;
    part.text = texts.emplace_back(call_.call.echo ? c->prompt->text + c->output : c->output);
    std::size_t offset = 0;
    part.logprobs = logprobs.emplace_back(logprobs_of(*c, c->logprobs, call_.call.echo, offset));
    part.finish = c->finish;
    part.cause = &c->cause;
    if (!call_.call.return_token_ids) continue;
    part.token_ids = &c->token_ids;
    part.prompt_token_ids = &c->prompt->tokens;
  }
  return render_answer(style_, parts, used());
}

std::vector<request_id> generation::unfinished() const {
  std::vector<request_id> out;
  for (const auto& c : choices_)
    if (!c->ended) out.push_back(c->id);
  return out;
}

generation_summary generation::summary(time_point now) const {
  generation_summary out;
  out.used = used();
  out.total_s = seconds_between(arrival_, now);
  if (any_token_) {
    out.first_token_s = seconds_between(arrival_, first_token_);
    out.decode_s = seconds_between(first_token_, last_token_);
  }
  if (!choices_.empty()) out.finish = choices_.front()->finish;
  return out;
}

}  // namespace dinfer::net
