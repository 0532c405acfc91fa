// SPDX-License-Identifier: Apache-2.0
// Templates, token ids and defaults.
#include "net/openai/prepare.hpp"

#include "runtime/base/limits.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dinfer::net {
namespace {

constexpr std::uint32_t completion_default_tokens = 16;

std::string token_text(const runtime::tokenizer& words, std::optional<token_id> id) {
  return id ? std::string(words.bytes(*id)) : std::string();
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n";
  const auto from = text.find_first_not_of(blank);
  if (from == text.npos) return {};
  return text.substr(from, text.find_last_not_of(blank) - from + 1);
}

// Cuts what the template wrote after the last message, so that the model goes on with it.
result<void> cut_after(std::vector<runtime::prompt_span>& spans, std::string_view content) {
  const auto last = trimmed(content);
  for (std::size_t i = spans.size(); i-- > 0 && !last.empty();) {
    if (spans[i].literal) continue;
    const auto at = spans[i].text.rfind(last);
    if (at == std::string::npos) continue;
    spans[i].text.resize(at + last.size());
    spans.resize(i + 1);
    return {};
  }
  return fail(errc::invalid_argument,
              "continue_final_message: the last message does not appear in the model's template",
              "continue_final_message");
}

error too_long(std::size_t prompt, std::uint64_t output, std::uint32_t most, const char* field) {
  auto text = fmt::format("This model's maximum context length is {} tokens. However, ", most);
  if (output == 0) text += fmt::format("the prompt has {} tokens", prompt);
  else
    text += fmt::format("{} tokens were requested ({} in the prompt, {} to generate)",
                        prompt + output, prompt, output);
  return {errc::invalid_argument, text + ". Please shorten it.", field};
}

result<prepared_prompt> prepare_prompt(const prompt_input& input, const generate_call& call,
                                       const served_model& model) {
  const runtime::tokenizer& words = *model.words;
  prepared_prompt out;
  if (const auto* text = std::get_if<std::string>(&input)) {
    DINFER_CHECK(check_words(model, "prompt"));
    out.tokens = words.encode(*text, true, call.add_special_tokens);
    if (call.echo) out.text = *text;
  } else {
    out.tokens = std::get<std::vector<token_id>>(input);
    for (const auto id : out.tokens)
      if (id < 0 || id >= words.size())
        return fail(errc::invalid_argument,
                    fmt::format("prompt holds token id {}, but the vocabulary has ids from 0 to {}",
                                id, words.size() - 1),
                    "prompt");
    if (call.echo) out.text = words.decode(out.tokens, call.skip_special_tokens);
  }
  if (out.tokens.empty()) return fail(errc::invalid_argument, "the prompt has no tokens", "prompt");
  return out;
}

// max_tokens for all prompts of the call: the longest one decides how much room is left.
result<void> resolve_max_tokens(prepared_call& out, std::uint32_t most) {
  auto& call = out.call;
  const auto* field = call.kind == call_kind::chat ? "messages" : "prompt";
  std::size_t longest = 0;
  for (const auto& p : out.prompts) longest = std::max(longest, p.tokens.size());
  if (longest >= most) return tl::unexpected(too_long(longest, 0, most, field));
  const auto room = static_cast<std::uint32_t>(most - longest);
  if (call.max_tokens && *call.max_tokens > room)
    return tl::unexpected(too_long(longest, *call.max_tokens, most, "max_tokens"));
  out.scoring_only = call.max_tokens == 0U;
  const auto standard =
      call.kind == call_kind::chat ? room : std::min(completion_default_tokens, room);
  call.sampling.max_tokens = std::max(1U, call.max_tokens.value_or(standard));
  return {};
}

}  // namespace

std::uint64_t choice_seed(std::uint64_t seed, std::uint32_t index) noexcept {
  if (index == 0) return seed;
  // SplitMix64 (Steele, Lea, Flood 2014).
  auto z = seed + 0x9E3779B97F4A7C15ULL * index;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

result<void> check_words(const served_model& model, const char* field) {
  if (model.words->has_words()) return {};
  return fail(
      errc::unsupported,
      "this model has no tokeniser: /v1/completions takes a prompt of token ids; the server's "
      "--tokenizer names one",
      field);
}

result<std::vector<token_id>> chat_tokens(const std::vector<runtime::chat_message>& messages,
                                          bool add_generation_prompt, bool continue_final_message,
                                          bool add_special_tokens, const served_model& model,
                                          std::int64_t now_unix) {
  DINFER_CHECK(check_words(model, "messages"));
  if (!model.chat)
    return fail(errc::unsupported,
                "this model has no chat template; use /v1/completions with a finished prompt",
                "messages");
  runtime::template_inputs inputs;
  inputs.messages = messages;
  inputs.add_generation_prompt = add_generation_prompt;
  inputs.bos_token = token_text(*model.words, model.words->bos());
  inputs.eos_token = token_text(*model.words, model.words->eos());
  inputs.now_unix = now_unix;
  auto spans = model.chat->render(inputs);
  if (!spans)
    return fail(errc::invalid_argument, "chat template: " + spans.error().message, "messages");
  if (continue_final_message && !messages.empty())
    DINFER_CHECK(cut_after(*spans, messages.back().content));
  return model.words->encode(*spans, add_special_tokens);
}

result<prepared_call> prepare(generate_call call, const served_model& model, std::int64_t now_unix,
                              std::uint64_t seed) {
  prepared_call out;
  if (call.kind == call_kind::chat) {
    auto& prompt = out.prompts.emplace_back();
    DINFER_TRY(prompt.tokens,
               chat_tokens(call.messages, call.add_generation_prompt, call.continue_final_message,
                           call.add_special_tokens, model, now_unix));
  }
  for (const auto& input : call.prompts) {
    DINFER_TRY(auto prompt, prepare_prompt(input, call, model));
    out.prompts.push_back(std::move(prompt));
  }
  call.sampling.seed = call.seed.value_or(seed);
  call.messages.clear();
  call.prompts.clear();
  out.call = std::move(call);
  DINFER_CHECK(resolve_max_tokens(out, model.max_model_len));
  for (const auto& prompt : out.prompts) {
    generate_request request;
    request.prompt = prompt.tokens;
    request.sampling = out.call.sampling;
    request.priority = out.call.priority;
    request.cache_salt = out.call.cache_salt;
    DINFER_CHECK(runtime::validate(request, {model.max_model_len, model.words->size()}));
  }
  return out;
}

}  // namespace dinfer::net
