// SPDX-License-Identifier: Apache-2.0
// See check_parts.hpp.
#include "actors/check_parts.hpp"

#include "runtime/check/link_check.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

namespace dinfer::actors {

namespace {

// NCCL says there which transports it chose.
class nccl_log {
 public:
  nccl_log() {
    std::error_code none;
    const auto folder = std::filesystem::temp_directory_path(none);
    auto name = (none ? std::filesystem::path("/tmp") : folder) / "dinfer-check-XXXXXX";
    path_ = name.string();
    const int file = ::mkstemp(path_.data());
    if (file < 0) {
      path_.clear();  // transports stay unknown then
      return;
    }
    ::close(file);
    for (const auto& [variable, value] : {std::pair{"NCCL_DEBUG", "INFO"},
                                          {"NCCL_DEBUG_SUBSYS", "INIT,GRAPH,P2P,SHM,NET"},
                                          {"NCCL_DEBUG_FILE", path_.c_str()}})
      ::setenv(variable, value, 1);
  }
  ~nccl_log() {
    std::error_code gone;
    if (!path_.empty()) std::filesystem::remove(path_, gone);
  }
  nccl_log(const nccl_log&) = delete;
  nccl_log& operator=(const nccl_log&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

node_parts check_parts(const cluster_config& config, node_parts parts) {
  auto log = std::make_shared<nccl_log>();
  parts.config_text += "check = true\n";
  parts.make_runner = [log, cluster = config, own = parts.own](
                          const runtime::runner_options& options,
                          const node_section& here) -> result<std::unique_ptr<runtime::runner>> {
    return runtime::make_link_check(options, make_wires(options, here, cluster, own), log->path());
  };
  return parts;
}

}  // namespace dinfer::actors
