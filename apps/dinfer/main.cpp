// SPDX-License-Identifier: Apache-2.0
// dinfer: what a person does with a cluster. One subcommand a file.
#include "apps/dinfer/bench.hpp"
#include "apps/dinfer/certs.hpp"
#include "apps/dinfer/chat.hpp"
#include "apps/dinfer/check.hpp"
#include "apps/dinfer/command_tree.hpp"
#include "apps/dinfer/completion.hpp"
#include "apps/dinfer/doctor.hpp"
#include "apps/dinfer/manual.hpp"
#include "apps/dinfer/plan.hpp"
#include "apps/dinfer/status.hpp"
#include "apps/options.hpp"
#include "apps/setting_flags.hpp"
#include "dinfer/version.hpp"
#include "runtime/base/toml_config.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace {

using namespace dinfer::apps;

// Headings: of the commands, and of their options.
constexpr const char* talk = "Of a cluster that runs";
constexpr const char* prepare = "Before a cluster runs";
constexpr const char* shell = "For the shell";
constexpr const char* gateway = "Gateway";
constexpr const char* output = "Output";
constexpr const char* file = "Configuration";

// Without the words that CLI11 writes beside a flag in --help.
CLI::Validator within(double least, double most) { return CLI::Range(least, most).description(""); }

constexpr const char* node_program = "dinfer-node";

void declare_server(CLI::App* command, server_options& server) {
  command->add_option("--url", server.url, "the gateway")
      ->capture_default_str()
      ->type_name("URL")
      ->group(gateway);
  command->add_option("--api-key", server.api_key, "bearer key")
      ->envname("DINFER_API_KEY")
      ->type_name("KEY")
      ->group(gateway);
}

void declare_config(CLI::App* command, std::string& path) {
  command->add_option("-c,--config", path, "cluster.conf (TOML)")->type_name("FILE")->group(file);
}

void declare_json(CLI::App* command, bool& json, const char* help = "for programs") {
  command->add_flag("--json", json, help)->group(output);
}

CLI::App* declare_chat(CLI::App& app, chat_options& chat) {
  constexpr const char* answer = "Answers";
  constexpr const char* start = "While the server starts";
  auto* command = app.add_subcommand("chat", "chat in the terminal")->group(talk);
  command->add_option("question", chat.question, "asked first; then a prompt, on a terminal");
  declare_server(command, chat.server);
  command->add_option("--max-tokens", chat.max_tokens, "of an answer")
      ->capture_default_str()
      ->group(answer);
  command->add_option("--temperature", chat.temperature, "0: greedy")
      ->capture_default_str()
      ->group(answer);
  command->add_option("--seed", chat.seed, "of the draws")->capture_default_str()->group(answer);
  command->add_option("--wait", chat.wait_seconds, "for the server to be ready")
      ->type_name("SECONDS")
      ->group(start);
  command->add_option("--process", chat.process, "the server's process: stop waiting if it ends")
      ->type_name("PID")
      ->group(start);
  command->add_option("--log", chat.log, "that process's log, shown if it ends")
      ->type_name("FILE")
      ->group(start);
  command->add_option("--began", chat.began, "unix time from which the first token is timed")
      ->type_name("SECONDS")
      ->group(start);
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
      ->check(within(0.1, 3600))
      ->group(output);
  declare_json(command, status.json, "as the gateway's GET /cluster has it");
  return command;
}

