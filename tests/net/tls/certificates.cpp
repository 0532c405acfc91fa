// SPDX-License-Identifier: Apache-2.0
// See certificates.hpp.
#include "tests/net/tls/certificates.hpp"

namespace dinfer::tests {

test_cluster::test_cluster(const net::validity& when) {
  const auto made = net::make_authority(when);
  REQUIRE(made);
  authority_ = *made;
  folder_.write("ca.crt", authority_.certificate);
}

security_section test_cluster::node(const std::string& name, const net::validity& when) const {
  const auto made = net::issue_certificate(authority_, name, {"127.0.0.1", "::1", "h.lan"}, when);
  REQUIRE(made);
  folder_.write(name + ".crt", made->certificate);
  folder_.write(name + ".key", made->key);
  security_section out;
  out.tls_ca_file = folder_.path("ca.crt");
  out.tls_certificate_file = folder_.path("{node}.crt");
  out.tls_key_file = folder_.path("{node}.key");
  return out;
}

std::shared_ptr<const net::tls_identity> test_cluster::identity(const std::string& name) const {
  auto loaded = net::tls_identity::load(node(name), name);
  REQUIRE(loaded);
  return *loaded;
}

}  // namespace dinfer::tests
