// SPDX-License-Identifier: Apache-2.0
// Bytes of a client through the server's own connection, over a pair of local sockets: head,
// checks, body, answer, and what comes after. Whole and in two parts the bytes must mean the same.
#include "tests/fuzz/target.hpp"
#include "tests/net/http/one_connection.hpp"

#include <algorithm>
#include <string>

namespace dinfer::fuzz {
namespace {

using tests::connection_seen;

const net::http_limits& limits() {
  static const net::http_limits small = [] {
    net::http_limits out;
    out.head_bytes = 2048;  // small enough to be passed by inputs
    out.head_fields = 16;
    out.body_bytes = 1024;
    return out;
  }();
  return small;
}

std::size_t occurrences(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Answers of the handler, then at most one refusal, which ends the connection.
void check_answers(const connection_seen& seen, std::string_view text) {
  auto answers = tests::split_answers(seen.answers);
  std::erase_if(answers, [](std::string_view one) { return one.starts_with("HTTP/1.1 100 "); });
  const auto fine = std::find_if(answers.begin(), answers.end(), [](std::string_view one) {
    return !one.starts_with("HTTP/1.1 200 OK\r\n");
  });
  require(static_cast<std::size_t>(fine - answers.begin()) == seen.handed.size(),
          "each request has one answer");
  require(answers.end() - fine <= 1, "there is one refusal at most, and nothing behind it");
  if (fine != answers.end()) {
    require(fine->starts_with("HTTP/1.1 4") || fine->starts_with("HTTP/1.1 505 "),
            "a refusal is the client's fault");
    require(fine->find("Connection: close\r\n") != fine->npos, "a refusal says that it is the end");
    require(seen.ended, "a refusal ends the connection");
  }
  require(seen.handed.size() <= occurrences(text, " HTTP/1."), "requests have request lines");
}

void check_request(const net::http_request& request) {
  for (const char c : request.method) require(c >= 'A' && c <= 'Z', "methods are letters");
  require(!request.path.empty() && (request.path.front() == '/' || request.path == "*"),
          "a path begins with a slash");
  for (const char c : request.path) require(c > 0x20 && c < 0x7f, "a path is printable");
  require(request.body.size() <= limits().body_bytes, "bodies have a bound");
  require(request.fields.size() <= limits().head_fields, "fields have a bound");
  std::size_t hosts = 0, lengths = 0, encodings = 0;
  for (const auto& [name, value] : request.fields) {
    hosts += name == "host" ? 1 : 0;
    lengths += name == "content-length" ? 1 : 0;
    encodings += name == "transfer-encoding" ? 1 : 0;
    require(value.find_first_of(std::string_view("\r\n\0", 3)) == value.npos, "values are lines");
    if (name == "content-length")
      require(value == std::to_string(request.body.size()) || value.starts_with('0'),
              "a body is as long as it says");
  }
  require(hosts <= 1 && lengths + encodings <= 1, "one field says where a body ends");
}

}  // namespace

// The first byte says where the network cuts.
void fuzz_http(bytes input) {
  if (input.empty()) return;
  const auto text = text_of(input.subspan(1));
  const auto whole = tests::serve_parts(limits(), {text});
  check_answers(whole, text);
  for (const auto& request : whole.handed) check_request(request);
  const auto cut = text.size() * input[0] / 256;
  const auto parts = tests::serve_parts(limits(), {text.substr(0, cut), text.substr(cut)});
  require(whole.closed && parts.closed, "a connection ends with its client");
  require(parts.answers == whole.answers, "answers do not depend on where the network cuts");
  require(parts.handed.size() == whole.handed.size(), "nor does what is a request");
  for (std::size_t i = 0; i < whole.handed.size(); ++i)
    require(parts.handed[i].body == whole.handed[i].body &&
                parts.handed[i].path == whole.handed[i].path &&
                parts.handed[i].fields == whole.handed[i].fields,
            "nor what it says");
}

}  // namespace dinfer::fuzz
