// SPDX-License-Identifier: Apache-2.0
// dinfer: what a person does with a running cluster. One subcommand a file.
#include "apps/dinfer/chat.hpp"
#include "dinfer/version.hpp"

#include <CLI/CLI.hpp>
#include <string>

int main(int argc, char** argv) {
  CLI::App app("Talks to a running dinfer gateway.", "dinfer");
  app.set_version_flag("--version", std::string(dinfer::build_id()));
  app.require_subcommand(1);

  dinfer::apps::chat_options chat;
  auto* command = app.add_subcommand("chat", "chat in the terminal");
  command->add_option("question", chat.question, "asked first; then a prompt, on a terminal");
  command->add_option("--url", chat.url, "the gateway")->capture_default_str();
  command->add_option("--api-key", chat.api_key, "bearer key")->envname("DINFER_API_KEY");
  command->add_option("--wait", chat.wait_seconds, "seconds to wait until the server is ready");
  command->add_option("--process", chat.process,
                      "the server's process id: stop waiting if it ends");
  command->add_option("--log", chat.log, "that process's log, shown if it ends");
  command->add_option("--began", chat.began, "unix time from which the first token is timed");
  command->add_option("--max-tokens", chat.max_tokens, "of an answer")->capture_default_str();
  command->add_option("--temperature", chat.temperature, "0: greedy")->capture_default_str();
  command->add_option("--seed", chat.seed, "of the draws")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return dinfer::apps::chat(chat);
}
