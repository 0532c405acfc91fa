// SPDX-License-Identifier: Apache-2.0
// See cluster_fixture.hpp.
#include "tests/actors/cluster_fixture.hpp"

#include "actors/wire.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::actors::tests {

namespace {

std::shared_ptr<cluster_config> config_of(const cluster_options& options) {
  auto config = std::make_shared<cluster_config>();
  for (std::uint32_t n = 0; n < options.nodes; ++n) {
    node_section node;
    node.name = std::string(1, static_cast<char>('a' + n));
    for (std::uint32_t d = 0; d < options.devices_per_node; ++d)
      node.devices.push_back("fake:" + std::to_string(d));
    config->nodes.push_back(std::move(node));
  }
  if (options.kept) config->nodes.back().parent = config->nodes[options.nodes - 2].name;
  config->parallel.tensor_parallel_size = options.tensor_parallel_size;
  config->parallel.pipeline_parallel_size = options.pipeline_parallel_size;
  config->scheduler.max_num_seqs = options.max_num_seqs;
  config->scheduler.max_num_batched_tokens = 64;
  config->cache.blocks = options.blocks;
  config->cache.block_size = 4;
  config->model.max_model_len = options.max_model_len;
  config->health.startup_timeout_ms = 20'000;
  config->health.step_timeout_ms = 5'000;
  config->health.resume_timeout_ms = options.resume_timeout_ms;
  return config;
}

}  // namespace

sim_cluster::sim_cluster(cluster_options options)
    : options_(std::move(options)),
      random_(options_.seed),
      config_(config_of(options_)),
      settings_({.health = {}, .protocol = 1, .network = false, .deterministic = true}),
      system_(settings_),
      scheduler_(dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler())) {
  fake_parts_options fakes;
  fakes.vocabulary = 1000;
  fakes.adjust = options_.adjust;
  parts_ = fake_parts(*config_, std::move(fakes));
  parts_.make_runner = [this, make = parts_.make_runner](
                           const runtime::runner_options& rank,
                           const node_section& here) -> result<std::unique_ptr<runtime::runner>> {
    ++runners_made_;
    DINFER_TRY(auto made, make(rank, here));
    if (options_.wrap) made = options_.wrap(std::move(made), rank.layout);
    return made;
  };
  supervisor_setup setup;
  setup.config = config_;
  setup.make_plan = parts_.make_plan;
  setup.detached = false;
  setup.on_change = [this](const runtime::scheduler& core) { stats_ = core.stats(); };
  setup.on_fault = [this](const std::string& node, const std::string& cause) {
    lines_.push_back("fault of " + node + ": " + cause);
  };
  setup.on_progress = setup.on_error = [this](const std::string& line) { lines_.push_back(line); };
  setup.on_ready = setup.on_progress;
  supervisor_ = spawn_state<supervisor>(system_, false, std::move(setup));
  hello ours{"a", 0, parts_.build, parts_.protocol, parts_.config_text, "fake", {}};
  directory_ = spawn_state<directory>(system_, false, directory_setup{config_, ours, supervisor_});
  for (std::uint32_t g = 0; g < options_.gateways; ++g) {
    gateway_entry entry;
    entry.board = std::make_shared<gateway_board>(g, 1);
    entry.link = std::make_shared<gateway_link>(entry.board);
    entry.actor = spawn_state<gateway>(
        system_, false,
        gateway_setup{g, entry.board, [this](net::engine_events e) { take(std::move(e)); }});
    entry.link->bind(entry.actor);
    gateways_.push_back(std::move(entry));
  }
  nodes_.resize(options_.nodes);
  for (std::uint32_t n = 0; n < options_.nodes; ++n) spawn_node(n);
}

