// SPDX-License-Identifier: Apache-2.0
// Who is alive, where, with what. Admits nodes whose build, protocol, configuration and model are
// ours and refuses others with one line; tells the supervisor of comings and goings. One, on the
// first node.
#pragma once

#include "actors/interfaces.hpp"
#include "dinfer/config.hpp"

#include <memory>
#include <string>
#include <vector>

namespace dinfer::actors {

struct directory_setup {
  std::shared_ptr<const cluster_config> config;
  hello ours;
  supervisor_actor supervisor;
};

class directory {
 public:
  using handle_type = directory_actor;
  using self_type = std::remove_pointer_t<directory_actor::pointer>;
  static inline const char* name = "dinfer.directory";

  directory(directory_actor::pointer self, directory_setup setup);
  directory_actor::behavior_type make_behavior();

 private:
  struct member {
    worker_actor worker;
    std::string build;
    std::string note = "not joined";
  };

  caf::result<welcome, supervisor_actor> join(const hello& theirs, const worker_actor& worker);
  void lose(std::size_t index, const std::string& why);
  cluster_status with_nodes(cluster_status known) const;

  directory_actor::pointer self_;
  directory_setup setup_;
  down_watch<self_type> watch_;
  std::vector<member> members_;  // by index into config.nodes
};

}  // namespace dinfer::actors
