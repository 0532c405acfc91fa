// SPDX-License-Identifier: Apache-2.0
// Objects and events, field by field in the order of OpenAI's own answers.
#include "net/openai/render.hpp"

#include <fmt/format.h>

#include <iterator>

namespace dinfer::net {
namespace {

void append_number(std::string& out, std::int64_t value) {
  const fmt::format_int text(value);
  out.append(text.data(), text.size());
}

void append_optional(std::string& out, std::string_view name, const std::string& text) {
  out += name;
  if (text.empty()) out += "null";
  else append_json(out, text);
}

void append_ids(std::string& out, const std::vector<token_id>& ids) {
  out += '[';
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    append_number(out, ids[i]);
  }
  out += ']';
}

void append_usage(std::string& out, const usage& used) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                 R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                 used.prompt_tokens, used.completion_tokens,
                 std::uint64_t{used.prompt_tokens} + used.completion_tokens, used.cached_tokens);
}

// {"id":..,"object":..,"created":..,"model":..,"choices":[
void append_opening(std::string& out, const answer_style& style, std::string_view object) {
  out += R"({"id":)";
  append_json(out, style.id);
  out += R"(,"object":")";
  out += object;
  out += R"(","created":)";
  append_number(out, style.created);
  out += R"(,"model":)";
  append_json(out, style.model);
  out += R"(,"choices":[)";
}

std::string_view object_of(call_kind kind, bool chunk) {
  if (kind == call_kind::completion) return "text_completion";
  return chunk ? "chat.completion.chunk" : "chat.completion";
}

// "logprobs", "finish_reason", "stop_reason" and the token ids: the same in all shapes.
void append_tail(std::string& out, const choice_part& part) {
  out += R"(,"logprobs":)";
  if (part.logprobs.empty()) out += "null";
  else out += part.logprobs;
  out += R"(,"finish_reason":)";
  if (part.finish == finish_reason::none) out += "null";
  else append_json(out, finish_text(part.finish));
  if (part.finish != finish_reason::none) {
    out += R"(,"stop_reason":)";
    if (const auto* id = part.cause ? std::get_if<token_id>(part.cause) : nullptr)
      append_number(out, *id);
    else if (const auto* s = part.cause ? std::get_if<std::string>(part.cause) : nullptr)
      append_json(out, *s);
    else out += "null";
  }
  if (part.token_ids != nullptr) {
    out += R"(,"token_ids":)";
    append_ids(out, *part.token_ids);
  }
}

void append_delta(std::string& out, const choice_part& part, delta_kind delta) {
  switch (delta) {
    case delta_kind::role:
      out += R"(,"delta":{"role":"assistant","content":""})";
      return;
    case delta_kind::content:
      out += R"(,"delta":{"content":)";
      append_json(out, part.text);
      out += '}';
      return;
    case delta_kind::end:
      out += R"(,"delta":{})";
      return;
  }
}

}  // namespace

api_error to_api_error(const error& problem) {
  api_error out;
  out.message = problem.message;
  switch (problem.code) {
    case errc::invalid_argument:
    case errc::unsupported:
      out.status = 400;
      out.type = "invalid_request_error";
      out.param = problem.subject;
      break;
    case errc::not_found:
      out.status = 404;
      out.type = "invalid_request_error";
      out.param = problem.subject;
      out.code = "model_not_found";
      break;
    case errc::queue_full:
      out.status = 429;
      out.type = "rate_limit_error";
      out.code = "queue_full";
      break;
    case errc::unavailable:
    case errc::cancelled:
    case errc::peer_lost:
    case errc::device_lost:
    case errc::timeout:
      out.status = 503;
      out.type = "service_unavailable_error";
      out.code = std::string(to_string(problem.code));
      break;
    default:
      out.type = "server_error";
      out.code = std::string(to_string(problem.code));
  }
  return out;
}

std::string render_error(const api_error& wrong) {
  std::string out = R"({"error":{"message":)";
  append_json(out, wrong.message);
  append_optional(out, R"(,"type":)", wrong.type);
  append_optional(out, R"(,"param":)", wrong.param);
  append_optional(out, R"(,"code":)", wrong.code);
  return out + "}}";
}

std::string_view finish_text(finish_reason reason) noexcept {
  return reason == finish_reason::length ? "length" : "stop";
}

void append_chunk_event(std::string& out, const answer_style& style, const choice_part& part,
                        delta_kind delta, const usage* used) {
  out += "data: ";
  append_opening(out, style, object_of(style.kind, true));
  out += R"({"index":)";
  append_number(out, part.index);
  if (style.kind == call_kind::chat) {
    append_delta(out, part, delta);
  } else {
    out += R"(,"text":)";
    append_json(out, part.text);
  }
  append_tail(out, part);
  if (part.prompt_token_ids != nullptr && style.kind == call_kind::completion) {
    out += R"(,"prompt_token_ids":)";
    append_ids(out, *part.prompt_token_ids);
  }
  out += "}]";
  if (part.prompt_token_ids != nullptr && style.kind == call_kind::chat) {
    out += R"(,"prompt_token_ids":)";
    append_ids(out, *part.prompt_token_ids);
  }
  if (used != nullptr) {
    out += R"(,"usage":)";
    append_usage(out, *used);
  } else if (style.include_usage) out += R"(,"usage":null)";
  out += "}\n\n";
}

void append_usage_event(std::string& out, const answer_style& style, const usage& used) {
  out += "data: ";
  append_opening(out, style, object_of(style.kind, true));
  out += R"(],"usage":)";
  append_usage(out, used);
  out += "}\n\n";
}

void append_error_event(std::string& out, const api_error& wrong) {
  out += "data: " + render_error(wrong) + "\n\n";
}

std::string render_answer(const answer_style& style, std::span<const choice_part> choices,
                          const usage& used) {
  std::string out;
  append_opening(out, style, object_of(style.kind, false));
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const auto& part = choices[i];
    out += i > 0 ? R"(,{"index":)" : R"({"index":)";
    append_number(out, part.index);
    if (style.kind == call_kind::chat) {
      out += R"(,"message":{"role":"assistant","content":)";
      append_json(out, part.text);
      out += R"(,"refusal":null})";
    } else {
      out += R"(,"text":)";
      append_json(out, part.text);
    }
    append_tail(out, part);
    if (part.prompt_token_ids != nullptr && style.kind == call_kind::completion) {
      out += R"(,"prompt_token_ids":)";
      append_ids(out, *part.prompt_token_ids);
    }
    out += '}';
  }
  out += R"(],"usage":)";
  append_usage(out, used);
  if (style.kind == call_kind::chat) {
    out += R"(,"system_fingerprint":null,"service_tier":null)";
    if (!choices.empty() && choices.front().prompt_token_ids != nullptr) {
      out += R"(,"prompt_token_ids":)";
      append_ids(out, *choices.front().prompt_token_ids);
    }
  }
  return out + "}";
}

}  // namespace dinfer::net
