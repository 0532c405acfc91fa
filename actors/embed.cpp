// SPDX-License-Identifier: Apache-2.0
// See dinfer/caf.hpp and embed.hpp: a node_process in a system that is there already, whose only
// front of its own is a desk for actors.
#include "actors/embed.hpp"

#include "actors/system.hpp"
#include "actors/token_desk.hpp"
#include "actors/wire.hpp"
#include "dinfer/version.hpp"
#include "runtime/base/metrics.hpp"
#include "runtime/base/toml_config.hpp"
#include "runtime/schedule/step_codec.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

#include <fmt/format.h>
#include <caf/defaults.hpp>

#include <algorithm>
#include <thread>
#include <utility>

namespace dinfer {

namespace {

constexpr std::chrono::milliseconds look{5};

// As it stands in the configuration; first what the program says of itself.
std::vector<std::string> networks_of(const caf::actor_system_config& config) {
  auto names =
      caf::get_or(config, "middleman.app-identifiers", caf::defaults::middleman::app_identifiers);
  const auto ours = actors::network_name(protocol_version);
  if (std::find(names.begin(), names.end(), ours) == names.end()) names.push_back(ours);
  return names;
}

result<std::size_t> index_of(const cluster_config& cluster, const std::string& node) {
  if (node.empty()) return std::size_t{0};
  for (std::size_t i = 0; i < cluster.nodes.size(); ++i)
    if (cluster.nodes[i].name == node) return i;
  return fail(errc::not_found, fmt::format("the cluster has no node \"{}\"", node), "node");
}

}  // namespace

struct embedded_node::impl {
  std::shared_ptr<actors::desk_front> desk;  // null: stopped
  std::shared_ptr<const runtime::tokenizer> words;
  std::unique_ptr<actors::node_process> node;
};

embedded_node::embedded_node(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
embedded_node::embedded_node(embedded_node&&) noexcept = default;
embedded_node& embedded_node::operator=(embedded_node&&) noexcept = default;
embedded_node::~embedded_node() = default;

engine_actor embedded_node::engine() const {
  return impl_->desk ? impl_->desk->engine() : engine_actor{};
}

result<void> embedded_node::wait_ready(std::chrono::milliseconds timeout) const {
  if (!impl_->desk) return fail(errc::unavailable, "the engine was stopped");
  const auto until = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto status = impl_->desk->status();
    if (status.state == net::engine_state::ready) return {};
    if (impl_->node->ended()) {
      const auto why = impl_->node->reason();
      return fail(errc::unavailable, why.empty() ? "the cluster has ended" : why);
    }
    if (std::chrono::steady_clock::now() >= until)
      return fail(errc::timeout,
                  fmt::format("the engine is not ready after {} ms: {}{}{}", timeout.count(),
                              status.stage, status.reason.empty() ? "" : ": ", status.reason));
    std::this_thread::sleep_for(look);
  }
}

std::vector<token_id> embedded_node::encode(std::string_view text) const {
  const auto* words = impl_->words.get();
  return words == nullptr ? std::vector<token_id>{} : words->encode(text, false, true);
}

std::string embedded_node::decode(std::span<const token_id> tokens) const {
  const auto* words = impl_->words.get();
  return words == nullptr ? std::string{} : words->decode(tokens, true);
}

// The desk goes as well: it holds handles, which would keep the system from ending.
result<void> embedded_node::stop() {
  auto stopped = impl_->node->stop();
  impl_->desk.reset();
  return stopped;
}

result<cluster_config> read_cluster(const std::string& file) { return runtime::load_config(file); }

void configure(caf::actor_system_config& config, const cluster_config& cluster) {
  actors::add_types(config);
  config.add_message_type<open_stream>("dinfer::open_stream");
  config.add_message_type<stream_opened>("dinfer::stream_opened");
  config.add_message_type<stream_event>("dinfer::stream_event");
  config.add_message_type<grant_credit>("dinfer::grant_credit");
  config.add_message_type<close_stream>("dinfer::close_stream");
  config.add_message_type<engine_actor>("dinfer::engine_actor");
  if (cluster.nodes.size() > 1) actors::add_network(config, cluster.health, networks_of(config));
}

result<embedded_node> spawn_node(caf::actor_system& system, cluster_config cluster,
                                 const std::string& node) {
  const bool http = !cluster.gateways.empty();
  DINFER_CHECK(runtime::check_config(cluster));
  if (cluster.parallel.isolation == isolation_mode::process)
    return fail(errc::unsupported,
                "isolation = \"process\" needs a program that can start itself again; use \"node\"",
                "isolation");
  if (cluster.nodes.size() > 1 && !system.has_middleman())
    return fail(errc::unsupported,
                "a cluster of several nodes needs CAF's network: call configure(config, cluster) "
                "before the actor system is made",
                "cluster");
  actors::node_options options;
  DINFER_TRY(options.node_index, index_of(cluster, node));
  DINFER_TRY(auto own,
             net::tls_identity::load(cluster.security, cluster.nodes[options.node_index].name));
  options.parts =
      actors::default_parts(cluster, std::make_shared<runtime::metrics_registry>(), std::move(own));
  if (!http) cluster.gateways.clear();  // that check_config added
  options.config = std::move(cluster);
  return actors::embed(system, std::move(options));
}

std::string pack(const generate_request& words) { return runtime::encode(words); }

std::string pack(const token_event& words) {
  runtime::token_batch batch;
  batch.tokens.push_back(words);
  return runtime::encode(batch);
}

caf::error unpack(std::string_view bytes, generate_request& words) {
  auto read = runtime::decode_request(bytes);
  if (!read) return actors::to_caf(read.error());
  words = std::move(*read);
  return {};
}

caf::error unpack(std::string_view bytes, token_event& words) {
  auto read = runtime::decode_batch(bytes);
  if (!read) return actors::to_caf(read.error());
  if (read->tokens.size() != 1 || !read->rejected.empty())
    return actors::to_caf({errc::mismatch, "a stream_event holds one event", {}});
  words = std::move(read->tokens.front());
  return {};
}

namespace actors {

result<embedded_node> embed(caf::actor_system& system, node_options options) {
  auto parts = std::make_unique<embedded_node::impl>();
  options.system = &system;
  options.make_own_front = [&system, to = parts.get()](std::shared_ptr<net::engine_link> link) {
    to->desk = std::make_shared<desk_front>(system, std::move(link));
    return to->desk;
  };
  parts->node = std::make_unique<node_process>(std::move(options));
  DINFER_CHECK(parts->node->start());
  parts->words = parts->desk->words();
  return embedded_node(std::move(parts));
}

}  // namespace actors

}  // namespace dinfer
