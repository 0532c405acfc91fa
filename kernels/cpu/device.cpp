// SPDX-License-Identifier: Apache-2.0
// The CPU as a device: its memory is the host's, its stream is the calling thread.
#include "kernels/cpu/device.hpp"

#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/cpu/vector/kernels.hpp"

#include <cstring>
#include <fstream>
#include <system_error>

namespace dinfer::kernels::cpu {

namespace {

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

// Work is done when a call returns.
class past_event final : public event {
 public:
  void record() override {}
  void wait(std::chrono::milliseconds) override {}
};

class cpu_device final : public device {
 public:
  cpu_device(const std::string& name, const device_options& options)
      : pool_(options.cpu_threads, options.first_core), ops_(pool_, !options.activation) {
    const auto memory = host_memory();
    traits_.name = name;
    traits_.description = processor_name() + ", " + best_kernels().name + ", " +
                          std::to_string(pool_.threads()) +
                          (pool_.threads() == 1 ? " thread" : " threads");
    traits_.memory_bytes = memory.total;
    traits_.free_bytes = memory.available;
    traits_.host_memory = true;
  }

  const device_traits& traits() const noexcept override { return traits_; }

  buffer allocate(std::size_t bytes, bool zeroed) override {
    return {this, allocate_bytes(bytes, zeroed), bytes};
  }

  buffer allocate_host(std::size_t bytes) override {
    return {this, allocate_bytes(bytes, true), bytes, memory_kind::host};
  }

  void upload(void* to, const void* from_host, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from_host, bytes);
  }

  void download(void* to_host, const void* from, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to_host, from, bytes);
  }

  void upload_async(void* to, const void* from_host, std::size_t bytes) override {
    upload(to, from_host, bytes);
  }

  void download_async(void* to_host, const void* from, std::size_t bytes) override {
    download(to_host, from, bytes);
  }

  std::unique_ptr<event> make_event() override { return std::make_unique<past_event>(); }

  void synchronize() override {}

  kernels::ops& ops() noexcept override { return ops_; }

 private:
  void release(void* data, std::size_t bytes, memory_kind) noexcept override {
    release_bytes(data, bytes);
  }

  device_traits traits_;
  thread_pool pool_;
  cpu_ops ops_;
};

}  // namespace

result<std::unique_ptr<device>> open(const std::string& name, const device_options& options) {
  constexpr std::uint32_t most_threads = 1024;
  if (options.cpu_threads == 0 || options.cpu_threads > most_threads) {
    return fail(errc::invalid_argument,
                "threads: " + std::to_string(options.cpu_threads) + " is not in 1.." +
                    std::to_string(most_threads),
                "threads");
  }
  if (options.activation && *options.activation != dtype::f32) {
    const auto type = std::string(info(*options.activation).name);
    return fail(
        errc::unsupported,
        "model.dtype: the CPU computes in f32, not in " + type + "; leave it out or choose \"f32\"",
        "model.dtype");
  }
  try {
    return std::make_unique<cpu_device>(name, options);
  } catch (const std::system_error& e) {
    return fail(errc::unavailable, name + ": the threads could not be started: " + e.what(), name);
  }
}

}  // namespace dinfer::kernels::cpu
