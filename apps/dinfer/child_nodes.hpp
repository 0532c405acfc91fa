// SPDX-License-Identifier: Apache-2.0
// dinfer-node processes that a subcommand starts on this host and that end with it: the nodes of a
// configuration that are here. One thread, which lives as long as they do.
#pragma once

#include "apps/setting_flags.hpp"
#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dinfer::apps {

class child_nodes {
 public:
  child_nodes() = default;
  ~child_nodes() { stop(std::chrono::seconds(10)); }
  child_nodes(const child_nodes&) = delete;
  child_nodes& operator=(const child_nodes&) = delete;

  // One with these arguments. Its output is kept in memory. Error: io_error.
  result<void> start(const std::string& name, const std::vector<std::string>& arguments);
  // Each of `nodes` (indices into the configuration) as --config, --node and the flags that were
  // given say it, with `more` behind.
  result<void> start_all(const cluster_config& config, std::span<const std::size_t> nodes,
                         const setting_flags& flags, const std::vector<std::string>& more);

  std::size_t size() const noexcept { return children_.size(); }
  // How it ended: its exit code, or 128 and the signal's number; nothing while it runs.
  std::optional<int> ended(std::size_t child);
  // Until all have ended; false: not within `time`, or not soon after one of them failed.
  bool wait(std::chrono::milliseconds time);
  std::string output(std::size_t child) const;  // what it printed
  // Its errors, "node a: ..."; when it failed without any, its last line.
  std::vector<std::string> complaints(std::size_t child) const;
  // SIGTERM to all, and after `grace` SIGKILL.
  void stop(std::chrono::milliseconds grace);

 private:
  struct child {
    std::string name;
    pid_t pid = -1;
    int output = -1, errors = -1;  // files without a name
    std::optional<int> code;
  };
  std::vector<child> children_;
};

}  // namespace dinfer::apps
