// SPDX-License-Identifier: Apache-2.0
// A flag and an environment variable for each of runtime::settings(), so a key of cluster.conf, its
// flag and its variable can never disagree. Called from main, before any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
}

namespace dinfer::apps {

// Values that came from flags or the environment, for the log: {"tensor-parallel-size", "2
// (flag)"}.
using setting_overrides = std::vector<std::pair<std::string, std::string>>;

class setting_flags {
 public:
  void declare(CLI::App& app);
  // Once parsed: file (none if empty), then environment, then flags; checked. Errors: those of
  // runtime::load_config and check_config.
  result<cluster_config> configuration(const std::string& file, setting_overrides& overrides) const;
  // The flags that were given, for the command line of a dinfer-node.
  std::vector<std::string> words() const;

 private:
  std::map<std::string, std::optional<std::string>> given_;
};

// A command line as CLI11 takes it, last word first. vLLM's short flags have two letters (-tp,
// -pp), which no parser of ours knows: they are written out.
std::vector<std::string> written_out(int argc, char** argv);

}  // namespace dinfer::apps
