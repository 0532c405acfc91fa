// SPDX-License-Identifier: Apache-2.0
// What keys mean together: names, addresses, ports, devices against ranks, times. Fills in what
// follows from other keys: with isolation = "process" the nodes of each device as well.
#include "runtime/base/config_field.hpp"
#include "runtime/base/toml_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <map>
#include <set>

namespace dinfer::runtime {
namespace {

std::string entry(const char* section, std::size_t index, const char* key) {
  return fmt::format("{}[{}].{}", section, index, key);
}

bool loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

bool any_address(const std::string& address) { return address == "0.0.0.0" || address == "::"; }

class checker {
 public:
  explicit checker(cluster_config& config) : c_(config) {}

  result<void> run() {
    fill();
    check_model();
    check_nodes();
    check_kinds();
    check_gateways();
    check_tls();
    check_ports();
    check_sizes();
    check_times();
    if (problems_.empty()) {
      add_children();
      return {};
    }
    std::string all;
    for (const auto& problem : problems_) all += (all.empty() ? "" : "\n") + problem;
    return fail(errc::invalid_argument, all, subject_);
  }

 private:
  // Where a person finds the key: its line, its flag, or just the file.
  void complain(const std::string& key, const std::string& what) {
    if (subject_.empty()) subject_ = key;
    const auto line = c_.lines.find(key);
    const bool flagged = line != c_.lines.end() && line->second == 0;
    if (flagged) return problems_.push_back(flag_of(key) + ": " + what);
    if (c_.file.empty()) return problems_.push_back(key + ": " + what);
    if (line != c_.lines.end())
      return problems_.push_back(fmt::format("{}:{}: {}: {}", c_.file, line->second, key, what));
    // A default: the section's own line, when the file has the section.
    const auto section = c_.lines.find(key.substr(0, key.rfind('.')));
    const auto at = section == c_.lines.end() ? 1 : section->second;
    problems_.push_back(fmt::format("{}:{}: {}: {}", c_.file, at, key, what));
  }

  static std::string flag_of(const std::string& key) {
    auto plain = key;
    if (const auto bracket = plain.find("[0]"); bracket != std::string::npos)
      plain.erase(bracket, 3);
    for (const auto& setting : settings())
      if (setting.key == plain) return "--" + setting.name;
    return key;
  }

  void fill() {
    const auto& p = c_.parallel;
    if (!p.pp_layers.empty() && p.pipeline_parallel_size == 0)
      c_.parallel.pipeline_parallel_size = static_cast<std::uint32_t>(p.pp_layers.size());
    if (c_.nodes.empty()) {  // one process, any port
      c_.nodes.emplace_back();
      c_.nodes[0].name = "local";
      c_.nodes[0].port = 0;
    }
    // Made by a flag or by nothing, without a port: its children need one.
    if (c_.nodes[0].port == 0 && by_process() && !c_.lines.contains("node[0].port"))
      c_.nodes[0].port = node_section{}.port;
    if (c_.nodes.size() == 1 && c_.nodes[0].devices.empty() && !c_.lines.contains("node[0]"))
      for (std::uint32_t i = 0;
           i < std::max<std::uint64_t>(1, std::min<std::uint64_t>(4096, ranks())); ++i)
        c_.nodes[0].devices.push_back("cpu:" + std::to_string(i));
    if (c_.gateways.empty()) c_.gateways.emplace_back();
    for (auto& gateway : c_.gateways)
      if (gateway.node.empty()) gateway.node = c_.nodes[0].name;
  }

  bool by_process() const { return c_.parallel.isolation == isolation_mode::process; }

  // Each device becomes a node of its own, kept by the one that lists it. They come last, in order,
  // so that ranks and the numbers of the nodes in the file stay as they are.
  void add_children() {
    if (!by_process()) return;
    const auto parents = c_.nodes.size();
    for (std::size_t i = 0; i < parents; ++i) {
      const auto parent = c_.nodes[i];
      if (!parent.parent.empty()) continue;
      c_.nodes[i].devices.clear();
      for (std::size_t d = 0; d < parent.devices.size(); ++d) {
        auto child = parent;
        child.name += "/" + std::to_string(d);
        child.parent = parent.name;
        child.port = 0;  // nobody dials it
        child.devices = {parent.devices[d]};
        c_.nodes.push_back(std::move(child));
      }
    }
  }

  // The key that asks for several ranks.
  const char* ranks_key() const {
    return c_.parallel.tensor_parallel_size > 1 ? "parallel.tensor_parallel_size"
                                                : "parallel.pipeline_parallel_size";
  }

