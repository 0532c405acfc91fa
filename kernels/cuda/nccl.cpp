// SPDX-License-Identifier: Apache-2.0
// One attempt to open the library for a process; what came of it is kept.
#include "kernels/cuda/nccl.hpp"

#include <dlfcn.h>

#include <cstdlib>

namespace dinfer::kernels::cuda {

namespace {

struct opened_library {
  nccl_functions functions;
  std::string failure;  // empty: there it is
};

opened_library open_library() {
  opened_library out;
  // Multicast over NVLink fails on hosts that do not grant it, and gains little between few GPUs.
  // Groups connect when they are made, where a peer that stays away is noticed in time.
  (void)setenv("NCCL_NVLS_ENABLE", "0", 0);
  (void)setenv("NCCL_RUNTIME_CONNECT", "0", 0);
  // Its own watch over peers opens ports and keeps a socket of every peer that was killed.
  (void)setenv("NCCL_RAS_ENABLE", "0", 0);
  void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    out.failure =
        std::string("several GPUs for one model need NCCL, and it could not be loaded (") +
        (why != nullptr ? why : "libnccl.so.2") +
        "); install libnccl2, or nvidia-nccl-cu13 from PyPI, and name its directory in "
        "LD_LIBRARY_PATH";
    return out;
  }
  const auto take = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr && out.failure.empty())
      out.failure =
          std::string("libnccl.so.2 has no ") + name + "; version 2.18 or later is needed";
  };
  nccl_functions& f = out.functions;
  take(f.get_version, "ncclGetVersion");
  take(f.get_unique_id, "ncclGetUniqueId");
  take(f.init_rank, "ncclCommInitRankConfig");
  take(f.abort, "ncclCommAbort");
  take(f.error_string, "ncclGetErrorString");
  take(f.last_error, "ncclGetLastError");
  take(f.group_start, "ncclGroupStart");
  take(f.group_end, "ncclGroupEnd");
  take(f.all_reduce, "ncclAllReduce");
  take(f.all_gather, "ncclAllGather");
  take(f.reduce_scatter, "ncclReduceScatter");
  take(f.broadcast, "ncclBroadcast");
  take(f.send, "ncclSend");
  take(f.recv, "ncclRecv");
  return out;
}

const opened_library& library() {
  static const opened_library opened = open_library();
  return opened;
}

}  // namespace

const nccl_functions& nccl() {
  if (!library().failure.empty()) throw device_error(errc::unavailable, library().failure);
  return library().functions;
}

std::string nccl_failure(const char* what, ncclResult_t code, ncclComm_t of) {
  std::string text = std::string(what) + ": " + nccl().error_string(code);
  const char* noted = nccl().last_error(of);
  if (noted != nullptr && *noted != '\0') text += std::string(": ") + noted;
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string nccl_version() {
  int code = 0;  // 22809
  if (!library().failure.empty() || nccl().get_version(&code) != ncclSuccess) return {};
  return std::to_string(code / 10'000) + "." + std::to_string(code / 100 % 100) + "." +
         std::to_string(code % 100);
}

std::string make_nccl_id() {
  ncclUniqueId id;
  const ncclResult_t code = nccl().get_unique_id(&id);
  if (code != ncclSuccess)
    throw device_error(errc::unavailable, nccl_failure("NCCL: naming a group", code, nullptr));
  return {id.internal, sizeof id.internal};
}

}  // namespace dinfer::kernels::cuda