void declare_load(CLI::App* command, bench_options& bench) {
  constexpr const char* load = "Load";
  const auto number = [&](const char* name, std::uint32_t& value, const char* help,
                          std::uint32_t least) {
    command->add_option(name, value, help)
        ->capture_default_str()
        ->type_name("N")
        ->check(within(least, 1 << 20))
        ->group(load);
  };
  command->add_option("--streams", bench.streams, "at once, one load after another; 1,4,16")
      ->delimiter(',')
      ->type_name("N,N")
      ->check(within(1, 1 << 16))
      ->group(load);
  command
      ->add_option("--rate", bench.rate,
                   "requests a second, at random (Poisson); --streams "
                   "then limits how many run")
      ->type_name("R")
      ->check(within(1e-3, 1e6))
      ->group(load);
  number("--requests", bench.requests, "of a rate", 1);
  number("--repetitions", bench.repetitions, "of streams: all start at once, all end", 1);
  number("--warm-up", bench.warm_up, "repetitions before, not measured", 0);
  number("--prompt-tokens", bench.prompt_tokens, "of each request", 1);
  number("--output-tokens", bench.output_tokens, "of each answer", 1);
  number("--vocabulary", bench.vocabulary, "prompts are drawn from the token ids 10 to N", 11);
  number("--silence", bench.silence_seconds, "seconds without a token after which a stream failed",
         1);
}

CLI::App* declare_bench(CLI::App& app, bench_options& bench) {
  auto* command =
      app.add_subcommand("bench", "how fast a gateway serves, or the engine is by itself")
          ->group(talk);
  command
      ->add_option("--url,--server", bench.server.url,
                   "a gateway that runs; else --model or --config starts nodes to measure")
      ->type_name("URL")
      ->group(gateway);
  command->add_option("--api-key", bench.server.api_key, "bearer key")
      ->envname("DINFER_API_KEY")
      ->type_name("KEY")
      ->group(gateway);
  declare_load(command, bench);
  command
      ->add_option("--offline", bench.offline,
                   "no gateway, the engine on one device: step_ms_b8 (of 8 sequences), ttft_ms_512 "
                   "(of a prompt), thr_256_128 (tokens in, out)")
      ->expected(1, 1000)
      ->type_name("ROW")
      ->group("Engine");
  declare_json(command, bench.json, "the result, as --out has it");
  command->add_option("--out", bench.out, "a file for the result, as bench/rows.py reads it")
      ->type_name("FILE")
      ->group(output);
  command
      ->add_option("--label", bench.label, "\"config\" of its rows; the model's name if not said")
      ->type_name("NAME")
      ->group(output);
  command->add_option("--device-name", bench.device, "its device; what is found if not said")
      ->type_name("NAME")
      ->group(output);
  command->add_option("--commit", bench.commit, "its commit; this version if not said")
      ->type_name("NAME")
      ->group(output);
  declare_config(command, bench.config);
  bench.settings.declare(*command);
  return command;
}

CLI::App* declare_plan(CLI::App& app, plan_options& plan) {
  constexpr const char* hosts = "Hosts";
  auto* command = app.add_subcommand("plan", "who would hold what, on hosts that need not be there")
                      ->group(prepare);
  command->add_option("--device-memory", plan.device_memory, "of every GPU: 80G; else it is asked")
      ->type_name("SIZE")
      ->group(hosts);
  command->add_option("--host-memory", plan.host_memory, "of every host; else as this one")
      ->type_name("SIZE")
      ->group(hosts);
  command->add_option("--cores", plan.cores, "of every host; else as this one")
      ->check(within(1, 1 << 16))
      ->type_name("N")
      ->group(hosts);
  declare_json(command, plan.json);
  declare_config(command, plan.config);
  plan.settings.declare(*command);
  return command;
}

CLI::App* declare_doctor(CLI::App& app, doctor_options& doctor) {
  auto* command = app.add_subcommand("doctor", "what of this host would keep a node from serving")
                      ->group(prepare);
  declare_config(command, doctor.config);
  command
      ->add_option("-n,--node", doctor.node,
                   "which [[node]] this host is; found by address when absent")
      ->type_name("NAME")
      ->group(file);
  declare_json(command, doctor.json);
  return command;
}

CLI::App* declare_check(CLI::App& app, check_options& check) {
  auto* command =
      app.add_subcommand("check", "try devices and links of all nodes that are on this host")
          ->group(prepare);
  declare_json(command, check.json);
  declare_config(command, check.config);
  check.settings.declare(*command);
  return command;
}

