// SPDX-License-Identifier: Apache-2.0
// Bodies of requests, as far as they get before the engine: to tokens that are within all bounds,
// or to an error whose status is a client's.
#include "net/openai/parse.hpp"
#include "net/openai/prepare.hpp"
#include "net/openai/render.hpp"
#include "net/openai/tokenize.hpp"
#include "runtime/base/limits.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/byte_tokenizer.hpp"

#include <memory>
#include <string>

namespace dinfer::fuzz {
namespace {

const net::served_model& model() {
  static const auto made = [] {
    net::served_model out;
    out.name = "fuzz";
    out.max_model_len = 2048;
    out.words = std::make_shared<tests::byte_tokenizer>();
    auto chat = runtime::chat_template::parse(
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}");
    out.chat = std::make_shared<runtime::chat_template>(std::move(*chat));
    return out;
  }();
  return made;
}

void require_client_error(const error& why) {
  const auto shown = net::to_api_error(why);
  require(shown.status >= 400 && shown.status < 500, "what a client sends is a client's error");
  require(!net::render_error(shown).empty(), "errors have a body");
}

void try_call(result<net::generate_call> call) {
  if (!call) return require_client_error(call.error());
  const auto ready = net::prepare(std::move(*call), model(), 1'700'000'000, 7);
  if (!ready) return require_client_error(ready.error());
  require(ready->call.n >= 1 && ready->call.n <= 16, "n has a bound");
  for (const auto& prompt : ready->prompts) {
    generate_request request;
    request.prompt = prompt.tokens;
    request.sampling = ready->call.sampling;
    request.priority = ready->call.priority;
    request.cache_salt = ready->call.cache_salt;
    const auto fine = runtime::validate(request, {model().max_model_len, model().words->size()});
    require(fine.has_value(), "what is admitted keeps every bound");
  }
}

}  // namespace

// The first byte says to which endpoint.
void fuzz_openai(bytes input) {
  if (input.empty()) return;
  const auto body = text_of(input.subspan(1));
  switch (input[0] % 4) {
    case 0:
      return try_call(net::parse_chat(body));
    case 1:
      return try_call(net::parse_completion(body));
    case 2: {
      const auto answer = net::tokenize_answer(body, model(), 1'700'000'000);
      return answer ? void() : require_client_error(answer.error());
    }
    default: {
      const auto answer = net::detokenize_answer(body, model());
      return answer ? void() : require_client_error(answer.error());
    }
  }
}

}  // namespace dinfer::fuzz
