// SPDX-License-Identifier: Apache-2.0
// See host_checks.hpp.
#include "apps/dinfer/host_checks.hpp"

#include "kernels/device.hpp"
#include "kernels/device_software.hpp"
#include "net/tls/identity.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/models/model.hpp"
#include "runtime/parallel/memory_plan.hpp"
#include "runtime/parallel/model_plan.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace dinfer::apps {

namespace {

using runtime::finding;
using runtime::verdict;

constexpr int most_gpus = 16;                      // of a host, when none are listed
constexpr rlim_t least_files = 8192;               // 4,096 clients, and links between ranks
constexpr std::uint64_t least_shm = 256ULL << 20;  // NCCL's, for the GPUs of a host

// Names of GPUs that a node may open here.
std::vector<std::string> gpus_here() {
  std::vector<std::string> out;
  for (int i = 0; i < most_gpus; ++i) {
    auto name = fmt::format("cuda:{}", i);
    if (!kernels::query_memory(name)) break;
    out.push_back(std::move(name));
  }
  return out;
}

finding check_gpu(const std::string& name) {
  const auto memory = kernels::query_memory(name);
  if (!memory)
    return {verdict::fail, name, memory.error().message,
            "nvidia-smi shows driver and GPUs; libdinfer_cuda.so lies beside the programs; or list "
            "devices = [\"cpu:0\"]"};
  return {verdict::pass,
          name,
          fmt::format("{} of {} free", runtime::size_text(memory->free_bytes),
                      runtime::size_text(memory->total_bytes)),
          {}};
}

// Driver, CUDA and NCCL, as the first of them has them.
void check_software(const std::string& gpu, std::size_t gpus, bool several_serve, findings& out) {
  const auto device = kernels::open_device(gpu, {});
  if (!device) {
    out.push_back({verdict::fail, "CUDA", device.error().message,
                   "a GPU of compute capability 8.0 or later with a driver for it is needed"});
    return;
  }
  const auto software = (*device)->software();
  out.push_back({verdict::pass,
                 "CUDA",
                 fmt::format("{}; driver {}, {}", (*device)->traits().description, software.driver,
                             software.runtime),
                 {}});
  finding nccl{verdict::pass, "NCCL", software.links, {}};
  if (software.links.empty()) {
    nccl.figures = "libnccl.so.2 could not be loaded";
    nccl.is = several_serve ? verdict::fail : gpus > 1 ? verdict::warn : verdict::pass;
    nccl.remedy = nccl.is == verdict::pass
                      ? ""
                      : "several GPUs for one model need it: install libnccl2 or PyPI's "
                        "nvidia-nccl-cu13, and name its directory in LD_LIBRARY_PATH";
    if (nccl.is == verdict::pass) nccl.figures += "; one GPU does without";
  }
  out.push_back(std::move(nccl));
}

finding check_clock() {
  timex state{};
  const int answer = ::adjtimex(&state);
  finding out{verdict::pass, "clock", "synchronised", {}};
  if (answer == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    out.is = verdict::warn;
    out.figures = "not synchronised";
    out.remedy =
        "certificates and log lines go by it: let chrony or systemd-timesyncd set it (in a "
        "container: on its host)";
  }
  return out;
}

std::string limit_text(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit);
}

finding check_limit(const char* subject, decltype(RLIMIT_NOFILE) which, rlim_t least,
                    const char* remedy) {
  rlimit limit{};
  ::getrlimit(which, &limit);
  finding out{verdict::pass, subject, limit_text(limit.rlim_cur), {}};
  if (limit.rlim_cur >= least) return out;
  out.is = verdict::warn;
  out.figures += fmt::format(", {} would do", limit_text(least));
  out.remedy = remedy;
  return out;
}

finding check_huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto begin = text.find('['), end = text.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin)
    return {verdict::pass, "huge pages", "the kernel has none", {}};
  finding out{verdict::pass, "huge pages", text.substr(begin + 1, end - begin - 1), {}};
  if (out.figures != "never") return out;
  out.is = verdict::warn;
  out.remedy =
      "CPUs read weights faster from huge pages: echo madvise > "
      "/sys/kernel/mm/transparent_hugepage/enabled";
  return out;
}

finding check_shm() {
  struct statvfs at {};
  finding out{verdict::pass, "/dev/shm", {}, {}};
  if (::statvfs("/dev/shm", &at) != 0) {
    out.is = verdict::warn;
    out.figures = std::strerror(errno);
  } else {
    const auto bytes = static_cast<std::uint64_t>(at.f_bavail) * at.f_frsize;
    out.figures = runtime::size_text(bytes) + " free";
    if (bytes < least_shm) out.is = verdict::warn;
  }
  if (out.is != verdict::pass)
    out.remedy =
        "NCCL needs it between GPUs of a host: --shm-size 1g or --ipc host for a container";
  return out;
}

