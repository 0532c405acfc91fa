// SPDX-License-Identifier: Apache-2.0
// Field by field, in the order of the OpenAI reference.
#include "net/openai/parse.hpp"

#include "net/openai/json_fields.hpp"

#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <charconv>

namespace dinfer::net {

namespace json = boost::json;
using runtime::check_limit;
using runtime::limit;

namespace {

constexpr std::size_t unknown_listed = 8;
constexpr std::size_t prompt_tokens_max = 1 << 24;  // the model's context bounds it further

std::string_view view(const json::string& s) { return {s.data(), s.size()}; }

bool is_given(const json::value& v) {
  if (v.is_null() || (v.is_bool() && !v.get_bool())) return false;
  if (const auto* list = v.if_array()) return !list->empty();
  if (const auto* object = v.if_object()) return !object->empty();
  if (const auto* text = v.if_string()) return !text->empty();
  return true;
}

// Fields that other servers know and that would change the answer. Asking for one with an empty
// value is asking for nothing.
void refuse_unserved(json_fields& f) {
  static constexpr std::string_view names[] = {"tools",
                                               "functions",
                                               "guided_json",
                                               "guided_regex",
                                               "guided_choice",
                                               "guided_grammar",
                                               "guided_decoding_backend",
                                               "structured_outputs",
                                               "use_beam_search",
                                               "suffix",
                                               "prompt_logprobs",
                                               "bad_words",
                                               "allowed_token_ids",
                                               "truncate_prompt_tokens",
                                               "prompt_embeds",
                                               "documents",
                                               "kv_transfer_params",
                                               "chat_template",
                                               "audio",
                                               "web_search_options",
                                               "logits_processors",
                                               "thinking_token_budget"};
  for (const auto name : names) {
    const auto* value = f.find(name);
    if (value == nullptr || !is_given(*value)) continue;
    f.refuse({errc::unsupported, fmt::format("{} is not supported", name), std::string(name)});
  }
  if (const auto* format = f.object("response_format")) {
    const auto* type = format->if_contains("type");
    if (type == nullptr || !type->is_string() || view(type->get_string()) != "text")
      f.refuse({errc::unsupported, "response_format: only the type \"text\" is supported",
                "response_format"});
  }
  if (const auto* choice = f.find("tool_choice"))
    if (!choice->is_string() ||
        (view(choice->get_string()) != "none" && view(choice->get_string()) != "auto"))
      f.refuse({errc::unsupported, "tool_choice: tools are not supported", "tool_choice"});
  float length_penalty = 1;
  if (const auto* v = f.find("length_penalty"); v != nullptr && v->is_number())
    length_penalty = v->to_number<float>();
  if (length_penalty != 1)
    f.refuse({errc::unsupported, "length_penalty belongs to beam search, which is not supported",
              "length_penalty"});
}

// Without effect here by their nature.
void accept_silently(json_fields& f) {
  for (const std::string_view name :
       {"user", "store", "metadata", "service_tier", "parallel_tool_calls", "function_call",
        "modalities", "prediction", "safety_identifier", "prompt_cache_key",
        "spaces_between_special_tokens", "reasoning_effort", "verbosity", "early_stopping",
        "chat_template_kwargs", "return_tokens_as_token_ids"})
    f.known(name);
}

void read_stop(json_fields& f, std::vector<std::string>& out) {
  const auto* value = f.find("stop");
  if (value == nullptr) return;
  const auto add = [&](const json::value& item) {
    if (!item.is_string()) return f.wrong("stop", "a string or a list of strings");
    const auto& s = item.get_string();
    if (auto ok = check_limit(limit::stop_string_size, static_cast<double>(s.size())); !ok)
      return f.refuse(ok.error());
    out.emplace_back(view(s));
  };
  if (const auto* list = value->if_array()) {
    if (auto ok = check_limit(limit::stop_strings, static_cast<double>(list->size())); !ok)
      return f.refuse(ok.error());
    for (const auto& item : *list) add(item);
    return;
  }
  add(*value);
}

void read_logit_bias(json_fields& f, std::vector<logit_bias>& out) {
  const auto* object = f.object("logit_bias");
  if (object == nullptr) return;
  if (auto ok = check_limit(limit::logit_bias_entries, static_cast<double>(object->size())); !ok)
    return f.refuse(ok.error());
  for (const auto& field : *object) {
    const std::string_view key(field.key().data(), field.key().size());
    logit_bias bias;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), bias.token);
    if (problem != std::errc() || end != key.data() + key.size() || bias.token < 0)
      return f.wrong("logit_bias", "an object whose names are token ids");
    if (!field.value().is_number()) return f.wrong("logit_bias", "an object of numbers");
    const auto number = field.value().to_number<double>();
    if (auto ok = check_limit(limit::logit_bias, number); !ok) return f.refuse(ok.error());
    bias.bias = static_cast<float>(number);
    out.push_back(bias);
  }
}

