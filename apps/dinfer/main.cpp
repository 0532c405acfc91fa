// SPDX-License-Identifier: Apache-2.0
// dinfer: what a person does with a cluster. One subcommand a file.
#include "apps/dinfer/certs.hpp"
#include "apps/dinfer/chat.hpp"
#include "apps/dinfer/doctor.hpp"
#include "apps/dinfer/plan.hpp"
#include "apps/dinfer/status.hpp"
#include "apps/setting_flags.hpp"
#include "dinfer/version.hpp"

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace {

using namespace dinfer::apps;

constexpr const char* talk = "Of a cluster that runs";
constexpr const char* prepare = "Before a cluster runs";

void declare_server(CLI::App* command, server_options& server) {
  command->add_option("--url", server.url, "the gateway")->capture_default_str();
  command->add_option("--api-key", server.api_key, "bearer key")->envname("DINFER_API_KEY");
}

CLI::App* declare_chat(CLI::App& app, chat_options& chat) {
  auto* command = app.add_subcommand("chat", "chat in the terminal")->group(talk);
  command->add_option("question", chat.question, "asked first; then a prompt, on a terminal");
  declare_server(command, chat.server);
  command->add_option("--wait", chat.wait_seconds, "seconds to wait until the server is ready");
  command->add_option("--process", chat.process,
                      "the server's process id: stop waiting if it ends");
  command->add_option("--log", chat.log, "that process's log, shown if it ends");
  command->add_option("--began", chat.began, "unix time from which the first token is timed");
  command->add_option("--max-tokens", chat.max_tokens, "of an answer")->capture_default_str();
  command->add_option("--temperature", chat.temperature, "0: greedy")->capture_default_str();
  command->add_option("--seed", chat.seed, "of the draws")->capture_default_str();
  return command;
}

CLI::App* declare_status(CLI::App& app, status_options& status) {
  auto* command =
      app.add_subcommand("status", "who is there, who holds what, and what it does")->group(talk);
  declare_server(command, status.server);
  command->add_option("--watch", status.watch_seconds, "again every so many seconds; 2 if not said")
      ->expected(0, 1)
      ->default_str("2")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0));
  command->add_flag("--json", status.json, "as the gateway's GET /cluster has it");
  return command;
}

CLI::App* declare_plan(CLI::App& app, plan_options& plan) {
  auto* command = app.add_subcommand("plan", "who would hold what, on hosts that need not be there")
                      ->group(prepare);
  command->add_option("-c,--config", plan.config, "cluster.conf (TOML)")->type_name("FILE");
  command->add_option("--device-memory", plan.device_memory, "of every GPU: 80G; else it is asked")
      ->type_name("SIZE");
  command->add_option("--host-memory", plan.host_memory, "of every host; else as this one")
      ->type_name("SIZE");
  command->add_option("--cores", plan.cores, "of every host; else as this one")
      ->check(CLI::Range(1, 1 << 16));
  command->add_flag("--json", plan.json, "for programs");
  plan.settings.declare(*command);
  return command;
}

CLI::App* declare_doctor(CLI::App& app, doctor_options& doctor) {
  auto* command = app.add_subcommand("doctor", "what of this host would keep a node from serving")
                      ->group(prepare);
  command->add_option("-c,--config", doctor.config, "cluster.conf (TOML)")->type_name("FILE");
  command
      ->add_option("-n,--node", doctor.node,
                   "which [[node]] this host is; found by address when absent")
      ->type_name("NAME");
  command->add_flag("--json", doctor.json, "for programs");
  return command;
}

CLI::App* declare_certs(CLI::App& app, certs_options& certs) {
  const CLI::Range days(1, 36'500);
  auto* command = app.add_subcommand("certs", "make a cluster's CA and its nodes' certificates")
                      ->group(prepare);
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
  CLI::App app("What a person does with a dinfer cluster; dinfer COMMAND --help has the flags.",
               "dinfer");
  app.set_version_flag("--version", std::string(dinfer::build_id()));
  app.require_subcommand(1);
  chat_options chat_with;
  status_options status_of;
  plan_options plan_of;
  doctor_options doctor_for;
  certs_options certs_for;
  const std::pair<CLI::App*, std::function<int()>> commands[] = {
      {declare_chat(app, chat_with), [&] { return chat(chat_with); }},
      {declare_status(app, status_of), [&] { return status(status_of); }},
      {declare_plan(app, plan_of), [&] { return plan(plan_of); }},
      {declare_doctor(app, doctor_for), [&] { return doctor(doctor_for); }},
      {declare_certs(app, certs_for), [&] { return certs(certs_for); }},
  };
  try {
    app.parse(written_out(argc, argv));
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : exit_usage;
  }
  for (const auto& [command, run] : commands)
    if (command->parsed()) return run();
  return exit_usage;
}
