// SPDX-License-Identifier: Apache-2.0
// See this_host.hpp.
#include "runtime/parallel/this_host.hpp"

#include "kernels/device.hpp"

#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace dinfer::runtime {

namespace {

// Memory of the devices that have their own: asked before anything is loaded, so that a GPU that
// cannot be used is told at once.
result<void> ask_devices(const node_section& here, host_facts& host) {
  for (const std::string& device : here.devices) {
    kernels::device_memory memory;
    if (device.starts_with("cuda:")) {
      auto asked = kernels::query_memory(device);
      if (!asked)
        return fail(errc::unsupported,
                    asked.error().message +
                        "; to serve on the CPU list devices = [\"cpu:0\"] (--devices cpu:0)",
                    device);
      memory = *asked;
    }
    host.device_bytes.push_back(memory.total_bytes);
    host.device_free_bytes.push_back(memory.free_bytes);
    host.fp8 = host.fp8 && memory.fp8;
  }
  return {};
}

}  // namespace

host_facts this_machine() {
  host_facts host;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof cores, &cores) == 0) {
    host.cores = static_cast<std::uint32_t>(CPU_COUNT(&cores));
    while (host.first_core + 1 < CPU_SETSIZE && !CPU_ISSET(host.first_core, &cores))
      ++host.first_core;
  }
  const auto pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0)
    host.memory_bytes = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page);
  // Nodes that run under one kernel share its cores and memory.
  std::ifstream("/proc/sys/kernel/random/boot_id") >> host.machine;
  return host;
}

result<host_facts> this_host(const node_section& here) {
  auto host = this_machine();
  DINFER_CHECK(ask_devices(here, host));
  return host;
}

}  // namespace dinfer::runtime
