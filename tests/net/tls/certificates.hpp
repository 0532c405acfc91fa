// SPDX-License-Identifier: Apache-2.0
// Certificates of clusters for tests, in a folder that goes with them.
#pragma once

#include "net/tls/identity.hpp"
#include "net/tls/issue.hpp"
#include "tests/support/temporary_folder.hpp"

#include <ctime>
#include <memory>
#include <string>

namespace dinfer::tests {

inline net::validity days_from_now(int from, int until) {
  const auto now = std::time(nullptr);
  return {now + from * 86'400, now + until * 86'400};
}

// A CA, and files NODE.crt and NODE.key for each node that asks.
class test_cluster {
 public:
  explicit test_cluster(const net::validity& when = days_from_now(-1, 1));
  // The keys of [security] for a node whose certificate it makes.
  security_section node(const std::string& name,
                        const net::validity& when = days_from_now(-1, 1)) const;
  std::shared_ptr<const net::tls_identity> identity(const std::string& name) const;
  const temporary_folder& folder() const { return folder_; }

 private:
  temporary_folder folder_;
  net::issued_certificate authority_;
};

}  // namespace dinfer::tests
