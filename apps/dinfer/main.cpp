// SPDX-License-Identifier: Apache-2.0
// dinfer: what a person does with a cluster. One subcommand a file.
#include "apps/dinfer/certs.hpp"
#include "apps/dinfer/chat.hpp"
#include "dinfer/version.hpp"

#include <CLI/CLI.hpp>
#include <string>

namespace {

void declare_chat(CLI::App& app, dinfer::apps::chat_options& chat) {
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
}

CLI::App* declare_certs(CLI::App& app, dinfer::apps::certs_options& certs) {
  const CLI::Range days(1, 36'500);
  auto* command = app.add_subcommand("certs", "make a cluster's CA and its nodes' certificates");
  command->add_option("nodes", certs.nodes, "their names, as [[node]] name has them");
  command->add_option("--out", certs.folder, "folder that the files go to")->required();
  command->add_option("--config", certs.config, "cluster.conf: one for each of its nodes");
  command->add_option("--days", certs.days, "that a node's certificate is valid")
      ->capture_default_str()
      ->check(days);
  command->add_option("--ca-days", certs.ca_days, "that a new CA is")
      ->capture_default_str()
      ->check(days);
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What a person does with a dinfer cluster.", "dinfer");
  app.set_version_flag("--version", std::string(dinfer::build_id()));
  app.require_subcommand(1);
  dinfer::apps::chat_options chat;
  dinfer::apps::certs_options certs;
  declare_chat(app, chat);
  const auto* for_certs = declare_certs(app, certs);
  CLI11_PARSE(app, argc, argv);
  return for_certs->parsed() ? dinfer::apps::certs(certs) : dinfer::apps::chat(chat);
}
