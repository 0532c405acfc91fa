// SPDX-License-Identifier: Apache-2.0
// Who may ask what: keys before routes, exact paths, methods, CORS.
#include "tests/net/http/fixture.hpp"

#include <fmt/format.h>

using dinfer::tests::raw_socket;
using dinfer::tests::server_fixture;

namespace {

unsigned status_of(std::uint16_t port, const std::string& method, const std::string& target,
                   const std::string& fields = {}) {
  const raw_socket s(port);
  s.send(
      fmt::format("{} {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n{}\r\n",
                  method, target, fields));
  const auto answer = s.read_all();
  REQUIRE(answer.size() > 12);
  return static_cast<unsigned>(std::stoi(answer.substr(9, 3)));
}

server_fixture::setup with_keys() {
  server_fixture::setup setup;
  setup.keys = {"first-key", "second-key"};
  return setup;
}

}  // namespace

TEST_CASE("without a key nothing but health is answered, however the path is written") {
  const server_fixture f(with_keys());
  const auto port = f.server->port();
  for (const std::string path :
       {"/v1/models", "/v1/models/echo", "/v1/chat/completions", "/v1/completions", "/metrics",
        "/cluster", "/version", "/ping", "/tokenize", "/detokenize", "/", "/none"})
    for (const std::string method : {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
      CAPTURE(method, path);
      CHECK(status_of(port, method, path) == 401);
    }
  for (const std::string target : {"//v1/models",
                                   "/v1//models",
                                   "/V1/MODELS",
                                   "/%76%31/models",
                                   "/v1/models/",
                                   "/v1/models?a",
                                   "/./v1/models",
                                   "/health/../v1/models",
                                   "/health/",
                                   "//health",
                                   "/HEALTH",
                                   "/%68ealth",
                                   "/health;a",
                                   "/healthz",
                                   "/live/v1/models",
                                   "http://a/v1/models",
                                   "http://a//health",
                                   "https://a/metrics",
                                   "http://a",
                                   "/health%00",
                                   "/health%2f..%2fmetrics"}) {
    CAPTURE(target);
    CHECK(status_of(port, "GET", target) == 401);
  }
}

TEST_CASE("health, ready and live need no key") {
  const server_fixture f(with_keys());
  for (const std::string target :
       {"/health", "/ready", "/live", "/health?x=y", "http://anything/health"}) {
    CAPTURE(target);
    CHECK(status_of(f.server->port(), "GET", target) == 200);
    CHECK(status_of(f.server->port(), "HEAD", target) == 200);
  }
}

TEST_CASE("only the whole key opens") {
  const server_fixture f(with_keys());
  const auto ask = [&](const std::string& fields) {
    return status_of(f.server->port(), "GET", "/v1/models", fields);
  };
  CHECK(ask("Authorization: Bearer first-key\r\n") == 200);
  CHECK(ask("authorization: bearer second-key\r\n") == 200);
  for (const std::string value :
       {"Bearer first-ke", "Bearer first-key2", "Bearer first-key,second-key", "Bearer FIRST-KEY",
        "first-key", "Basic first-key", "Bearer", "Bearer ", "Bearer  first-key", "",
        "Bearer first-key second-key"}) {
    CAPTURE(value);
    CHECK(ask("Authorization: " + value + "\r\n") == 401);
  }
  CHECK(ask("X-Api-Key: first-key\r\n") == 401);
  const auto refused = f.client("wrong").get("/v1/models");
  REQUIRE(refused);
  CHECK(refused->field("www-authenticate") == "Bearer");
  CHECK(refused->body.find(R"("code":"invalid_api_key")") != std::string::npos);
}

TEST_CASE("unknown paths are 404 and wrong methods 405 with what is allowed") {
  const server_fixture f;
  const auto port = f.server->port();
  CHECK(status_of(port, "GET", "/v2/models") == 404);
  CHECK(status_of(port, "GET", "/v1/chat/completions") == 405);
  CHECK(status_of(port, "POST", "/v1/models") == 405);
  CHECK(status_of(port, "DELETE", "/v1/models/echo") == 405);
  CHECK(status_of(port, "TRACE", "/health") == 405);
  CHECK(status_of(port, "OPTIONS", "/health") == 204);
  CHECK(status_of(port, "POST", "/ping") == 200);
  const auto answer = f.get("/v1/completions");
  CHECK(answer.field("allow") == "POST, OPTIONS");
}

TEST_CASE("each route takes the methods that it allows and no other") {
  const server_fixture f;
  const std::string reads = "GET, HEAD, OPTIONS", writes = "POST, OPTIONS";
  const std::vector<std::pair<std::string, std::string>> routes = {
      {"/v1/models", reads},
      {"/v1/models/echo", reads},
      {"/health", reads},
      {"/ready", reads},
      {"/live", reads},
      {"/version", reads},
      {"/metrics", reads},
      {"/cluster", reads},
      {"/ping", "GET, HEAD, POST, OPTIONS"},
      {"/v1/chat/completions", writes},
      {"/v1/completions", writes},
      {"/tokenize", writes},
      {"/detokenize", writes},
  };
  for (const auto& [path, allowed] : routes)
    for (const std::string method :
         {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"}) {
      CAPTURE(method, path);
      const auto status = status_of(f.server->port(), method, path);
      const bool writing = method == "POST" && path != "/ping";
      const bool known = allowed.find(method) != std::string::npos;
      CHECK(status == (!known                ? 405U
                       : method == "OPTIONS" ? 204U
                       : writing             ? 400U  // there is no body
                                             : 200U));
    }
}

TEST_CASE("a path that is written in another way is another path") {
  const server_fixture f;
  for (const std::string target :
       {"//v1/models", "/v1//models", "/v1/models/", "/V1/models", "/v1/%6dodels", "/v1/./models",
        "/v1/../v1/models", "/%2e/v1/models", "/v1%2fmodels", "/v1/models;x", "http://a//v1/models",
        "/v1/chat/completions/", "/live/", "/live%00", "/"}) {
    CAPTURE(target);
    CHECK(status_of(f.server->port(), "GET", target) == 404);
    CHECK(status_of(f.server->port(), "POST", target) == 404);
  }
}

TEST_CASE("HEAD says how long the body would be and leaves it out") {
  const server_fixture f;
  const raw_socket s(f.server->port());
  s.send("HEAD /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const auto answer = s.read_all();
  CHECK(answer.find("Content-Length: 19\r\n") != std::string::npos);
  CHECK(answer.ends_with("\r\n\r\n"));
}

TEST_CASE("CORS answers the origins that the gateway lists and no other") {
  auto setup = with_keys();
  setup.origins = {"https://good.example"};
  const server_fixture f(setup);
  const auto preflight = [&](const std::string& origin) {
    const raw_socket s(f.server->port());
    s.send(
        fmt::format("OPTIONS /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    "Origin: {}\r\nAccess-Control-Request-Method: POST\r\n\r\n",
                    origin));
    return s.read_all();
  };
  const auto good = preflight("https://good.example");
  CHECK(good.starts_with("HTTP/1.1 204 "));
  CHECK(good.find("Access-Control-Allow-Origin: https://good.example\r\n") != std::string::npos);
  const auto bad = preflight("https://bad.example");
  CHECK(bad.starts_with("HTTP/1.1 401 "));
  CHECK(bad.find("Access-Control-Allow-Origin") == std::string::npos);
}

TEST_CASE("a request id is echoed when it is printable and made otherwise") {
  const server_fixture f;
  const auto ask = [&](const std::string& id) {
    const raw_socket s(f.server->port());
    s.send(fmt::format(
        "GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: {}\r\n\r\n", id));
    const auto answer = s.read_all();
    const auto at = answer.find("X-Request-Id: ") + 14;
    return answer.substr(at, answer.find("\r\n", at) - at);
  };
  CHECK(ask("abc-123") == "abc-123");
  CHECK(ask("with space") != "with space");
  CHECK(ask(std::string(200, 'x')).size() == 16);
}
