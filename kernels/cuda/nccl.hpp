// SPDX-License-Identifier: Apache-2.0
// NCCL's functions. The library is opened when the first group is made, not linked: a model on one
// GPU runs where there is none. Any thread.
#pragma once

#include "kernels/device.hpp"

#include <nccl.h>

#include <string>

namespace dinfer::kernels::cuda {

struct nccl_functions {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) init_rank = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;
};

// Stays loaded. Throws device_error{unavailable}: what is missing, and how to come by it.
const nccl_functions& nccl();

// "all_reduce: unhandled system error: <what NCCL noted last>".
std::string nccl_failure(const char* what, ncclResult_t code, ncclComm_t of);

// "2.28.9"; empty where it could not be loaded.
std::string nccl_version();

// What names a new group to NCCL. Throws device_error.
std::string make_nccl_id();

}  // namespace dinfer::kernels::cuda
