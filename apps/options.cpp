// SPDX-License-Identifier: Apache-2.0
// The command line of dinfer-node.
#include "apps/options.hpp"

#include "apps/own_node.hpp"
#include "apps/setting_flags.hpp"
#include "dinfer/version.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace dinfer::apps {
namespace {

constexpr const char* purpose =
    "Serves a language model on this host's devices, alone or as one node of a cluster.\n\n"
    "  dinfer-node --config cluster.conf                 every host runs the same line\n"
    "  dinfer-node --model PATH --tensor-parallel-size 2 no file: one process, two devices\n\n"
    "Every key of the file has a flag and an environment variable of the same name:\n"
    "[scheduler] max_num_seqs is --max-num-seqs and DINFER_MAX_NUM_SEQS.\n"
    "A flag wins over the environment, that over the file.";

constexpr int exit_usage = 2;

void print_problem(const error& problem) {
  std::fprintf(stderr, "dinfer-node: %s\n", problem.message.c_str());
}

struct raw_options {
  std::string config_file, node;
  bool plan = false, check = false, json = false;
  setting_flags settings;
};

void declare(CLI::App& app, raw_options& raw) {
  app.get_formatter()->column_width(36);
  app.set_version_flag("--version", std::string(build_id()));
  app.add_option("-c,--config", raw.config_file, "cluster.conf (TOML)")
      ->type_name("FILE")
      ->group("Configuration");
  app.add_option("-n,--node", raw.node,
                 "which [[node]] this process is; found by address when absent")
      ->type_name("NAME")
      ->group("Configuration")
      ->take_last();  // a node adds its children's to its own command line
  app.add_flag("--plan", raw.plan, "print who would hold what, and exit")
      ->group("Instead of serving");
  auto* check =
      app.add_flag("--check", raw.check,
                   "on every node: try devices and links before anything serves, and exit");
  check->group("Instead of serving");
  app.add_flag("--json", raw.json, "what --check found, for programs")
      ->needs(check)
      ->group("Instead of serving");
  raw.settings.declare(app);
}

result<node_command> assemble(const raw_options& raw) {
  node_command command;
  DINFER_TRY(command.config, raw.settings.configuration(raw.config_file, command.overrides));
  DINFER_TRY(command.node_index, find_node(command.config, raw.node));
  if (raw.plan) command.action = node_action::plan;
  if (raw.check) command.action = node_action::check;
  command.json = raw.json;
  return command;
}

}  // namespace

parsed_command parse_node_command(int argc, char** argv) {
  CLI::App app(purpose, "dinfer-node");
  raw_options raw;
  declare(app, raw);
  try {
    app.parse(written_out(argc, argv));
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return {false, code == 0 ? 0 : exit_usage, {}};
  }
  auto command = assemble(raw);
  if (!command) {
    print_problem(command.error());
    return {false, exit_usage, {}};
  }
  return {true, 0, std::move(*command)};
}

void describe_node_command(const std::function<void(const CLI::App&)>& look) {
  CLI::App app(purpose, "dinfer-node");
  raw_options raw;
  declare(app, raw);
  look(app);
}

}  // namespace dinfer::apps
