// SPDX-License-Identifier: Apache-2.0
// A chat in the terminal: waits for the server with a bar, streams answers, keeps the conversation.
#include "apps/dinfer/chat.hpp"

#include "apps/terminal.hpp"
#include "net/http/client.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <thread>

namespace dinfer::apps {
namespace {

namespace json = boost::json;
using steady = std::chrono::steady_clock;

double seconds_since(steady::time_point t) {
  return std::chrono::duration<double>(steady::now() - t).count();
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

class conversation {
 public:
  conversation(const chat_options& options, net::http_client client)
      : options_(options), client_(std::move(client)) {}

  // Errors: timeout or peer_lost; the message is for a person.
  result<void> wait_until_ready() {
    const auto began = steady::now();
    while (true) {
      const auto answer = client_.get("/ready");
      if (answer && answer->status == 200) break;
      if (options_.process > 0 && ::kill(options_.process, 0) != 0)
        return fail(errc::peer_lost, "the server ended before it was ready:\n" + log_tail());
      if (seconds_since(began) >= options_.wait_seconds)
        return fail(errc::timeout, "no answer from " + options_.server.url + " in " +
                                       std::to_string(options_.wait_seconds) +
                                       " s: " + (answer ? answer->body : answer.error().message));
      show_waiting(answer, seconds_since(began));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    draw_progress({});
    std::printf("ready: %s\n", options_.server.url.c_str());
    return {};
  }

  // Streams one answer; the turn stays in the conversation when it was complete.
  result<void> ask(const std::string& question, double clock_began) {
    messages_.push_back({{"role", "user"}, {"content", question}});
    json::object body{{"messages", messages_},
                      {"stream", true},
                      {"max_tokens", options_.max_tokens},
                      {"temperature", options_.temperature},
                      {"seed", options_.seed},
                      {"stream_options", {{"include_usage", true}}}};
    std::string answer_text;
    std::optional<double> first;
    std::int64_t tokens = 0;
    std::string failure;
    auto answer = client_.stream("/v1/chat/completions", json::serialize(body), [&](auto data) {
      return on_event(data, answer_text, first, tokens, failure);
    });
    std::printf("\n");
    if (!answer) return tl::unexpected(answer.error());
    if (answer->status != 200) return fail(errc::unavailable, answer->body);
    if (!failure.empty()) return fail(errc::unavailable, failure);
    messages_.push_back({{"role", "assistant"}, {"content", answer_text}});
    report(first.value_or(unix_seconds()), clock_began, tokens);
    return {};
  }

 private:
  bool on_event(std::string_view data, std::string& text, std::optional<double>& first,
                std::int64_t& tokens, std::string& failure) {
    if (data == "[DONE]") return true;
    boost::system::error_code broken;
    const auto event = json::parse(data, broken);
    if (broken || !event.is_object()) {
      failure = "the server sent what is no JSON";
      return false;
    }
    if (const auto* e = event.as_object().if_contains("error")) {
      failure = json::serialize(*e);
      return false;
    }
    if (const auto* n = event.as_object().if_contains("usage"); n != nullptr && n->is_object())
      tokens = n->at("completion_tokens").to_number<std::int64_t>();
    for (const auto& choice : event.at("choices").as_array()) {
      const auto* piece = choice.at("delta").as_object().if_contains("content");
      if (piece == nullptr || !piece->is_string() || piece->as_string().empty()) continue;
      if (!first) first = unix_seconds();
      text += piece->as_string().c_str();
      std::fwrite(piece->as_string().data(), 1, piece->as_string().size(), stdout);
      std::fflush(stdout);
    }
    return true;
  }

  void report(double first, double clock_began, std::int64_t tokens) const {
    const double writing = unix_seconds() - first;
    std::printf("[%lld tokens, %.1f tokens/s, first token after %.2f s]\n",
                static_cast<long long>(tokens),
                writing > 0 ? static_cast<double>(tokens - 1) / writing : 0.0, first - clock_began);
    std::fflush(stdout);
  }

  void show_waiting(const result<net::client_response>& answer, double seconds) {
    std::string stage = "starting";
    boost::system::error_code broken;
    if (answer) {
      const auto body = json::parse(answer->body, broken);
      if (!broken && body.is_object())
        if (const auto* s = body.as_object().if_contains("stage"); s != nullptr && s->is_string())
          stage = s->as_string().c_str();
    }
    // The server knows its stage, not its end: the bar fills with the time that may pass.
    draw_progress(bar(seconds / std::max(1U, options_.wait_seconds)) +
                  fmt::format("{:.1f} s  {}", seconds, stage));
  }

  std::string log_tail() const {
    std::ifstream file(options_.log, std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    return all.substr(all.size() > 2000 ? all.size() - 2000 : 0);
  }

  const chat_options& options_;
  net::http_client client_;
  json::array messages_;
};

int fail_with(const error& problem) {
  std::fprintf(stderr, "dinfer chat: %s\n", problem.message.c_str());
  return exit_no_server;
}

}  // namespace

int chat(const chat_options& options) {
  auto address = address_of(options.server);
  if (!address) {
    std::fprintf(stderr, "dinfer chat: %s\n", address.error().message.c_str());
    return exit_usage;
  }
  conversation talk(options, net::http_client(*address));
  if (auto ready = talk.wait_until_ready(); !ready) return fail_with(ready.error());
  if (!options.question.empty()) {
    std::printf("\n> %s\n", options.question.c_str());
    const double began = options.began > 0 ? options.began : unix_seconds();
    if (auto done = talk.ask(options.question, began); !done) return fail_with(done.error());
  }
  if (::isatty(STDIN_FILENO) != 1) return 0;
  std::string line;
  while (std::printf("\n> "), std::fflush(stdout), std::getline(std::cin, line)) {
    if (line == "/exit" || line == "/quit") break;
    if (line.empty()) continue;
    if (auto done = talk.ask(line, unix_seconds()); !done) return fail_with(done.error());
  }
  std::printf("\n");
  return 0;
}

}  // namespace dinfer::apps
