// SPDX-License-Identifier: Apache-2.0
// Names to files: DIR/ca.crt and ca.key, DIR/NODE.crt and NODE.key, for the user's eyes alone.
#include "apps/dinfer/certs.hpp"

#include "apps/dinfer/server.hpp"
#include "net/tls/issue.hpp"
#include "runtime/base/config_field.hpp"
#include "runtime/base/toml_config.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <utility>

namespace dinfer::apps {
namespace {

constexpr std::time_t day = 24 * 3600;
constexpr std::time_t clock_skew = 3600;  // a host whose clock is late may use it at once
constexpr const char* ca_name = "ca";

struct named_node {
  std::string name;
  std::vector<std::string> addresses;
};

tl::unexpected<error> io_failure(const std::string& path) {
  return fail(errc::io_error, path + ": " + std::strerror(errno), path);
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return io_failure(path);
  return std::string{std::istreambuf_iterator<char>(in), {}};
}

// Fails when the file is there.
result<void> write_new(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return io_failure(path);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (::close(fd) != 0 || !written) return io_failure(path);
  return {};
}

result<std::vector<named_node>> nodes_of(const certs_options& options) {
  std::vector<named_node> out;
  if (!options.config.empty()) {
    DINFER_TRY(const auto config, runtime::load_config(options.config));
    for (const auto& node : config.nodes) out.push_back({node.name, {node.address}});
  }
  for (const auto& name : options.nodes) out.push_back({name, {}});
  if (out.empty())
    return fail(errc::invalid_argument,
                "no node is named; give their names, or --config with a file that has [[node]]s");
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto& name = out[i].name;
    if (auto problem = runtime::check_node_name(name); !problem.empty())
      return fail(errc::invalid_argument, problem);
    if (name == ca_name)
      return fail(errc::invalid_argument,
                  "\"ca\" names the CA's own files; name the node otherwise");
    const auto same = [&](const named_node& other) { return other.name == name; };
    if (std::count_if(out.begin(), out.end(), same) > 1)
      return fail(errc::invalid_argument, fmt::format("node \"{}\" is named twice", name));
  }
  return out;
}

class workshop {
 public:
  explicit workshop(const certs_options& options) : options_(options) {}

  result<void> run() {
    DINFER_TRY(const auto nodes, nodes_of(options_));
    for (const auto& node : nodes)
      for (const auto* ending : {".crt", ".key"})
        if (exists(path(node.name + ending)))
          return fail(errc::io_error,
                      fmt::format("{} is there already and is not overwritten; remove it, or use "
                                  "another --out",
                                  path(node.name + ending)));
    if (::mkdir(options_.folder.c_str(), 0700) != 0 && errno != EEXIST)
      return io_failure(options_.folder);
    DINFER_CHECK(find_authority());
    for (const auto& node : nodes) DINFER_CHECK(make(node));
    explain(nodes);
    return {};
  }

 private:
  std::string path(const std::string& file) const { return options_.folder + "/" + file; }

  static net::validity from_now(std::uint32_t days) {
    const auto now = std::time(nullptr);
    return {now - clock_skew, now + days * day};
  }

  static std::string date(std::time_t time) {
    std::tm parts{};
    char text[16] = {};
    ::gmtime_r(&time, &parts);
    std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
    return text;
  }

  result<void> write_pair(const std::string& name, const net::issued_certificate& made) const {
    DINFER_CHECK(write_new(path(name + ".key"), made.key));
    return write_new(path(name + ".crt"), made.certificate);
  }

  result<void> find_authority() {
    const auto certificate = path("ca.crt"), key = path("ca.key");
    if (exists(certificate) || exists(key)) {
      DINFER_TRY(authority_.certificate, read_file(certificate));
      DINFER_TRY(authority_.key, read_file(key));
      std::printf("%s: the CA that is there signs, valid until %s\n", certificate.c_str(),
                  date(net::valid_until(authority_.certificate)).c_str());
      return {};
    }
    const auto when = from_now(options_.ca_days);
    DINFER_TRY(authority_, net::make_authority(when));
    DINFER_CHECK(write_pair(ca_name, authority_));
    std::printf("%s, ca.key: a new CA, valid until %s\n", certificate.c_str(),
                date(when.until).c_str());
    return {};
  }

  result<void> make(const named_node& node) const {
    auto when = from_now(options_.days);
    when.until = std::min(when.until, net::valid_until(authority_.certificate));
    auto made = net::issue_certificate(authority_, node.name, node.addresses, when);
    if (!made) return fail(made.error().code, path("ca.crt") + ": " + made.error().message);
    DINFER_CHECK(write_pair(node.name, *made));
    std::printf("%s, %s.key: node %s, valid until %s\n", path(node.name + ".crt").c_str(),
                node.name.c_str(), node.name.c_str(), date(when.until).c_str());
    return {};
  }

  void explain(const std::vector<named_node>& nodes) const {
    const auto& first = nodes.front().name;
    std::printf(
        "\nCopy ca.crt to every host, and to each host the .crt and .key of its own nodes, as "
        "%s.crt\n"
        "and %s.key to that of node %s; they are read by the user that runs dinfer-node. ca.key "
        "stays\n"
        "here: whoever has it can join the cluster. With the folder that they lie in:\n\n"
        "[security]\n"
        "tls_ca_file = \"/etc/dinfer/ca.crt\"\n"
        "tls_certificate_file = \"/etc/dinfer/{node}.crt\"\n"
        "tls_key_file = \"/etc/dinfer/{node}.key\"\n",
        first.c_str(), first.c_str(), first.c_str());
  }

  const certs_options& options_;
  net::issued_certificate authority_;
};

}  // namespace

int certs(const certs_options& options) {
  const auto done = workshop(options).run();
  if (done) return 0;
  std::fprintf(stderr, "dinfer certs: %s\n", done.error().message.c_str());
  return done.error().code == errc::invalid_argument ? exit_usage : exit_file;
}

}  // namespace dinfer::apps
