// SPDX-License-Identifier: Apache-2.0
// What one rank found out about its device and its links before any weight is read, and how that
// travels to the first node. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/device_software.hpp"
#include "runtime/check/nccl_log.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

struct transfer_figures {
  std::uint64_t latency_ns = 0;        // of 8 KiB
  std::uint64_t bytes_per_second = 0;  // of a large tensor: its bytes over the time
};

// Of a pair of ranks, or of a stage of more than two.
struct link_figures {
  std::vector<std::int32_t> ranks;
  std::string wires;  // "NCCL", "TCP", "TCP with TLS", "shared memory"
  nccl_link nccl;     // of a pair
  transfer_figures all_reduce;
  transfer_figures send;  // one way; of a pair
  std::string failure;    // empty: all of this was measured
};

struct rank_check {
  std::string device;  // description
  kernels::device_software software;
  std::uint64_t memory_bytes = 0, free_bytes = 0;
  std::int64_t clock_ns = 0;          // since 1970, when all ranks had just met
  std::vector<std::string> settings;  // of the environment: "NCCL_P2P_DISABLE=1"
  std::vector<link_figures> links;    // those whose first rank this is
};

std::string encode(const rank_check& from);
// Error: mismatch.
result<rank_check> decode_rank_check(std::string_view bytes);

}  // namespace dinfer::runtime