void read_stream_options(json_fields& f, generate_call& call) {
  f.flag("stream", call.stream);
  const auto* object = f.object("stream_options");
  if (object == nullptr) return;
  if (!call.stream) return f.wrong("stream_options", "left out unless stream is true");
  json_fields inner(*object, "stream_options.");
  inner.flag("include_usage", call.include_usage);
  inner.flag("continuous_usage_stats", call.continuous_usage);
  if (auto ok = inner.done(); !ok) f.refuse(ok.error());
}

void read_sampling(json_fields& f, sampling_params& s) {
  f.number("temperature", limit::temperature, s.temperature);
  f.number("top_p", limit::top_p, s.top_p);
  f.number("min_p", limit::min_p, s.min_p);
  f.number("presence_penalty", limit::presence_penalty, s.presence_penalty);
  f.number("frequency_penalty", limit::frequency_penalty, s.frequency_penalty);
  f.number("repetition_penalty", limit::repetition_penalty, s.repetition_penalty);
  std::optional<std::int64_t> value;
  f.integer("top_k", limit::top_k, value);
  if (value) s.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(*value, 0));
  value.reset();
  f.integer("min_tokens", limit::min_tokens, value);
  s.min_tokens = static_cast<std::uint32_t>(value.value_or(0));
  f.flag("ignore_eos", s.ignore_eos);
  f.token_ids("stop_token_ids", s.stop_token_ids,
              static_cast<std::size_t>(runtime::limit_of(limit::stop_token_ids).max));
  read_logit_bias(f, s.logit_biases);
}

void read_max_tokens(json_fields& f, generate_call& call) {
  std::optional<std::int64_t> value;
  f.integer("max_tokens", limit::max_tokens, value);
  const bool newer = call.kind == call_kind::chat && f.has("max_completion_tokens");
  if (newer) f.integer("max_completion_tokens", limit::max_tokens, value);
  if (value) call.max_tokens = static_cast<std::uint32_t>(*value);
  if (value && *value == 0 && !call.echo)
    f.wrong(newer ? "max_completion_tokens" : "max_tokens", "at least 1, unless echo is true");
}

void read_common(json_fields& f, generate_call& call) {
  f.text("model", call.model, limit::name_size);
  read_sampling(f, call.sampling);
  read_max_tokens(f, call);
  f.seed("seed", call.seed);
  std::optional<std::int64_t> value;
  f.integer("n", limit::n, value);
  call.n = static_cast<std::uint32_t>(value.value_or(1));
  std::optional<std::int64_t> best_of;
  f.integer("best_of", limit::n, best_of);
  if (best_of && *best_of != call.n)
    f.refuse({errc::unsupported, "best_of other than n is not supported", "best_of"});
  read_stop(f, call.stop);
  f.flag("include_stop_str_in_output", call.include_stop_string);
  f.flag("skip_special_tokens", call.skip_special_tokens);
  f.flag("add_special_tokens", call.add_special_tokens);
  value.reset();
  f.integer("priority", limit::priority, value);
  call.priority = static_cast<std::int32_t>(value.value_or(0));
  f.text("cache_salt", call.cache_salt, limit::cache_salt_size);
  f.text("request_id", call.request_id, limit::name_size);
  f.flag("return_token_ids", call.return_token_ids);
  read_stream_options(f, call);
  refuse_unserved(f);
  accept_silently(f);
}

