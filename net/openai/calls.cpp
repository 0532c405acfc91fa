// SPDX-License-Identifier: Apache-2.0
// The life of a generating call: prepared, submitted, fed with events, ended.
#include "net/openai/calls.hpp"

#include "net/openai/parse.hpp"
#include "net/openai/tokenize.hpp"
#include "runtime/base/log.hpp"

#include <algorithm>

namespace dinfer::net {

using clock = std::chrono::steady_clock;

namespace {

// Smaller bodies are tokenised faster than they change threads.
constexpr std::size_t inline_body_bytes = 4096;

}  // namespace

struct generating_calls::job {
  std::shared_ptr<request_context> context;
  std::shared_ptr<const loaded_model> model;
  call_kind kind = call_kind::completion;
  std::string body;
  std::int64_t now_unix = 0;
  std::uint64_t seed = 0;
  bool lost = false;
  result<prepared_call> prepared = dinfer::fail(errc::internal, "not prepared");

  // Touches nothing but the job: it may run on another thread.
  void run() {
    prepared = read();
    body = {};
  }
  result<prepared_call> read() const {
    const auto& served = *model->served;
    DINFER_TRY(auto parsed, kind == call_kind::chat ? parse_chat(body, served.sampling)
                                                    : parse_completion(body, served.sampling));
    DINFER_CHECK(check_model_name(parsed.model, served));
    return prepare(std::move(parsed), served, now_unix, seed);
  }
};

struct generating_calls::call {
  call(std::shared_ptr<request_context> c, std::shared_ptr<const loaded_model> m,
       prepared_call prepared, answer_style style)
      : context(std::move(c)),
        model(std::move(m)),
        work(std::move(prepared), std::move(style), model->served, context->arrival) {}

  std::shared_ptr<request_context> context;
  std::shared_ptr<const loaded_model> model;
  generation work;
  generation_effects effects;
  bool touched = false;
  bool over = false;
};

void generating_calls::start(call_kind kind, std::string body,
                             std::shared_ptr<request_context> context) {
  auto made = std::make_shared<job>();
  made->context = std::move(context);
  made->model = shared_.model();
  made->kind = kind;
  made->body = std::move(body);
  made->now_unix = shared_.now_unix();
  made->seed = shared_.random();
  made->context->on_lost([made](lost_reason) { made->lost = true; });
  if (made->body.size() <= inline_body_bytes) {
    made->run();
    return submit(std::move(made));
  }
  offload_([made] { made->run(); }, [this, made] { submit(made); });
}

void generating_calls::submit(std::shared_ptr<job> prepared) {
  auto context = std::move(prepared->context);  // the job's own callback must not keep it
  if (prepared->lost) return;
  if (!prepared->prepared) return context->fail(prepared->prepared.error());
  for (const auto& name : prepared->prepared->call.unknown_fields)
    if (shared_.first_sight(name))
      DINFER_LOG_WARN("http: the request field {} is not known and was ignored", name);

  answer_style style;
  const auto& own_id = prepared->prepared->call.request_id;
  style.id = (prepared->kind == call_kind::chat ? "chatcmpl-" : "cmpl-") +
             (own_id.empty() ? context->id : own_id);
  style.created = prepared->now_unix;
  style.model = prepared->model->served->name;
  auto c = std::make_shared<call>(context, prepared->model, std::move(*prepared->prepared),
                                  std::move(style));
  const auto& metrics = c->model->metrics;
  metrics.submitted(c->work.call());
  c->work.observe_gaps([&metrics](double seconds) { metrics.gap(seconds); });
  c->context->on_lost([this, c](lost_reason reason) { lost(c, reason); });
  auto requests = c->work.requests([this] { return shared_.engine().next_id(); });
  for (const auto& request : requests) by_id_.emplace(request.id, c);
  for (auto& request : requests) shared_.engine().submit(std::move(request));
}

void generating_calls::touch(const std::shared_ptr<call>& c) {
  if (c->touched) return;
  c->touched = true;
  touched_.push_back(c);
}

void generating_calls::deliver(const engine_events& events) {
  const auto now = clock::now();
  for (const auto& event : events.tokens) {
    const auto found = by_id_.find(event.id);
    if (found == by_id_.end()) continue;
    found->second->work.take(event, now, found->second->effects);
    touch(found->second);
  }
  for (const auto& [id, why] : events.rejected) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) continue;
    found->second->work.reject(id, why, found->second->effects);
    touch(found->second);
  }
  for (const auto& c : touched_) {
    c->touched = false;
    flush(c);
  }
  touched_.clear();
}

// Hands on what the events caused: cancellations to the engine, text to the client.
void generating_calls::flush(const std::shared_ptr<call>& c) {
  auto effects = std::exchange(c->effects, {});
  for (const auto id : effects.stop) shared_.engine().cancel(id, finish_reason::stop);
  for (const auto id : effects.ended) by_id_.erase(id);
  if (effects.failure) return fail(c, *effects.failure);
  // Counted before the client can know that it ended.
  if (effects.complete) finish(c, finish_text(c->work.summary(clock::now()).finish));
  if (c->work.streams()) {
    if (effects.started && !c->context->streaming()) c->context->begin_stream();
    c->context->send(effects.events, effects.event_count);
    if (effects.complete) c->context->end_stream(false);
  } else if (effects.complete) c->context->json(c->work.body());
}

// Before the head of a stream is out an error still has its status; later it is an event, and the
// stream ends without [DONE], so that nobody takes it for finished.
void generating_calls::fail(const std::shared_ptr<call>& c, const error& why) {
  abandon(c);
  finish(c, why.code == errc::cancelled ? "abort" : "error");
  if (!c->context->streaming()) return c->context->fail(why);
  std::string event;
  append_error_event(event, to_api_error(why));
  c->context->send(event, 1);
  c->context->end_stream(true);
}

void generating_calls::lost(const std::shared_ptr<call>& c, lost_reason reason) {
  if (c->over) return;
  abandon(c);
  if (reason == lost_reason::too_slow) c->model->metrics.too_slow();
  finish(c, "abort");
}

void generating_calls::abandon(const std::shared_ptr<call>& c) {
  for (const auto id : c->work.unfinished()) {
    by_id_.erase(id);
    shared_.engine().cancel(id, finish_reason::abort);
  }
}

void generating_calls::finish(const std::shared_ptr<call>& c, std::string_view outcome) {
  if (std::exchange(c->over, true)) return;
  const auto s = c->work.summary(clock::now());
  c->model->metrics.finished(s, outcome);
  const auto choices = c->work.call().prompts.size() * c->work.call().call.n;
  const auto each = static_cast<double>(s.used.completion_tokens) / static_cast<double>(choices);
  DINFER_LOG_INFO(
      "request id={} prompt_tokens={} cached_tokens={} generation_tokens={} ttft_ms={:.1f} "
      "itl_ms={:.2f} total_ms={:.1f} finish={}",
      c->context->id, s.used.prompt_tokens, s.used.cached_tokens, s.used.completion_tokens,
      s.first_token_s * 1e3, each > 1 ? s.decode_s * 1e3 / (each - 1) : 0.0, s.total_s * 1e3,
      outcome);
}

}  // namespace dinfer::net
