// SPDX-License-Identifier: Apache-2.0
// The lines of P2P, SHM and NET/Socket were written by NCCL 2.28.9 between two H100; those of
// InfiniBand have the form that NCCL gives them.
#include "runtime/check/nccl_log.hpp"

#include "tests/support/catch.hpp"

using namespace dinfer::runtime;

namespace {

const std::string nvlink_paths =
    "vm:627:640 [1] NCCL INFO GPU/0-60 :GPU/0-60 (0/5000.0/LOC) GPU/0-70 (2/370.8/NVL) NVS/0-0 "
    "(1/370.8/NVL) CPU/0-ffffffffffffff (1/48.0/PHB) NET/0-0 (3/1.2/PHB) \n"
    "vm:627:640 [1] NCCL INFO GPU/0-70 :GPU/0-60 (2/370.8/NVL) GPU/0-70 (0/5000.0/LOC) NVS/0-0 "
    "(1/370.8/NVL) CPU/0-ffffffffffffff (1/48.0/PHB) NET/0-0 (3/1.2/PHB) \n"
    "vm:627:640 [1] NCCL INFO NET/0-0 :GPU/0-60 (3/1.2/PHB) GPU/0-70 (3/1.2/PHB) NET/0-0 "
    "(0/5000.0/LOC) \n";
const std::string pcie_paths =
    "vm:659:672 [0] NCCL INFO GPU/0-60 :GPU/0-60 (0/5000.0/LOC) GPU/0-70 (2/48.0/PHB) NVS/0-0 "
    "(1/370.8/NVL) CPU/0-ffffffffffffff (1/48.0/PHB) NET/0-0 (3/1.2/PHB) \n";
const std::string network_paths =
    "a:1:2 [0] NCCL INFO GPU/0-1a000 :GPU/0-1a000 (0/5000.0/LOC) CPU/0-0 (2/24.0/PHB) NET/0-0 "
    "(3/24.3/PIX) NET/0-1 (4/12.1/SYS) \n";

}  // namespace

TEST_CASE("NCCL's log tells which transport two GPUs got, and what the way between them can do") {
  const auto link = read_nccl_log(
      nvlink_paths +
      "vm:627:640 [1] NCCL INFO P2P Chunksize set to 524288\n"
      "vm:627:640 [1] NCCL INFO Check P2P Type isAllDirectP2p 1 directMode 1 isAllCudaP2p 1\n"
      "vm:627:640 [1] NCCL INFO Channel 00/0 : 1[1] -> 0[0] via P2P/direct pointer\n"
      "vm:627:641 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/direct pointer\n");
  CHECK(link.kind == link_kind::p2p);
  CHECK(link.transport == "P2P/direct pointer");
  CHECK(link.path == "NVL");
  CHECK(link.bytes_per_second == 370'800'000'000);

  const auto other = read_nccl_log(
      "b:7:9 [0] NCCL INFO Channel 03/0 : 0[0] -> 1[1] via P2P/CUMEM/read");  // no newline, no path
  CHECK(other.kind == link_kind::p2p);
  CHECK(other.transport == "P2P/CUMEM/read");
  CHECK(other.bytes_per_second == 0);
}

TEST_CASE("without P2P it is the hosts' memory") {
  const auto link =
      read_nccl_log(pcie_paths +
                    "vm:659:673 [1] NCCL INFO NCCL_P2P_DISABLE set by environment to 1\n"
                    "vm:659:672 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct\n"
                    "vm:659:673 [1] NCCL INFO Channel 00 : 1[1] -> 0[0] via SHM/direct/direct\n");
  CHECK(link.kind == link_kind::shm);
  CHECK(link.transport == "SHM/direct/direct");
  CHECK(link.path == "PHB");
  CHECK(link.bytes_per_second == 48'000'000'000);
}

TEST_CASE("over sockets the network's speed counts, and shared buffers are no shared memory") {
  const auto link = read_nccl_log(
      nvlink_paths +
      "vm:627:641 [0] NCCL INFO NET/Socket : Using [0]eth0:192.0.2.2<0>\n"
      "vm:691:701 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] [send] via NET/Socket/0\n"
      "vm:691:701 [0] NCCL INFO Channel 00/1 : 1[1] -> 0[0] [receive] via NET/Socket/0/Shared\n");
  CHECK(link.kind == link_kind::socket);
  CHECK(link.transport == "NET/Socket/0");
  CHECK(link.path == "PHB");
  CHECK(link.bytes_per_second == 1'200'000'000);
}

TEST_CASE("InfiniBand counts as direct only when both directions are") {
  const auto direct = read_nccl_log(
      network_paths +
      "a:1:2 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/IB/0/GDRDMA\n"
      "a:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0/GDRDMA\n");
  CHECK(direct.kind == link_kind::ib_gdr);
  CHECK(direct.transport == "NET/IB/0/GDRDMA");
  CHECK(direct.path == "PIX");
  CHECK(direct.bytes_per_second == 24'300'000'000);

  const auto one_way = read_nccl_log(
      network_paths +
      "a:1:2 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/IB/0(1)/GDRDMA\n"
      "a:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0\n");
  CHECK(one_way.kind == link_kind::ib);
  CHECK(one_way.transport == "NET/IB/0");
}

TEST_CASE("a log without such lines tells nothing, whatever it holds") {
  for (const std::string text : {"", "\n\n", "Channel via", "Channel 00 : 0[0] -> 1[1]",
                                 "Channel 0] -> x via CARRIER/PIGEON", " GPU/ :GPU/ (",
                                 " GPU/0 :GPU/0 () GPU/1 (1/x/NVL) GPU/2 (//)"}) {
    const auto link = read_nccl_log(text);
    CHECK(link.kind == link_kind::unknown);
    CHECK(link.transport.empty());
    CHECK(link.bytes_per_second == 0);
  }
}