CLI::App* declare_certs(CLI::App& app, certs_options& certs) {
  constexpr const char* validity = "Validity";
  const auto days = within(1, 36'500);
  auto* command = app.add_subcommand("certs", "make a cluster's CA and its nodes' certificates")
                      ->group(prepare);
  command->add_option("nodes", certs.nodes, "their names, as [[node]] name has them");
  command->add_option("--out", certs.folder, "folder that the files go to")
      ->required()
      ->type_name("FOLDER")
      ->group(output);
  command->add_option("-c,--config", certs.config, "cluster.conf: one for each of its nodes")
      ->type_name("FILE")
      ->group(file);
  command->add_option("--days", certs.days, "that a node's certificate is valid")
      ->capture_default_str()
      ->check(days)
      ->type_name("DAYS")
      ->group(validity);
  command->add_option("--ca-days", certs.ca_days, "that a new CA is")
      ->capture_default_str()
      ->check(days)
      ->type_name("DAYS")
      ->group(validity);
  return command;
}

struct paper_options {
  std::string program = "dinfer", shell;
};

void declare_program(CLI::App* command, std::string& program) {
  command->add_option("program", program, "dinfer if not said")
      ->check(CLI::IsMember({"dinfer", node_program}))
      ->type_name("PROGRAM");
}

CLI::App* declare_completion(CLI::App& app, paper_options& paper) {
  auto* command =
      app.add_subcommand("completion", "a script that completes commands and flags")->group(shell);
  command->add_option("shell", paper.shell, "whose script")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
  declare_program(command, paper.program);
  return command;
}

// For the build, which installs what it prints.
CLI::App* declare_manual(CLI::App& app, paper_options& paper) {
  auto* command = app.add_subcommand("manual", "a manual page")->group("");
  declare_program(command, paper.program);
  return command;
}

command_text described(const CLI::App& app, const paper_options& paper) {
  auto out = tree_of(app);
  if (paper.program == node_program)
    describe_node_command([&](const CLI::App& node) { out = tree_of(node); });
  return out;
}

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return 0;
}

int completion(const CLI::App& app, const paper_options& paper) {
  const auto program = described(app, paper);
  if (paper.shell == "zsh") return print(zsh_completion(program));
  return print(paper.shell == "fish" ? fish_completion(program) : bash_completion(program));
}

int manual(const CLI::App& app, const paper_options& paper) {
  const auto is_setting = [](const std::string& group) {
    for (const auto& setting : dinfer::runtime::settings())
      if (setting.group == group) return true;
    return false;
  };
  const bool node = paper.program == node_program;
  return print(manual_page(described(app, paper), std::string(dinfer::version()),
                           [&](const std::string& group) { return !node && is_setting(group); }));
}

std::string command_line(int argc, char** argv) {
  std::string out = "dinfer";
  for (int i = 1; i < argc; ++i) out += std::string(" ") + argv[i];
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Talks to, looks at, measures and prepares clusters that serve language models.\n"
      "dinfer COMMAND --help has the flags of a command.",
      "dinfer");
  app.get_formatter()->column_width(36);
  app.set_version_flag("--version", std::string(dinfer::build_id()));
  app.require_subcommand(1);
  chat_options chat_with;
  status_options status_of;
  bench_options bench_of;
  plan_options plan_of;
  doctor_options doctor_for;
  check_options check_of;
  certs_options certs_for;
  paper_options paper;
  bench_of.command = command_line(argc, argv);
  const std::pair<CLI::App*, std::function<int()>> commands[] = {
      {declare_chat(app, chat_with), [&] { return chat(chat_with); }},
      {declare_status(app, status_of), [&] { return status(status_of); }},
      {declare_bench(app, bench_of), [&] { return bench(bench_of); }},
      {declare_plan(app, plan_of), [&] { return plan(plan_of); }},
      {declare_doctor(app, doctor_for), [&] { return doctor(doctor_for); }},
      {declare_check(app, check_of), [&] { return check(check_of); }},
      {declare_certs(app, certs_for), [&] { return certs(certs_for); }},
      {declare_completion(app, paper), [&] { return completion(app, paper); }},
      {declare_manual(app, paper), [&] { return manual(app, paper); }},
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