// A string, a list of strings, a list of token ids, or a list of such lists.
void read_prompts(json_fields& f, std::vector<prompt_input>& out) {
  constexpr auto expected = "a string, a list of strings, token ids, or lists of token ids";
  const auto* value = f.find("prompt");
  if (value == nullptr) return f.wrong("prompt", "given");
  if (const auto* text = value->if_string()) {
    out.emplace_back(std::string(view(*text)));
    return;
  }
  const auto* list = value->if_array();
  if (list == nullptr || list->empty()) return f.wrong("prompt", expected);
  if (list->front().is_number()) {
    auto ids = as_token_ids(*list);
    if (!ids) return f.wrong("prompt", expected);
    out.emplace_back(std::move(*ids));
    return;
  }
  if (auto ok = check_limit(limit::prompts, static_cast<double>(list->size())); !ok)
    return f.refuse(ok.error());
  for (const auto& item : *list) {
    if (const auto* text = item.if_string()) out.emplace_back(std::string(view(*text)));
    else if (const auto* inner = item.if_array()) {
      auto ids = as_token_ids(*inner);
      if (!ids) return f.wrong("prompt", expected);
      out.emplace_back(std::move(*ids));
    } else return f.wrong("prompt", expected);
  }
}

// Text parts are joined as they stand.
void read_parts(json_fields& f, const json::array& parts, std::string& out) {
  if (auto ok = check_limit(limit::content_parts, static_cast<double>(parts.size())); !ok)
    return f.refuse(ok.error());
  for (const auto& item : parts) {
    const auto* part = item.if_object();
    if (part == nullptr) return f.wrong("content", "a string or a list of parts");
    const auto* type = part->if_contains("type");
    const auto* text = part->if_contains("text");
    if (type == nullptr || !type->is_string())
      return f.wrong("content", "a list of parts that each have a type");
    if (view(type->get_string()) != "text")
      return f.refuse({errc::unsupported,
                       fmt::format("content parts of type \"{:.64}\" are not supported",
                                   view(type->get_string())),
                       "content"});
    if (text == nullptr || !text->is_string())
      return f.wrong("content", "a list of parts whose text is a string");
    out += view(text->get_string());
  }
}

void read_message(json_fields& f, runtime::chat_message& out) {
  f.text("role", out.role, limit::name_size);
  f.text("name", out.name, limit::name_size);
  static constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool"};
  if (std::find(std::begin(roles), std::end(roles), out.role) == std::end(roles))
    f.wrong("role", "one of system, developer, user, assistant and tool");
  const auto* content = f.find("content");
  if (content == nullptr) {
    if (out.role != "assistant") f.wrong("content", "given");
  } else if (const auto* text = content->if_string()) out.content = view(*text);
  else if (const auto* parts = content->if_array()) read_parts(f, *parts, out.content);
  else f.wrong("content", "a string or a list of parts");
  if (const auto* calls = f.find("tool_calls"); calls != nullptr && is_given(*calls))
    f.refuse({errc::unsupported, "tool_calls are not supported", "tool_calls"});
}

void read_messages(json_fields& f, std::vector<runtime::chat_message>& out) {
  const auto* list = f.array("messages");
  if (list == nullptr) return f.failed() ? void() : f.wrong("messages", "given");
  if (auto ok = check_limit(limit::messages, static_cast<double>(list->size())); !ok)
    return f.refuse(ok.error());
  for (std::size_t i = 0; i < list->size() && !f.failed(); ++i) {
    const auto* object = (*list)[i].if_object();
    if (object == nullptr) return f.wrong("messages", "a list of objects");
    json_fields inner(*object, fmt::format("messages[{}].", i));
    read_message(inner, out.emplace_back());
    if (auto ok = inner.done(); !ok) f.refuse(ok.error());
  }
}

