// SPDX-License-Identifier: Apache-2.0
// See server.hpp.
#include "apps/dinfer/server.hpp"

#include "apps/dinfer/json_view.hpp"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

namespace dinfer::apps {

result<net::http_client::options> address_of(const server_options& server) {
  constexpr std::string_view scheme = "http://";
  const auto wrong = [&] {
    return fail(errc::invalid_argument, "--url " + server.url + ": expected http://HOST:PORT");
  };
  std::string_view rest = server.url;
  if (!rest.starts_with(scheme)) return wrong();
  rest.remove_prefix(scheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto colon = rest.rfind(':');
  net::http_client::options out;
  out.host = std::string(rest.substr(0, colon));
  out.api_key = server.api_key;
  if (colon != std::string_view::npos) {
    const auto port = rest.substr(colon + 1);
    const auto end = port.data() + port.size();
    const auto read = std::from_chars(port.data(), end, out.port);
    if (read.ptr != end || read.ec != std::errc{} || out.port == 0) return wrong();
  }
  if (out.host.empty() || out.host.find('/') != std::string::npos) return wrong();
  return out;
}

std::string refusal_text(const net::client_response& answer, const std::string& url) {
  if (answer.status == 401)
    return url + " asks for a key: --api-key KEY, or DINFER_API_KEY in the environment";
  const auto body = json_view::parse(answer.body);
  auto text = body["error"]["message"].text();
  if (text.empty()) text = "not an answer of a dinfer gateway of this version";
  return fmt::format("{} answered {}: {}", url, answer.status, text);
}

}  // namespace dinfer::apps
