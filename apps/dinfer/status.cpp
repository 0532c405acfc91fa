// SPDX-License-Identifier: Apache-2.0
// One GET /cluster, as a table or as it came.
#include "apps/dinfer/status.hpp"

#include "apps/dinfer/json_view.hpp"
#include "apps/terminal.hpp"
#include "runtime/parallel/memory_plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

namespace dinfer::apps {

namespace {

constexpr auto patience = std::chrono::milliseconds(5000);  // more than the cluster takes to tell

ink ink_of(const std::string& state) {
  if (state == "ready") return ink::good;
  return state == "dead" ? ink::bad : ink::doubtful;
}

std::string engine_line(const json_view& cluster) {
  const auto state = cluster["state"].text();
  auto line =
      fmt::format("engine    {}: {}", painted(state, ink_of(state)), cluster["stage"].text());
  if (const auto epoch = cluster["epoch"].number(); epoch > 0)
    line += fmt::format(", epoch {}", epoch);
  if (const auto reason = cluster["reason"].text(); !reason.empty()) line += " (" + reason + ")";
  return line + "\n";
}

std::string node_table(const json_view& cluster) {
  std::vector<std::vector<std::string>> rows{{"NODE", "ADDRESS", "STATE", "DEVICES", "BUILD"}};
  for (const auto& node : cluster["nodes"].items()) {
    std::vector<std::string> devices;
    for (const auto& device : node["devices"].items()) devices.push_back(device.text());
    auto state = node["note"].text();
    if (node["alive"].truth()) state = "alive";
    rows.push_back({node["name"].text(), node["address"].text(), state,
                    fmt::format("{}", fmt::join(devices, ", ")), node["build"].text()});
  }
  return render_table(rows);
}

std::string rank_table(const json_view& cluster) {
  const auto ranks = cluster["ranks"].items();
  if (ranks.empty()) return {};
  std::vector<std::vector<std::string>> rows{
      {"RANK", "STAGE", "TP", "NODE", "DEVICE", "LAYERS", "WEIGHTS", "KV CACHE"}};
  for (const auto& rank : ranks) {
    std::string weights, cache;
    if (const auto bytes = rank["weight_bytes"].number(); bytes > 0)
      weights = runtime::size_text(bytes);
    if (const auto blocks = rank["cache_blocks"].number(); blocks > 0)
      cache =
          fmt::format("{} blocks, {}", blocks, runtime::size_text(rank["cache_bytes"].number()));
    const auto number = [&](const char* key) { return std::to_string(rank[key].number()); };
    rows.push_back(
        {number("rank"), number("stage"), number("tp_rank"), rank["node"].text(),
         rank["device"].text(),
         fmt::format("{}..{}", rank["first_layer"].number(), rank["end_layer"].number() - 1),
         weights, cache});
  }
  return "\n" + render_table(rows);
}

std::string load_lines(const json_view& cluster) {
  std::string out;
  if (const auto requests = cluster["requests"])
    out += fmt::format("requests  {} running, {} waiting\n", requests["running"].number(),
                       requests["waiting"].number());
  if (const auto cache = cluster["cache"]; cache["blocks"].number() > 0)
    out += fmt::format("cache     {} of {} blocks of {} tokens used, {} kept for prefixes\n",
                       cache["used"].number(), cache["blocks"].number(),
                       cache["block_size"].number(), cache["kept"].number());
  if (const auto rate = cluster["throughput"]; rate["window_ms"].number() > 0) {
    const double seconds = static_cast<double>(rate["window_ms"].number()) / 1e3;
    out += fmt::format("speed     prompts {:.1f} tok/s, generated {:.1f} tok/s (last {:.1f} s)\n",
                       static_cast<double>(rate["prompt_tokens"].number()) / seconds,
                       static_cast<double>(rate["generated_tokens"].number()) / seconds, seconds);
  }
  if (const auto fault = cluster["last_fault"])
    out +=
        fmt::format("faults    {}; the last {:.0f} s ago: {}\n", cluster["faults"].number(),
                    static_cast<double>(fault["age_ms"].number()) / 1e3, fault["message"].text());
  return out;
}

int complain(const std::string& problem, int code) {
  std::fprintf(stderr, "dinfer status: %s\n", problem.c_str());
  return code;
}

int show(const net::http_client& client, const status_options& options) {
  const auto answer = client.get("/cluster");
  if (!answer)
    return complain(
        answer.error().message + "; is dinfer-node running, and does its [[gateway]] listen there?",
        exit_no_server);
  if (answer->status != 200)
    return complain(refusal_text(*answer, options.server.url), exit_no_server);
  const auto cluster = json_view::parse(answer->body);
  if (!cluster["state"])
    return complain(options.server.url + " sent what is no status of a cluster", exit_no_server);
  if (options.json) {
    std::printf("%s\n", answer->body.c_str());
  } else {
    const bool redraw = options.watch_seconds > 0 && ::isatty(STDOUT_FILENO) == 1;
    std::printf("%s%s%s\n%s%s", redraw ? "\033[H\033[2J" : "", engine_line(cluster).c_str(),
                load_lines(cluster).c_str(), node_table(cluster).c_str(),
                rank_table(cluster).c_str());
    if (options.watch_seconds > 0 && !redraw) std::printf("\n");
  }
  std::fflush(stdout);
  return cluster["state"].text() == "ready" ? 0 : exit_refused;
}

}  // namespace

int status(const status_options& options) {
  auto address = address_of(options.server);
  if (!address) return complain(address.error().message, exit_usage);
  address->timeout = patience;
  const net::http_client client(*address);
  int code = show(client, options);
  while (options.watch_seconds > 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(options.watch_seconds));
    code = show(client, options);
  }
  return code;
}

}  // namespace dinfer::apps