void read_chat_logprobs(json_fields& f, sampling_params& s) {
  bool wanted = false;
  f.flag("logprobs", wanted);
  std::optional<std::int64_t> top;
  f.integer("top_logprobs", limit::logprobs, top);
  if (top.value_or(0) > 0 && !wanted) f.wrong("top_logprobs", "left out unless logprobs is true");
  if (wanted) s.logprobs = static_cast<std::int32_t>(top.value_or(0));
}

void read_completion(json_fields& f, generate_call& call) {
  f.flag("echo", call.echo);
  read_prompts(f, call.prompts);
  read_common(f, call);
  std::optional<std::int64_t> logprobs;
  f.integer("logprobs", limit::logprobs, logprobs);
  call.sampling.logprobs = static_cast<std::int32_t>(logprobs.value_or(-1));
  if (call.echo) call.sampling.prompt_logprobs = call.sampling.logprobs;
}

void read_chat(json_fields& f, generate_call& call) {
  call.add_special_tokens = false;
  read_messages(f, call.messages);
  read_common(f, call);
  read_chat_logprobs(f, call.sampling);
  bool prompt_given = f.has("add_generation_prompt");
  f.flag("add_generation_prompt", call.add_generation_prompt);
  f.flag("continue_final_message", call.continue_final_message);
  if (call.continue_final_message) {
    if (prompt_given && call.add_generation_prompt)
      f.wrong("continue_final_message", "false when add_generation_prompt is true");
    call.add_generation_prompt = false;
  }
  if (const auto* echo = f.find("echo"); echo != nullptr && is_given(*echo))
    f.refuse({errc::unsupported, "echo is not supported for chats", "echo"});
}

void read_call(json_fields& f, generate_call& call) {
  call.kind == call_kind::chat ? read_chat(f, call) : read_completion(f, call);
}

result<generate_call> parse_call(std::string_view body, call_kind kind,
                                 const sampling_params& defaults) {
  DINFER_TRY(const auto document, json_document::parse(body));
  json_fields f(document.top());
  generate_call call;
  call.kind = kind;
  call.sampling = defaults;
  read_call(f, call);
  DINFER_CHECK(f.done());
  call.unknown_fields = f.unknown(unknown_listed);
  return call;
}

}  // namespace

result<generate_call> parse_completion(std::string_view body, const sampling_params& defaults) {
  return parse_call(body, call_kind::completion, defaults);
}

result<generate_call> parse_chat(std::string_view body, const sampling_params& defaults) {
  return parse_call(body, call_kind::chat, defaults);
}

std::vector<std::string> known_fields(call_kind kind) {
  const json::object nothing;
  json_fields f(nothing);
  generate_call call;
  call.kind = kind;
  read_call(f, call);
  return f.known_names();
}

result<tokenize_call> parse_tokenize(std::string_view body) {
  DINFER_TRY(const auto document, json_document::parse(body));
  json_fields f(document.top());
  tokenize_call call;
  f.text("model", call.model, limit::name_size);
  if (f.has("messages")) {
    call.add_special_tokens = false;
    read_messages(f, call.messages);
  } else {
    if (!f.has("prompt")) f.wrong("prompt", "given");
    f.long_text("prompt", call.prompt);
  }
  f.flag("add_special_tokens", call.add_special_tokens);
  f.flag("add_generation_prompt", call.add_generation_prompt);
  f.flag("return_token_strs", call.return_token_strs);
  if (const auto* tools = f.find("tools"); tools != nullptr && is_given(*tools))
    f.refuse({errc::unsupported, "tools is not supported", "tools"});
  DINFER_CHECK(f.done());
  return call;
}

result<detokenize_call> parse_detokenize(std::string_view body) {
  DINFER_TRY(const auto document, json_document::parse(body));
  json_fields f(document.top());
  detokenize_call call;
  f.text("model", call.model, limit::name_size);
  if (!f.has("tokens")) f.wrong("tokens", "given");
  f.token_ids("tokens", call.tokens, prompt_tokens_max);
  DINFER_CHECK(f.done());
  return call;
}

}  // namespace dinfer::net