sim_cluster::~sim_cluster() {
  for (auto& node : nodes_)
    if (node) caf::anon_send_exit(node, caf::exit_reason::user_shutdown);
  for (auto& g : gateways_) caf::anon_send_exit(g.actor, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(directory_, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
  run();
  for (auto& g : gateways_) g.link->bind(gateway_actor{});
}

void sim_cluster::spawn_node(std::uint32_t index) {
  node_setup setup;
  setup.config = config_;
  setup.index = index;
  setup.make_runner = parts_.make_runner;
  setup.ours = {config_->nodes[index].name, index,  parts_.build, parts_.protocol,
                parts_.config_text,         "fake", {},           ++processes_};
  setup.end_child = [this](std::size_t child, std::uint32_t process) {
    lines_.push_back("end process " + std::to_string(process) + " of child " +
                     std::to_string(child));
  };
  if (index == 0)
    for (std::uint32_t g = 0; g < gateways_.size(); ++g)
      setup.gateways.emplace_back(g, gateways_[g].actor);
  setup.directory = directory_;
  setup.detached = false;
  setup.on_exit = [this](int code, const std::string& why) {
    exits_.push_back(code);
    lines_.push_back(why);
  };
  nodes_[index] = spawn_state<actors::node>(system_, false, std::move(setup));
}

void sim_cluster::run_some(std::size_t jobs) {
  auto& queue = scheduler_.jobs;
  while (jobs-- > 0 && !queue.empty()) {
    const auto pick = static_cast<std::ptrdiff_t>(random_() % queue.size());
    std::rotate(queue.begin(), queue.begin() + pick, queue.begin() + pick + 1);
    scheduler_.run_once();
  }
}

void sim_cluster::run(std::size_t most) {
  run_some(most);
  REQUIRE(scheduler_.jobs.empty());
}

void sim_cluster::pass(milliseconds time) {
  constexpr milliseconds step{50};
  run();
  for (auto t = milliseconds(0); t < time; t += step) {
    scheduler_.advance_time(step);
    run();
  }
}

request_id sim_cluster::submit(std::uint32_t g, std::vector<token_id> prompt,
                               std::uint32_t max_tokens) {
  generate_request request;
  request.id = gateways_[g].link->next_id();
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  outcomes_[request.id];
  const auto id = request.id;
  gateways_[g].link->submit(std::move(request));
  return id;
}

void sim_cluster::cancel(std::uint32_t g, request_id id) {
  gateways_[g].link->cancel(id, finish_reason::abort);
}

std::vector<token_id> sim_cluster::expected(const std::vector<token_id>& prompt,
                                            std::uint32_t max_tokens) const {
  auto tokens = prompt;
  for (std::uint32_t i = 0; i < max_tokens; ++i)
    tokens.push_back(runtime::fake_next_token(tokens, runtime::fake_seed(0, 0), 1000));
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()));
  return tokens;
}

void sim_cluster::take(net::engine_events events) {
  for (auto& event : events.tokens) {
    auto& o = outcomes_.at(event.id);
    CHECK(o.lasts == 0);  // nothing follows the last event
    for (const auto& token : event.tokens) o.tokens.push_back(token.token);
    if (event.finish == finish_reason::none) continue;
    ++o.lasts;
    o.finish = event.finish;
    o.message = event.message;
  }
  for (auto& [id, why] : events.rejected) {
    auto& o = outcomes_.at(id);
    CHECK(o.lasts == 0);
    CHECK(o.tokens.empty());
    ++o.lasts;
    o.rejected = true;
    o.message = why.message;
  }
  for (auto& [id, text] : events.clusters) CHECK(shown_.emplace(id, std::move(text)).second);
}

request_id sim_cluster::show_cluster(std::uint32_t g) {
  const auto id = gateways_[g].link->next_id();
  gateways_[g].link->show_cluster(id);
  return id;
}

cluster_status sim_cluster::cluster_state() {
  cluster_status out;
  caf::scoped_actor self{system_};
  auto answer = self->request(directory_, milliseconds(1000), status_query{});
  run();
  answer.receive([&](const cluster_status& status) { out = status; },
                 [](const caf::error& why) { FAIL(text_of(why)); });
  return out;
}

void sim_cluster::kill_node(std::uint32_t index) {
  caf::anon_send_exit(nodes_[index], caf::exit_reason::kill);
}

void sim_cluster::restart_node(std::uint32_t index) { spawn_node(index); }

void sim_cluster::kill_gateway(std::uint32_t g) {
  caf::anon_send_exit(gateways_[g].actor, caf::exit_reason::kill);
}

bool sim_cluster::said(const std::string& part) const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

}  // namespace dinfer::actors::tests
