// SPDX-License-Identifier: Apache-2.0
// The command line of dinfer-node. Flags are made from runtime::settings(), so a key of
// cluster.conf, its flag and its environment variable can never disagree.
#include "apps/options.hpp"

#include "dinfer/version.hpp"
#include "runtime/base/toml_config.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

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

std::string environment_name(const std::string& flag) {
  std::string name = "DINFER_" + flag;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return c == '-' ? '_' : static_cast<char>(std::toupper(c));
  });
  return name;
}

// vLLM's short flags have two letters (-tp, -pp), which no parser of ours knows: write them out.
std::vector<std::string> expanded(int argc, char** argv) {
  std::map<std::string, std::string> shorts;
  for (const auto& setting : runtime::settings()) {
    if (!setting.short_name.empty()) shorts["-" + setting.short_name] = "--" + setting.name;
  }
  std::vector<std::string> args;
  for (int i = argc - 1; i > 0; --i) {  // CLI11 takes its vector in reverse
    std::string arg = argv[i];
    const auto equals = arg.find('=');
    const auto known = shorts.find(arg.substr(0, equals));
    if (known != shorts.end())
      arg = known->second + (equals == std::string::npos ? "" : arg.substr(equals));
    args.push_back(arg);
  }
  return args;
}

struct raw_options {
  std::string config_file, node;
  bool plan = false, check = false;
  std::map<std::string, std::optional<std::string>> flags;  // those that were given
};

void declare(CLI::App& app, raw_options& raw) {
  app.set_version_flag("--version", std::string(build_id()));
  app.add_option("-c,--config", raw.config_file, "cluster.conf (TOML)")->type_name("FILE");
  app.add_option("-n,--node", raw.node,
                 "which [[node]] this process is; found by address when absent")
      ->type_name("NAME")
      ->take_last();  // a node adds its children's to its own command line
  app.add_flag("--plan", raw.plan, "print who would hold what, and exit");
  app.add_flag("--check", raw.check,
               "on every node: try devices and links before anything serves, and exit");
  for (const auto& setting : runtime::settings()) {
    auto help = setting.help;
    if (!setting.short_name.empty()) help += " (-" + setting.short_name + ")";
    auto& value = raw.flags[setting.name];
    if (setting.boolean) {
      help += "; --no-" + setting.name + " turns it off";
      app.add_flag_callback(
             "--" + setting.name, [&value] { value = "true"; }, help)
          ->group(setting.group);
      app.add_flag_callback("--no-" + setting.name, [&value] { value = "false"; })->group("");
    } else {
      app.add_option("--" + setting.name, value, help)->group(setting.group)->type_name("");
    }
  }
}

result<node_command> assemble(const raw_options& raw) {
  node_command command;
  if (!raw.config_file.empty()) {
    DINFER_TRY(command.config, runtime::load_config(raw.config_file));
  }
  for (const auto& setting : runtime::settings()) {
    const auto name = environment_name(setting.name);
    const char* from_environment = std::getenv(name.c_str());
    if (from_environment != nullptr) {
      if (auto done = runtime::apply_setting(command.config, setting.name, from_environment); !done)
        return fail(done.error().code, name + ": " + done.error().message, name);
      command.overrides.emplace_back(setting.name,
                                     std::string(from_environment) + " (environment)");
    }
    if (const auto& value = raw.flags.at(setting.name)) {
      DINFER_CHECK(runtime::apply_setting(command.config, setting.name, *value));
      command.overrides.emplace_back(setting.name, *value + " (flag)");
    }
  }
  DINFER_CHECK(runtime::check_config(command.config));
  DINFER_TRY(command.node_index, find_node(command.config, raw.node));
  if (raw.plan) command.action = node_action::plan;
  if (raw.check) command.action = node_action::check;
  return command;
}

std::set<std::string> own_addresses() {
  std::set<std::string> out;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return out;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (i->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
      out.insert(::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text));
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(i->ifa_addr);
      out.insert(::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text));
    }
  }
  ::freeifaddrs(list);
  return out;
}

std::string names_of(const cluster_config& config) {
  std::string out;
  for (const auto& node : config.nodes)
    if (node.parent.empty())
      out += (out.empty() ? "" : ", ") + node.name + " (" + node.address + ")";
  return out;
}

}  // namespace

result<std::size_t> find_node(const cluster_config& config, const std::string& name) {
  const auto& nodes = config.nodes;
  if (!name.empty()) {
    const auto found =
        std::find_if(nodes.begin(), nodes.end(), [&](const auto& n) { return n.name == name; });
    if (found == nodes.end())
      return fail(errc::not_found,
                  "--node " + name + ": no such node; there are " + names_of(config), "node");
    return static_cast<std::size_t>(found - nodes.begin());
  }
  if (nodes.size() == 1 || nodes[1].parent == nodes[0].name) return std::size_t{0};
  const auto addresses = own_addresses();
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  std::vector<std::size_t> fits;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!nodes[i].parent.empty()) continue;  // its parent starts it and says its name
    if (nodes[i].name == host || addresses.contains(nodes[i].address)) fits.push_back(i);
  }
  if (fits.size() == 1) return fits.front();
  return fail(
      errc::invalid_argument,
      std::string(fits.empty() ? "no node of the configuration has this host's name or address"
                               : "several nodes have an address of this host") +
          "; say which one this is: --node NAME, one of " + names_of(config),
      "node");
}

parsed_command parse_node_command(int argc, char** argv) {
  CLI::App app(purpose, "dinfer-node");
  app.get_formatter()->column_width(36);
  raw_options raw;
  declare(app, raw);
  try {
    app.parse(expanded(argc, argv));
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

}  // namespace dinfer::apps