  // Ranks that the sizes ask for; a size of 0 counts as 1, for it is decided later.
  std::uint64_t ranks() const {
    const auto& p = c_.parallel;
    return std::uint64_t{std::max(1u, p.tensor_parallel_size)} *
           std::max(1u, p.pipeline_parallel_size);
  }

  void check_model() {
    const auto wanted = c_.model.dtype;
    const bool halves = wanted == dtype_choice::bfloat16 || wanted == dtype_choice::float16;
    if (halves && lists("cpu:"))
      complain("model.dtype", "activations are float32 on CPUs; use \"auto\" or \"float32\"");
    if (c_.model.quantization == quantization_choice::fp8 && lists("cpu:"))
      complain("model.quantization", "\"fp8\" needs GPUs; CPUs keep weights as they are stored");
    if (!c_.model.path.empty() || all_fake()) return;
    if (c_.model.format == load_format::random)
      complain("model.path",
               "no model is named; give the config.json that says the shapes, or its directory");
    else
      complain("model.path",
               "no model is named; give a GGUF file or a model's directory, here or with --model");
  }

  bool lists(const std::string& kind) const {
    for (const auto& node : c_.nodes)
      for (const auto& device : node.devices)
        if (device.starts_with(kind)) return true;
    return false;
  }

  // CPUs and GPUs do not share a model, and a GPU serves one rank of it.
  void check_kinds() {
    const std::string *cpu = nullptr, *gpu = nullptr;
    for (std::size_t i = 0; i < c_.nodes.size(); ++i) {
      const auto key = entry("node", i, "devices");
      for (const auto& device : c_.nodes[i].devices) {
        const bool on_gpu = device.starts_with("cuda:"), on_cpu = device.starts_with("cpu:");
        const auto* other = on_gpu ? cpu : on_cpu ? gpu : nullptr;
        if (other != nullptr)
          return complain(key, fmt::format("{} and {} are of different kinds; the devices of a "
                                           "model are all CPUs or all GPUs",
                                           *other, device));
        if (on_gpu)
          if (const auto* other_node = same_gpu(i, device))
            return complain(key, fmt::format("{} of {} is listed by node \"{}\" already; each rank "
                                             "needs a GPU of its own",
                                             device, c_.nodes[i].address, other_node->name));
        if (on_gpu) gpu = &device;
        if (on_cpu) cpu = &device;
      }
    }
  }

  // A node before node[i] at the same address that lists the device too.
  const node_section* same_gpu(std::size_t i, const std::string& device) const {
    for (std::size_t j = 0; j < i; ++j) {
      const auto& other = c_.nodes[j];
      if (other.address == c_.nodes[i].address &&
          std::find(other.devices.begin(), other.devices.end(), device) != other.devices.end())
        return &other;
    }
    return nullptr;
  }

  bool all_fake() const {
    for (const auto& node : c_.nodes)
      for (const auto& device : node.devices)
        if (!device.starts_with("fake:")) return false;
    return true;
  }

  void check_nodes() {
    std::map<std::string, std::size_t> names;
    for (std::size_t i = 0; i < c_.nodes.size(); ++i) {
      const auto& node = c_.nodes[i];
      if (node.name.empty())
        complain(entry("node", i, "name"), "a node needs a name of its own, as \"a\"");
      else if (const auto [other, fresh] = names.emplace(node.name, i); !fresh)
        complain(entry("node", i, "name"),
                 fmt::format("\"{}\" is the name of node[{}] already; names must differ", node.name,
                             other->second));
      check_node_address(i);
      std::set<std::string> seen;
      for (const auto& device : node.devices)
        if (!seen.insert(device).second)
          complain(entry("node", i, "devices"),
                   fmt::format("{} stands twice; each rank needs a device of its own", device));
      if ((c_.nodes.size() > 1 || by_process()) && node.port == 0 && node.parent.empty())
        complain(entry("node", i, "port"),
                 "0 fits only where there is one node and one process; others must know the port, "
                 "as 4242");
    }
  }

  void check_node_address(std::size_t i) {
    const auto& address = c_.nodes[i].address;
    if (any_address(address))
      complain(entry("node", i, "address"),
               fmt::format("{} is no address that other nodes could dial; name one", address));
    else if (!loopback(address) && c_.security.tls_ca_file.empty() && !c_.security.insecure_network)
      complain(entry("node", i, "address"),
               fmt::format("{} is off the loopback, and whoever reaches the port controls the "
                           "cluster; name certificates in security.tls_ca_file (dinfer certs makes "
                           "them), use 127.0.0.1, or set security.insecure_network = true for a "
                           "closed network",
                           address));
  }

