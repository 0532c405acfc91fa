// SPDX-License-Identifier: Apache-2.0
// The strict reading of RFC 9112 sections 3, 5 and 6: a line at a time, nothing repaired.
#include "net/http/head_check.hpp"

#include <algorithm>
#include <cctype>

namespace dinfer::net {
namespace {

constexpr std::size_t target_bytes_max = 4096;
constexpr std::size_t method_bytes_max = 16;
constexpr std::size_t length_digits_max = 15;

bool is_token(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

bool is_visible(char c) { return c > 0x20 && c < 0x7f; }

bool equals_lower(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(), [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == b;
  });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

using problem = std::optional<head_problem>;

problem bad(std::string_view message, unsigned status = 400) {
  return head_problem{status, message};
}

problem check_target(std::string_view method, std::string_view target) {
  if (target.size() > target_bytes_max) return bad("the request target is too long", 414);
  if (target.empty() || !std::all_of(target.begin(), target.end(), is_visible) ||
      target.find('#') != std::string_view::npos)
    return bad("the request target is not valid");
  if (target == "*") return method == "OPTIONS" ? problem() : bad("'*' is only for OPTIONS");
  if (target.front() == '/' || target.starts_with("http://") || target.starts_with("https://"))
    return {};
  return bad("the request target must be a path or a whole URL");
}

// "POST /v1/completions HTTP/1.1"; `minor` receives the version's last digit.
problem check_request_line(std::string_view line, int& minor) {
  const auto first = line.find(' ');
  if (first == std::string_view::npos) return bad("the request line is not valid");
  const auto second = line.find(' ', first + 1);
  if (second == std::string_view::npos) return bad("the request line is not valid");
  const auto method = line.substr(0, first);
  const auto target = line.substr(first + 1, second - first - 1);
  const auto version = line.substr(second + 1);
  if (method.empty() || method.size() > method_bytes_max ||
      !std::all_of(method.begin(), method.end(), is_upper))
    return bad("the method is not valid");
  if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(version[5]) ||
      version[6] != '.' || !is_digit(version[7]))
    return bad("the HTTP version is not valid");
  if (version != "HTTP/1.1" && version != "HTTP/1.0")
    return bad("only HTTP/1.0 and HTTP/1.1 are spoken here", 505);
  minor = version[7] - '0';
  return check_target(method, target);
}

// What was seen of the fields that decide where the body ends and who is addressed.
struct framing {
  int hosts = 0, lengths = 0, encodings = 0, authorizations = 0;
};

problem check_length(std::string_view value) {
  if (value.empty() || value.size() > length_digits_max ||
      !std::all_of(value.begin(), value.end(), is_digit))
    return bad("Content-Length must be one plain number");
  return {};
}

problem check_host(std::string_view value) {
  const auto known = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("-._~%!$&'()*+;=:[]").find(c) != std::string_view::npos;
  };
  if (!std::all_of(value.begin(), value.end(), known)) return bad("Host is not valid");
  return {};
}

problem check_field(std::string_view line, framing& seen) {
  if (line.front() == ' ' || line.front() == '\t') return bad("folded header lines are obsolete");
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return bad("a header line has no name");
  const auto name = line.substr(0, colon);
  if (!std::all_of(name.begin(), name.end(), is_token)) return bad("a header name is not valid");
  const auto value = trimmed(line.substr(colon + 1));
  const auto control = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7f;
  };
  if (std::any_of(value.begin(), value.end(), control)) return bad("a header value is not valid");

  if (equals_lower(name, "host")) {
    ++seen.hosts;
    return check_host(value);
  }
  if (equals_lower(name, "content-length")) {
    ++seen.lengths;
    return check_length(value);
  }
  if (equals_lower(name, "transfer-encoding")) {
    ++seen.encodings;
    if (!equals_lower(value, "chunked")) return bad("Transfer-Encoding may only be chunked");
  }
  if (equals_lower(name, "authorization")) ++seen.authorizations;
  if (equals_lower(name, "expect") && !equals_lower(value, "100-continue"))
    return bad("only Expect: 100-continue is known", 417);
  return {};
}

problem check_framing(const framing& seen, int minor) {
  if (seen.hosts > 1) return bad("Host is there more than once");
  if (minor == 1 && seen.hosts == 0) return bad("Host is missing");
  if (seen.lengths > 1) return bad("Content-Length is there more than once");
  if (seen.encodings > 1) return bad("Transfer-Encoding is there more than once");
  if (seen.encodings > 0 && minor == 0) return bad("HTTP/1.0 knows no Transfer-Encoding");
  if (seen.encodings > 0 && seen.lengths > 0)
    return bad("Content-Length and Transfer-Encoding contradict each other");
  if (seen.authorizations > 1) return bad("Authorization is there more than once");
  return {};
}

}  // namespace

std::optional<head_problem> check_head(std::string_view head, std::uint32_t fields_max) {
  framing seen;
  int minor = 1;
  std::uint32_t lines = 0;
  while (true) {
    const auto end = head.find_first_of(std::string_view("\r\n\0", 3));
    if (end == std::string_view::npos || head.substr(end, 2) != "\r\n")
      return bad("header lines must end in CR LF");
    const auto line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (line.empty()) break;
    auto found = lines == 0 ? check_request_line(line, minor) : check_field(line, seen);
    if (found) return found;
    if (++lines > fields_max + 1) return bad("too many header fields", 431);
  }
  if (lines == 0) return bad("the request line is missing");
  if (!head.empty()) return bad("the head does not end where it should");
  return check_framing(seen, minor);
}

}  // namespace dinfer::net
