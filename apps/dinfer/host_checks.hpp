// SPDX-License-Identifier: Apache-2.0
// What `dinfer doctor` looks at: each function one thing of this host, judged. Any thread.
#pragma once

#include "dinfer/config.hpp"
#include "runtime/check/findings.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace dinfer::apps {

using findings = std::vector<runtime::finding>;

// GPUs. `listed`: the devices of this host's node; null: whatever is there. True: there are some,
// or there should be.
bool check_gpus(const std::vector<std::string>* listed, bool several_serve, findings& out);

// Clock, limits of a process, huge pages, /dev/shm (with GPUs only).
void check_system(bool gpus, findings& out);

// An address and port that a node will listen on, under `subject`.
runtime::finding check_port(const std::string& subject, const std::string& address,
                            std::uint16_t port);

// The model's files, certificates and API keys that `node` reads.
void check_files(const cluster_config& config, std::size_t node, findings& out);

}  // namespace dinfer::apps
