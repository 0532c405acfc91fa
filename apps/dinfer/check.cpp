// SPDX-License-Identifier: Apache-2.0
// The nodes do the work, and the first of the cluster has the table; this starts them and passes
// on what they say.
#include "apps/dinfer/check.hpp"

#include "apps/dinfer/child_nodes.hpp"
#include "apps/dinfer/server.hpp"
#include "apps/own_node.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace dinfer::apps {

namespace {

constexpr auto slack = std::chrono::milliseconds(30'000);  // more than their own deadlines

int complain(const std::string& problem, int code) {
  std::fprintf(stderr, "dinfer check: %s\n", problem.c_str());
  return code;
}

// Those of other hosts have to be started there.
void tell_others(const cluster_config& config, const std::vector<std::size_t>& here) {
  std::vector<std::size_t> elsewhere;
  for (std::size_t i = 0; i < config.nodes.size(); ++i)
    if (config.nodes[i].parent.empty() && std::ranges::find(here, i) == here.end())
      elsewhere.push_back(i);
  if (elsewhere.empty()) return;
  complain("waits for " + names_of(config, elsewhere) +
               ": run it there too; the host of the first node, " + names_of(config, {0}) +
               ", prints the table",
           0);
}

}  // namespace

int check(const check_options& options) {
  setting_overrides ignored;
  const auto config = options.settings.configuration(options.config, ignored);
  if (!config) return complain(config.error().message, exit_usage);
  const auto here = nodes_here(*config);
  if (here.empty())
    return complain("no node of " + config->file +
                        " has this host's name or address; "
                        "dinfer-node --check --node NAME checks one all the same",
                    exit_usage);
  tell_others(*config, here);
  child_nodes nodes;
  std::vector<std::string> flags{"--check"};
  if (options.json) flags.emplace_back("--json");
  const auto started = nodes.start_all(*config, here, options.settings, flags);
  if (!started) return complain(started.error().message, exit_refused);
  const auto& health = config->health;
  const auto time = std::chrono::milliseconds(health.startup_timeout_ms) +
                    std::chrono::milliseconds(health.collective_timeout_ms) + slack;
  const bool all_ended = nodes.wait(time);
  int code = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    std::fputs(nodes.output(i).c_str(), stdout);
    for (const auto& line : nodes.complaints(i)) complain(line, 0);
    if (code == 0) code = nodes.ended(i).value_or(exit_refused);
  }
  if (!all_ended) complain("the nodes did not end in time", code);
  return code;
}

}  // namespace dinfer::apps
