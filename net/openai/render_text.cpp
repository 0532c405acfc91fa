// SPDX-License-Identifier: Apache-2.0
// Strings and log-probabilities as JSON.
#include "net/openai/render.hpp"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <set>

namespace dinfer::net {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";
constexpr double logprob_min = -9999.0;  // JSON has no infinity

// Bytes of the well-formed character that begins `text` (Unicode 15, table 3-7); 0: ill-formed.
std::size_t character_size(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const auto lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool fits = (lead != 0xE0 || byte(1) >= 0xA0) && (lead != 0xED || byte(1) <= 0x9F);
    return fits && continues(1) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool fits = (lead != 0xF0 || byte(1) >= 0x90) && (lead != 0xF4 || byte(1) <= 0x8F);
    return fits && continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(c));
  }
}

// A byte that a JSON string may hold as it is.
bool is_plain(char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; }

void append_logprob(std::string& out, float value) {
  const double bounded = std::isfinite(value) && value > logprob_min ? value : logprob_min;
  fmt::format_to(std::back_inserter(out), "{}", static_cast<float>(bounded));
}

void append_chat_token(std::string& out, std::string_view bytes, float logprob) {
  out += R"("token":)";
  append_json(out, bytes);
  out += R"(,"logprob":)";
  append_logprob(out, logprob);
  out += R"(,"bytes":[)";
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    fmt::format_to(std::back_inserter(out), "{}", static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

// {"text":-0.1,...}: the best `top`, and the chosen token in any case. Ids whose texts are equal
// share the first one's entry.
void append_top_map(std::string& out, const runtime::tokenizer& words, const sampled_token& t,
                    std::int32_t top) {
  std::set<std::string> seen;
  out += '{';
  const auto add = [&](token_id token, float logprob) {
    std::string name;
    append_json(name, words.bytes(token));
    if (!seen.insert(name).second) return;
    if (seen.size() > 1) out += ',';
    out += name + ':';
    append_logprob(out, logprob);
  };
  const auto count = std::min(t.top.size(), static_cast<std::size_t>(top));
  for (std::size_t i = 0; i < count; ++i) add(t.top[i].token, t.top[i].logprob);
  add(t.token, t.logprob);
  out += '}';
}

}  // namespace

void append_json(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    std::size_t run = 0;
    while (run < text.size() && is_plain(text[run])) ++run;
    out.append(text.data(), run);
    text.remove_prefix(run);
    if (text.empty()) break;
    const auto size = character_size(text);
    if (size == 0) out += replacement;
    else if (size > 1) out.append(text.data(), size);
    else append_escaped(out, text.front());
    text.remove_prefix(size == 0 ? 1 : size);
  }
  out += '"';
}

std::size_t characters(std::string_view bytes) noexcept {
  std::size_t n = 0;
  for (const char c : bytes) n += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U ? 1 : 0;
  return n;
}

void append_chat_logprobs(std::string& out, const runtime::tokenizer& words, const logprob_run& run,
                          std::int32_t top) {
  out += R"({"content":[)";
  for (std::size_t i = 0; i < run.tokens.size(); ++i) {
    const auto& t = run.tokens[i];
    out += i > 0 ? ",{" : "{";
    append_chat_token(out, words.bytes(t.token), t.logprob);
    out += R"(,"top_logprobs":[)";
    const auto count = std::min(t.top.size(), static_cast<std::size_t>(top));
    for (std::size_t k = 0; k < count; ++k) {
      out += k > 0 ? ",{" : "{";
      append_chat_token(out, words.bytes(t.top[k].token), t.top[k].logprob);
      out += '}';
    }
    out += "]}";
  }
  out += R"(],"refusal":null})";
}

void append_completion_logprobs(std::string& out, const runtime::tokenizer& words,
                                const logprob_run& run, std::int32_t top) {
  std::string tokens, values, tops, offsets;
  auto offset = run.text_offset;
  for (std::size_t i = 0; i < run.tokens.size(); ++i) {
    const auto& t = run.tokens[i];
    if (i > 0) tokens += ',', values += ',', tops += ',', offsets += ',';
    append_json(tokens, words.bytes(t.token));
    if (i == 0 && run.first_unknown) {
      values += "null";
      tops += "null";
    } else {
      append_logprob(values, t.logprob);
      append_top_map(tops, words, t, top);
    }
    fmt::format_to(std::back_inserter(offsets), "{}", offset);
    offset += characters(words.bytes(t.token));
  }
  fmt::format_to(
      std::back_inserter(out),
      R"({{"text_offset":[{}],"token_logprobs":[{}],"tokens":[{}],"top_logprobs":[{}]}})", offsets,
      values, tokens, tops);
}

}  // namespace dinfer::net
