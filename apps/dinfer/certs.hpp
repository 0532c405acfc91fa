// SPDX-License-Identifier: Apache-2.0
// `dinfer certs`: makes the certificates by which the nodes of a cluster know each other. One
// thread; writes only files that are not there yet.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::apps {

struct certs_options {
  std::string folder;              // made if it is not there; a CA that lies in it is used again
  std::string config;              // cluster.conf: a certificate for each of its nodes
  std::vector<std::string> nodes;  // more of them, by name
  std::uint32_t days = 825;        // that a node's certificate is valid
  std::uint32_t ca_days = 3650;
};

// The exit code: 0, 2 (names, configuration), 3 (files).
int certs(const certs_options& options);

}  // namespace dinfer::apps
