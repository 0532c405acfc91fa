// SPDX-License-Identifier: Apache-2.0
// The messages of `dinfer status`: who is there, and how the engine is. See messages.hpp for the
// rules.
#pragma once

#include "actors/messages.hpp"

#include <string>
#include <vector>

namespace dinfer::actors {

DINFER_EMPTY_MESSAGE(status_query);
struct node_line {
  std::string name, address, build;
  std::vector<std::string> devices;
  bool alive = false;
  std::string note;
  static auto fields(auto& x, auto&& f) {
    return f("node_line", named{"name", x.name}, named{"address", x.address},
             named{"build", x.build}, named{"devices", x.devices}, named{"alive", x.alive},
             named{"note", x.note});
  }
};
struct cluster_status {
  engine_notice engine;
  std::vector<node_line> nodes;
  static auto fields(auto& x, auto&& f) {
    return f("cluster_status", named{"engine", x.engine}, named{"nodes", x.nodes});
  }
};

}  // namespace dinfer::actors
