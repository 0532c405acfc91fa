// SPDX-License-Identifier: Apache-2.0
// Token ids without generating.
#include "net/openai/tokenize.hpp"

#include "net/openai/parse.hpp"
#include "net/openai/prepare.hpp"
#include "net/openai/render.hpp"

#include <fmt/format.h>

#include <iterator>

namespace dinfer::net {

result<void> check_model_name(const std::string& asked, const served_model& model) {
  if (asked.empty() || asked == model.name) return {};
  return fail(errc::not_found, fmt::format("The model `{}` does not exist.", asked), "model");
}

result<std::string> tokenize_answer(std::string_view body, const served_model& model,
                                    std::int64_t now_unix) {
  DINFER_TRY(const auto call, parse_tokenize(body));
  DINFER_CHECK(check_model_name(call.model, model));
  std::vector<token_id> tokens;
  if (call.messages.empty()) {
    DINFER_CHECK(check_words(model, "prompt"));
    tokens = model.words->encode(call.prompt, true, call.add_special_tokens);
  } else {
    DINFER_TRY(tokens, chat_tokens(call.messages, call.add_generation_prompt, false,
                                   call.add_special_tokens, model, now_unix));
  }
  auto out = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":[{}],"token_strs":)",
                         tokens.size(), model.max_model_len, fmt::join(tokens, ","));
  if (!call.return_token_strs) return out + "null}";
  out += '[';
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append_json(out, model.words->bytes(tokens[i]));
  }
  return out + "]}";
}

result<std::string> detokenize_answer(std::string_view body, const served_model& model) {
  DINFER_TRY(const auto call, parse_detokenize(body));
  DINFER_CHECK(check_model_name(call.model, model));
  for (const auto token : call.tokens)
    if (token >= model.words->size())
      return fail(errc::invalid_argument,
                  fmt::format("tokens holds id {}, but the vocabulary has ids from 0 to {}", token,
                              model.words->size() - 1),
                  "tokens");
  std::string out = R"({"prompt":)";
  append_json(out, model.words->decode(call.tokens, false));
  return out + "}";
}

}  // namespace dinfer::net