finding check_model(const cluster_config& config) {
  finding out{verdict::fail, "model", config.model.path, {}};
  const auto source = runtime::open_model(config);
  const auto shape = source ? runtime::read_model_shape(**source) : tl::unexpected(source.error());
  const auto known = shape ? runtime::find_model(shape->architecture)
                           : result<const runtime::model_factory*>(tl::unexpected(shape.error()));
  if (!known) {
    out.figures = known.error().message;
    out.remedy = "model.path names a GGUF file or a checkpoint's folder that this user can read";
    return out;
  }
  out.is = verdict::pass;
  out.figures += fmt::format(": {}, {} layers", shape->architecture, shape->layers);
  return out;
}

}  // namespace

bool check_gpus(const std::vector<std::string>* listed, bool several_serve, findings& out) {
  std::vector<std::string> gpus;
  if (listed == nullptr) {
    gpus = gpus_here();
    if (gpus.empty()) {
      const bool driver = ::access("/proc/driver/nvidia/version", F_OK) == 0;
      if (driver) out.push_back(check_gpu("cuda:0"));
      else out.push_back({verdict::pass, "GPUs", "none; models are served on the CPU", {}});
      return driver;
    }
  } else {
    for (const auto& name : *listed)
      if (name.starts_with("cuda:")) gpus.push_back(name);
  }
  bool all = !gpus.empty();
  for (const auto& name : gpus) {
    out.push_back(check_gpu(name));
    all = all && out.back().is != verdict::fail;
  }
  if (all) check_software(gpus.front(), gpus.size(), several_serve, out);
  return !gpus.empty();
}

void check_system(bool gpus, findings& out) {
  out.push_back(check_clock());
  out.push_back(check_limit("open files", RLIMIT_NOFILE, least_files,
                            "many clients at once run out of them: ulimit -n 65536; under systemd "
                            "LimitNOFILE=65536"));
  if (gpus) {
    out.push_back(check_limit("locked memory", RLIMIT_MEMLOCK, RLIM_INFINITY,
                              "InfiniBand needs it: ulimit -l unlimited; under systemd "
                              "LimitMEMLOCK=infinity; for a container --ulimit memlock=-1"));
    out.push_back(check_shm());
  } else {
    out.push_back(check_huge_pages());
  }
}

runtime::finding check_port(const std::string& subject, const std::string& address,
                            std::uint16_t port) {
  finding out{verdict::fail, subject, fmt::format("{}:{}", address, port), {}};
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int looked = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (looked != 0) {
    out.figures += std::string(": ") + ::gai_strerror(looked);
    out.remedy = "give an address of this host";
    return out;
  }
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  if (fd >= 0) ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  const bool bound =
      fd >= 0 && ::bind(fd, found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd, 1) == 0;
  const int why = errno;
  if (fd >= 0) ::close(fd);
  ::freeaddrinfo(found);
  if (bound) {
    out.is = verdict::pass;
    out.figures += " is free";
    return out;
  }
  out.figures += std::string(": ") + std::strerror(why);
  if (why == EADDRINUSE)
    out.remedy = fmt::format(
        "ss -ltnp 'sport = :{}' shows who listens there: end it, or take "
        "another port",
        port);
  else if (why == EADDRNOTAVAIL) out.remedy = "no interface of this host has that address";
  else out.remedy = "a port from 1024 on needs no rights";
  return out;
}

void check_files(const cluster_config& config, std::size_t node, findings& out) {
  out.push_back(check_model(config));
  const auto identity = net::tls_identity::load(config.security, config.nodes[node].name);
  if (!identity)
    out.push_back({verdict::fail, "TLS", identity.error().message,
                   "dinfer certs makes certificates for the nodes of a cluster.conf"});
  else if (*identity != nullptr)
    out.push_back({verdict::pass, "TLS", (*identity)->description(), {}});
  for (const auto& [_, gateway] : runtime::gateways_of(config, node)) {
    const auto& file = gateway.api_keys_file;
    if (file.empty()) continue;
    if (::access(file.c_str(), R_OK) == 0) out.push_back({verdict::pass, "API keys", file, {}});
    else
      out.push_back({verdict::fail, "API keys", file + ": " + std::strerror(errno),
                     "gateway.api_keys_file has a key a line, for the user of dinfer-node"});
  }
}

}  // namespace dinfer::apps
