// SPDX-License-Identifier: Apache-2.0
// See system.hpp. The one file that makes code for all message types.
#include "actors/system.hpp"

#include "actors/interfaces.hpp"
#include "actors/wire.hpp"

#include <caf/io/all.hpp>

#include <string>
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
  add_message_types<caf::id_block::dinfer>();
  add_error_category(caf::atom("dinfer"), render_error);
  if (options.deterministic) {
    set("scheduler.policy", caf::atom("testing"));
  } else {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::size_t{4});
  }
  if (!options.network) return;
  load<caf::io::middleman>();
  set("middleman.workers", std::size_t{0});
  set("middleman.attach-utility-actors", false);
  set("middleman.heartbeat-interval", caf::timespan{milliseconds(options.health.heartbeat_ms)});
  set("middleman.connection-timeout", caf::timespan{milliseconds(options.health.timeout_ms)});
  set("middleman.app-identifiers",
      std::vector<std::string>{"dinfer/" + std::to_string(options.protocol)});
}

}  // namespace dinfer::actors
