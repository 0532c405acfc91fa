// SPDX-License-Identifier: Apache-2.0
// See system.hpp. The one file that makes code for all message types.
#include "actors/system.hpp"

#include "actors/interfaces.hpp"
#include "actors/wire.hpp"

#include <caf/io/all.hpp>
#include <caf/logger.hpp>

#include <future>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::actors {

namespace {

std::string render_error(std::uint8_t code, caf::atom_value, const caf::message& context) {
  std::string text{to_string(static_cast<errc>(code))};
  if (context.match_elements<std::string, std::string>())
    text += ": " + context.get_as<std::string>(0);
  return text;
}

}  // namespace

system_config::system_config(const system_options& options) {
  add_types(*this);
  if (options.deterministic) {
    set("scheduler.policy", caf::atom("testing"));
  } else {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::size_t{4});
  }
  if (options.network) add_network(*this, options.health, {network_name(options.protocol)});
}

own_system::own_system(const system_options& options)
    : settings_(std::make_unique<system_config>(options)),
      system_(std::make_unique<caf::actor_system>(*settings_)) {
  system_->await_actors_before_shutdown(false);
}

own_system::~own_system() {
  [[maybe_unused]] auto* abandoned = system_.release();
  [[maybe_unused]] auto* its_settings = settings_.release();
}

// CAF waits without a limit for threads of actors that somebody still holds a handle of, and for
// its logger, which every thread that used the system keeps until it says otherwise: this one does.
bool own_system::end(milliseconds limit) {
  caf::logger::set_current_actor_system(nullptr);
  auto done = std::make_shared<std::promise<void>>();
  auto finished = done->get_future();
  std::thread destroyer([done, its_settings = settings_.release(), ended = system_.release()] {
    delete ended;
    delete its_settings;
    done->set_value();
  });
  if (finished.wait_for(limit) == std::future_status::ready) {
    destroyer.join();
    return true;
  }
  destroyer.detach();
  return false;
}

void add_types(caf::actor_system_config& config) {
  config.add_message_types<caf::id_block::dinfer>();
  config.add_error_category(caf::atom("dinfer"), render_error);
}

void add_network(caf::actor_system_config& config, const health_section& health,
                 const std::vector<std::string>& names) {
  config.load<caf::io::middleman>();
  config.set("middleman.workers", std::size_t{0});
  config.set("middleman.attach-utility-actors", false);
  config.set("middleman.heartbeat-interval", caf::timespan{milliseconds(health.heartbeat_ms)});
  config.set("middleman.connection-timeout", caf::timespan{milliseconds(health.timeout_ms)});
  config.set("middleman.app-identifiers", names);
}

std::string network_name(std::uint32_t protocol) { return "dinfer/" + std::to_string(protocol); }

}  // namespace dinfer::actors
