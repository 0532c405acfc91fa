// SPDX-License-Identifier: Apache-2.0
// From a name to a device. CUDA lives in a plugin, libdinfer_cuda.so, so that one build serves
// machines with and without GPUs. Its one C entry point, `dinfer_cuda_open`, must come from the
// same build: devices are C++ objects.
#include "kernels/cpu/device.hpp"
#include "kernels/device.hpp"

#include <dlfcn.h>

#include <charconv>
#include <string_view>

namespace dinfer::kernels {

namespace {

// On failure returns null and leaves the reason in `message`, which has room for `size` bytes.
using cuda_open = device* (*)(std::int32_t index, const device_options* options, char* message,
                              std::size_t size);

// The number in "kind:number", or -1.
std::int32_t index_in(std::string_view name, std::string_view kind) {
  if (name.substr(0, kind.size()) != kind) return -1;
  name.remove_prefix(kind.size());
  std::int32_t index = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  return error == std::errc() && end == name.data() + name.size() ? index : -1;
}

result<std::unique_ptr<device>> open_cuda(const std::string& name, std::int32_t index,
                                          const device_options& options) {
  const auto unavailable = [&](const std::string& why) {
    return fail(errc::unavailable, name + ": " + why, name);
  };
  void* library = dlopen("libdinfer_cuda.so", RTLD_NOW | RTLD_LOCAL);  // stays loaded
  if (library == nullptr) {
    const char* why = dlerror();
    return unavailable(std::string("the CUDA plugin could not be loaded: ") + (why ? why : ""));
  }
  const auto open = reinterpret_cast<cuda_open>(dlsym(library, "dinfer_cuda_open"));
  if (open == nullptr) return unavailable("libdinfer_cuda.so has no dinfer_cuda_open");
  char message[512] = "";
  std::unique_ptr<device> opened(open(index, &options, message, sizeof message));
  if (opened == nullptr) return unavailable(message);
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

}  // namespace dinfer::kernels
