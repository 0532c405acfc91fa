// SPDX-License-Identifier: Apache-2.0
// What is said at start about certificates that cannot be used: key, file, and what would help.
#include "tests/net/tls/certificates.hpp"

#include "net/tls/session.hpp"
#include "tests/support/catch.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;

// The one line that refuses these files for node "a".
std::string refusal(const security_section& files) {
  const auto loaded = net::tls_identity::load(files, "a");
  REQUIRE_FALSE(loaded);
  CHECK(loaded.error().code == errc::invalid_argument);
  CHECK(loaded.error().message.find('\n') == std::string::npos);
  CHECK(loaded.error().message.starts_with(loaded.error().subject + ": /"));
  return loaded.error().message;
}

}  // namespace

TEST_CASE("without files there is no identity, with them it says until when it is valid", "[tls]") {
  const auto none = net::tls_identity::load({}, "a");
  REQUIRE(none);
  CHECK(*none == nullptr);
  const test_cluster cluster;
  const auto own = cluster.identity("a");
  CHECK_THAT(own->description(), Contains("/a.crt, valid until 20"));
  CHECK(own->valid_until() > std::chrono::system_clock::now() + std::chrono::hours(23));
}

TEST_CASE("files that cannot be used are refused with key, file and remedy", "[tls]") {
  const test_cluster cluster, other;
  auto files = cluster.node("a");
  SECTION("a file that is not there") {
    files.tls_key_file = "/nowhere/a.key";
    CHECK_THAT(refusal(files), Contains("security.tls_key_file: /nowhere/a.key: cannot be read: "
                                        "No such file") &&
                                   Contains("dinfer certs"));
  }
  SECTION("a folder") {
    files.tls_ca_file = cluster.folder().path("");
    CHECK_THAT(refusal(files), Contains("security.tls_ca_file: ") && Contains("directory"));
  }
  SECTION("no PEM") {
    files.tls_ca_file = cluster.folder().write("text", "hello\n");
    CHECK_THAT(refusal(files), Contains("no certificate in PEM"));
  }
  SECTION("an empty file") {
    files.tls_certificate_file = cluster.folder().write("empty", "");
    CHECK_THAT(refusal(files), Contains("no certificate in PEM"));
  }
  SECTION("damaged PEM") {
    files.tls_certificate_file = cluster.folder().write(
        "damaged", "-----BEGIN CERTIFICATE-----\nMIIB!!!\n-----END CERTIFICATE-----\n");
    CHECK_THAT(refusal(files), Contains("no certificate in PEM"));
  }
  SECTION("too large") {
    files.tls_ca_file = cluster.folder().write("large", std::string(2 << 20, 'x'));
    CHECK_THAT(refusal(files), Contains("over 1 MB"));
  }
  SECTION("certificate and key exchanged") {
    std::swap(files.tls_certificate_file, files.tls_key_file);
    CHECK_THAT(refusal(files), Contains("tls_certificate_file") && Contains("no certificate"));
  }
  SECTION("another node's key") {
    cluster.node("b");
    files.tls_key_file = cluster.folder().path("b.key");
    CHECK_THAT(refusal(files), Contains("security.tls_key_file") &&
                                   Contains("b.key: not the key") && Contains("a.crt"));
  }
  SECTION("another cluster's CA") {
    files.tls_ca_file = other.node("a").tls_ca_file;
    CHECK_THAT(refusal(files), Contains("security.tls_certificate_file") &&
                                   Contains("a.crt: not signed by the CA in ") &&
                                   Contains("ca.crt; all certificates of a cluster"));
  }
  SECTION("expired") {
    files = cluster.node("a", days_from_now(-10, -2));
    CHECK_THAT(refusal(files), Contains("security.tls_certificate_file") &&
                                   Contains("a.crt: expired on 20") && Contains("dinfer certs"));
  }
  SECTION("not valid yet") {
    files = cluster.node("a", days_from_now(1, 2));
    CHECK_THAT(refusal(files), Contains("a.crt: valid from 20") && Contains("this host's clock"));
  }
  SECTION("an expired CA") {
    const test_cluster old(days_from_now(-10, -2));
    CHECK_THAT(refusal(old.node("a")),
               Contains("security.tls_ca_file") && Contains("ca.crt: expired on 20"));
  }
}

TEST_CASE("one file may hold two CAs while a cluster changes from one to the other", "[tls]") {
  const test_cluster before, after;
  auto files = before.node("a");
  std::ifstream one(before.folder().path("ca.crt")), other(after.folder().path("ca.crt"));
  std::ostringstream both;
  both << one.rdbuf() << other.rdbuf();
  files.tls_ca_file = before.folder().write("both.crt", both.str());
  CHECK(net::tls_identity::load(files, "a"));
  auto newer = after.node("a");
  newer.tls_ca_file = files.tls_ca_file;
  CHECK(net::tls_identity::load(newer, "a"));
}

TEST_CASE("files that are replaced later change nothing", "[tls]") {
  const test_cluster cluster;
  const auto own = cluster.identity("a");
  std::filesystem::remove_all(cluster.folder().path(""));
  CHECK(own->context() != nullptr);
  CHECK(net::tls_session::open(own, -1, net::tls_side::client));
}

TEST_CASE("only a CA and its key sign", "[tls]") {
  const auto authority = net::make_authority(days_from_now(-1, 1));
  REQUIRE(authority);
  const auto node = net::issue_certificate(*authority, "a", {}, days_from_now(-1, 1));
  REQUIRE(node);
  CHECK_FALSE(net::issue_certificate(*node, "b", {}, days_from_now(-1, 1)));
  CHECK_FALSE(
      net::issue_certificate({authority->certificate, node->key}, "b", {}, days_from_now(-1, 1)));
  CHECK_FALSE(net::issue_certificate({"", ""}, "b", {}, days_from_now(-1, 1)));
  CHECK(net::valid_until("nothing") == 0);
}

}  // namespace dinfer::tests
