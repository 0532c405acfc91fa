// SPDX-License-Identifier: Apache-2.0
// See own_node.hpp.
#include "apps/own_node.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <set>

namespace dinfer::apps {

namespace {

// Of this host's interfaces.
std::set<std::string> own_addresses() {
  std::set<std::string> out;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return out;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (i->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
      out.insert(::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text));
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(i->ifa_addr);
      out.insert(::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text));
    }
  }
  ::freeifaddrs(list);
  return out;
}

std::vector<std::size_t> all_of(const cluster_config& config) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < config.nodes.size(); ++i)
    if (config.nodes[i].parent.empty()) out.push_back(i);
  return out;
}

}  // namespace

std::vector<std::size_t> nodes_here(const cluster_config& config) {
  const auto addresses = own_addresses();
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  auto out = all_of(config);
  if (out.size() == 1) return out;
  std::erase_if(out, [&](std::size_t i) {
    const auto& node = config.nodes[i];
    return node.name != host && !addresses.contains(node.address) &&
           !node.address.starts_with("127.");
  });
  return out;
}

std::string names_of(const cluster_config& config, const std::vector<std::size_t>& nodes) {
  std::string out;
  for (const auto i : nodes)
    out += (out.empty() ? "" : ", ") + config.nodes[i].name + " (" + config.nodes[i].address + ")";
  return out;
}

result<std::size_t> find_node(const cluster_config& config, const std::string& name) {
  const auto& nodes = config.nodes;
  if (!name.empty()) {
    const auto found =
        std::find_if(nodes.begin(), nodes.end(), [&](const auto& n) { return n.name == name; });
    if (found == nodes.end())
      return fail(
          errc::not_found,
          "--node " + name + ": no such node; there are " + names_of(config, all_of(config)),
          "node");
    return static_cast<std::size_t>(found - nodes.begin());
  }
  const auto fits = nodes_here(config);
  if (fits.size() == 1) return fits.front();
  return fail(
      errc::invalid_argument,
      std::string(fits.empty() ? "no node of the configuration has this host's name or address"
                               : "several nodes have an address of this host") +
          "; say which one this is: --node NAME, one of " + names_of(config, all_of(config)),
      "node");
}

}  // namespace dinfer::apps
