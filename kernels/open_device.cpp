// SPDX-License-Identifier: Apache-2.0
// From a name to a device. CUDA lives in a plugin, libdinfer_cuda.so, so that one build serves
// machines with and without GPUs. Its C entry points must come from the same build: devices are C++
// objects.
#include "kernels/cpu/device.hpp"
#include "kernels/device.hpp"

#include <dlfcn.h>

#include <charconv>
#include <string_view>

namespace dinfer::kernels {

namespace {

// On failure these return null and false, and leave the reason in `message`, which has room for
// `size` bytes.
using cuda_open = device* (*)(std::int32_t index, const device_options* options, char* message,
                              std::size_t size);
using cuda_memory = bool (*)(std::int32_t index, device_memory* memory, char* message,
                             std::size_t size);

// The number in "kind:number", or -1.
std::int32_t index_in(std::string_view name, std::string_view kind) {
  if (name.substr(0, kind.size()) != kind) return -1;
  name.remove_prefix(kind.size());
  std::int32_t index = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  return error == std::errc() && end == name.data() + name.size() ? index : -1;
}

tl::unexpected<error> unavailable(const std::string& name, const std::string& why) {
  return fail(errc::unavailable, name + ": " + why, name);
}

// A function of the plugin, which stays loaded.
template <class Function>
result<Function> in_plugin(const std::string& name, const char* function) {
  void* library = dlopen("libdinfer_cuda.so", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return unavailable(name,
                       std::string("the CUDA plugin could not be loaded: ") + (why ? why : ""));
  }
  void* found = dlsym(library, function);
  if (found == nullptr)
    return unavailable(name, std::string("libdinfer_cuda.so has no ") + function);
  return reinterpret_cast<Function>(found);
}

constexpr std::size_t message_bytes = 512;

result<std::unique_ptr<device>> open_cuda(const std::string& name, std::int32_t index,
                                          const device_options& options) {
  DINFER_TRY(const auto open, in_plugin<cuda_open>(name, "dinfer_cuda_open"));
  char message[message_bytes] = "";
  std::unique_ptr<device> opened(open(index, &options, message, sizeof message));
  if (opened == nullptr) return unavailable(name, message);
  return opened;
}

}  // namespace

result<std::unique_ptr<device>> open_device(const std::string& name,
                                            const device_options& options) {
  if (index_in(name, "cpu:") >= 0) return cpu::open(name, options);
  if (const auto index = index_in(name, "cuda:"); index >= 0)
    return open_cuda(name, index, options);
  return fail(errc::not_found,
              "there is no device \"" + name + "\": \"cpu:0\" or \"cuda:0\" would fit", name);
}

result<device_memory> query_memory(const std::string& name) {
  device_memory memory;
  const auto index = index_in(name, "cuda:");
  if (index < 0) return memory;
  DINFER_TRY(const auto query, in_plugin<cuda_memory>(name, "dinfer_cuda_memory"));
  char message[message_bytes] = "";
  if (!query(index, &memory, message, sizeof message)) return unavailable(name, message);
  return memory;
}

}  // namespace dinfer::kernels