  void check_tls() {
    const auto& s = c_.security;
    const std::pair<const char*, const std::string&> files[] = {
        {"security.tls_ca_file", s.tls_ca_file},
        {"security.tls_certificate_file", s.tls_certificate_file},
        {"security.tls_key_file", s.tls_key_file}};
    if (s.tls_ca_file.empty() && s.tls_certificate_file.empty() && s.tls_key_file.empty()) return;
    for (const auto& [key, file] : files)
      if (file.empty())
        complain(key,
                 "not given; TLS between nodes takes all of tls_ca_file, "
                 "tls_certificate_file and tls_key_file, or none");
  }

  void check_gateways() {
    std::vector<std::string> names;
    for (const auto& node : c_.nodes) names.push_back(node.name);
    for (std::size_t i = 0; i < c_.gateways.size(); ++i) {
      const auto& gateway = c_.gateways[i];
      if (std::find(names.begin(), names.end(), gateway.node) == names.end())
        complain(entry("gateway", i, "node"),
                 fmt::format("there is no node \"{}\"; there are {}", gateway.node, joined(names)));
      if (!loopback(gateway.address) && gateway.api_keys_file.empty() &&
          !c_.security.insecure_network)
        complain(entry("gateway", i, "address"),
                 fmt::format("{} is reached from other hosts and nothing asks for a key; name an "
                             "api_keys_file, or set security.insecure_network = true",
                             gateway.address));
    }
  }

  // Every listening address and port, nodes first, against all that came before it.
  void check_ports() {
    struct port_user {
      std::string key, address;
      std::uint16_t port;
    };
    std::vector<port_user> users;
    const auto add = [&](const port_user& one) {
      for (const auto& other : users) {
        const bool meet =
            one.address == other.address || any_address(one.address) || any_address(other.address);
        if (one.port == 0 || one.port != other.port || !meet) continue;
        complain(one.key, fmt::format("{}:{} is what {} listens on already; take another port",
                                      one.address, one.port, other.key));
        break;
      }
      users.push_back(one);
    };
    for (std::size_t i = 0; i < c_.nodes.size(); ++i)
      add({entry("node", i, "port"), c_.nodes[i].address, c_.nodes[i].port});
    for (std::size_t i = 0; i < c_.gateways.size(); ++i)
      add({entry("gateway", i, "port"), c_.gateways[i].address, c_.gateways[i].port});
  }

  void check_sizes() {
    const auto& p = c_.parallel;
    std::uint64_t devices = 0;
    for (const auto& node : c_.nodes) devices += node.devices.size();
    if (!p.pp_layers.empty() && p.pp_layers.size() != p.pipeline_parallel_size)
      complain("parallel.pp_layers",
               fmt::format("{} entries for pipeline_parallel_size = {}; give one per stage",
                           p.pp_layers.size(), p.pipeline_parallel_size));
    if (devices == 0)
      complain(entry("node", 0, "devices"),
               "no node has a device; give at least one, as [\"cpu:0\"]");
    else if (ranks() > devices)
      complain(ranks_key(),
               fmt::format("{} x {} ranks need as many devices, and the nodes have {}; list more "
                           "devices or lower tensor_parallel_size or pipeline_parallel_size",
                           std::max(1u, p.tensor_parallel_size),
                           std::max(1u, p.pipeline_parallel_size), devices));
    if (!std::has_single_bit(std::max(1u, c_.cache.block_size)))
      complain("cache.block_size",
               fmt::format("{} is no power of two; 16 or 32 fit", c_.cache.block_size));
    if (c_.cache.memory_bytes > 0 && c_.cache.fraction > 0)
      complain("cache.fraction", "memory is given too; give one of the two");
    if (c_.cache.kv_cache_dtype == cache_dtype_choice::fp8 && lists("cpu:"))
      complain("cache.kv_cache_dtype",
               "\"fp8\" needs GPUs; CPUs keep keys and values in float32: \"auto\" fits");
    if (c_.cache.blocks == 1)
      complain("cache.blocks", "1 block holds no request; give 2 or more, or 0");
  }

  void check_times() {
    const auto& h = c_.health;
    if (h.timeout_ms < 2 * h.heartbeat_ms)
      complain("health.timeout_ms",
               fmt::format("{} is under two heartbeats (heartbeat_ms = {}), so a node would be "
                           "given up at one late message; {} or more fits",
                           h.timeout_ms, h.heartbeat_ms, 2 * h.heartbeat_ms));
  }

  cluster_config& c_;
  std::vector<std::string> problems_;
  std::string subject_;
};

}  // namespace

result<void> check_config(cluster_config& config) { return checker(config).run(); }

}  // namespace dinfer::runtime
