// SPDX-License-Identifier: Apache-2.0
// What NCCL's own log (NCCL_DEBUG=INFO, subsystems INIT, GRAPH, P2P, SHM, NET) says of the link
// that it chose between two ranks. Read from 2.18's and 2.28's lines; pure text handling, any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dinfer::runtime {

// From the best to the worst.
enum class link_kind : std::uint8_t { unknown, p2p, shm, ib_gdr, ib, socket };

struct nccl_link {
  link_kind kind = link_kind::unknown;
  std::string transport;  // in NCCL's words: "P2P/direct pointer", "NET/IB/0/GDRDMA"
  std::string path;       // between the GPUs, or to the network: "NVL", "PIX", "PHB", "SYS"
  std::uint64_t bytes_per_second = 0;  // that NCCL expects of the path; 0: it does not say
};

// `text`: what was logged while two ranks met and exchanged messages. Of several transports the
// worst.
nccl_link read_nccl_log(std::string_view text);

}  // namespace dinfer::runtime
