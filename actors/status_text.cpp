// SPDX-License-Identifier: Apache-2.0
// See status_text.hpp.
#include "actors/status_text.hpp"

#include "net/openai/engine_link.hpp"
#include "net/openai/render.hpp"

#include <fmt/format.h>

#include <iterator>

namespace dinfer::actors {

namespace {

// "key":"value",
void put(std::string& out, std::string_view key, std::string_view value) {
  net::append_json(out, key);
  out += ':';
  net::append_json(out, value);
  out += ',';
}

void put(std::string& out, std::string_view key, std::uint64_t value) {
  net::append_json(out, key);
  fmt::format_to(std::back_inserter(out), ":{},", value);
}

// What was open is closed with `with`; a comma before it goes.
void close(std::string& out, char with) {
  if (out.back() == ',') out.pop_back();
  out += with;
}

void put_node(std::string& out, const node_line& node) {
  out += '{';
  put(out, "name", node.name);
  put(out, "address", node.address);
  out += node.alive ? R"("alive":true,)" : R"("alive":false,)";
  if (!node.build.empty()) put(out, "build", node.build);
  if (!node.note.empty()) put(out, "note", node.note);
  out += R"("devices":[)";
  for (const auto& device : node.devices) {
    net::append_json(out, device);
    out += ',';
  }
  close(out, ']');
  out += "},";
}

void put_rank(std::string& out, std::size_t index, const rank_line& rank) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"rank":{},"stage":{},"tp_rank":{},"first_layer":{},"end_layer":{},)", index,
                 rank.stage, rank.tp_rank, rank.first_layer, rank.end_layer);
  put(out, "node", rank.node);
  put(out, "device", rank.device);
  if (rank.weight_bytes > 0) put(out, "weight_bytes", rank.weight_bytes);
  if (rank.cache_blocks > 0) {
    put(out, "cache_blocks", rank.cache_blocks);
    put(out, "cache_bytes", rank.cache_bytes);
  }
  close(out, '}');
  out += ',';
}

void put_load(std::string& out, const engine_load& load) {
  fmt::format_to(std::back_inserter(out), R"("requests":{{"running":{},"waiting":{}}},)",
                 load.running, load.waiting);
  fmt::format_to(std::back_inserter(out),
                 R"("cache":{{"block_size":{},"blocks":{},"used":{},"kept":{}}},)", load.block_size,
                 load.blocks, load.blocks_used, load.blocks_kept);
  if (load.window_ms == 0) return;
  fmt::format_to(std::back_inserter(out),
                 R"("throughput":{{"window_ms":{},"prompt_tokens":{},"generated_tokens":{}}},)",
                 load.window_ms, load.prompt_tokens, load.generated_tokens);
}

}  // namespace

std::string render_status(const cluster_status& status) {
  std::string out = "{";
  put(out, "state", net::state_text(static_cast<net::engine_state>(status.engine.state)));
  put(out, "stage", status.engine.stage);
  if (!status.engine.reason.empty()) put(out, "reason", status.engine.reason);
  put(out, "epoch", status.engine.epoch);
  out += R"("nodes":[)";
  for (const auto& node : status.nodes) put_node(out, node);
  close(out, ']');
  out += R"(,"ranks":[)";
  for (std::size_t i = 0; i < status.ranks.size(); ++i) put_rank(out, i, status.ranks[i]);
  close(out, ']');
  out += ',';
  if (status.load.known) put_load(out, status.load);
  put(out, "faults", status.faults);
  if (status.faults > 0) {
    out += R"("last_fault":{)";
    put(out, "message", status.last_fault);
    put(out, "age_ms", status.last_fault_age_ms);
    close(out, '}');
  }
  close(out, '}');
  return out;
}

}  // namespace dinfer::actors
