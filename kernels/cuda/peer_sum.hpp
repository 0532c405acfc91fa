// SPDX-License-Identifier: Apache-2.0
// Sums over the GPUs of one host by our own kernels, through memory that each GPU has for the
// others to write (peer_memory.hpp). Launchers: host code, asynchronous on `stream`, may be
// recorded; throw device_error. All ranks launch the same sums in the same order. Results are
// summed in rank order in f32 and rounded once, and are the same bits on every rank.
//
// One shot (small tensors): every rank stores what it has into a slot of its own at every other
// rank, and adds up the slots at home. Two shots (larger ones): rank p gets everybody's part p,
// sums it and stores the sum at everybody's. Plain loads and stores alone cross the links.
#pragma once

#include "kernels/cuda/pointwise.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace dinfer::kernels::cuda {

inline constexpr std::int32_t most_peers = 8;
inline constexpr std::int32_t most_two_shot_blocks = 64;
inline constexpr std::int64_t most_fused_rows = 128;

enum class sum_way : std::int32_t { nccl, one_shot, two_shot };

// Up to which sizes a way is the fastest, by the number of ranks (or fewer).
struct sum_limits {
  std::int32_t ranks;
  std::int64_t one_shot_bytes, two_shot_bytes;
};
inline constexpr sum_limits fastest_sums[] = {
    {2, 2 << 20, 16 << 20}, {4, 1 << 20, 16 << 20}, {most_peers, 256 << 10, 8 << 20}};

// What the memory of every rank holds at most: all slots of a one-shot sum, all of a two-shot one.
inline constexpr std::int64_t one_shot_slots_bytes = 4 << 20, two_shot_bytes = 16 << 20;

// Between a rank's host and its kernels, in host memory that the GPU sees.
struct peer_notes {
  std::uint32_t aborted = 0;  // by the host: kernels that wait end
  std::uint32_t missing = 0;  // by a kernel: 1 + the rank that it has waited for too long
};

// The beginning of a rank's memory. Zeros at first.
struct peer_control {
  std::uint32_t phase;             // 0, 1, 2: which slots the next one-shot sum uses
  std::uint32_t last_packs;        // that the last one put into each slot
  std::uint32_t dead;              // a kernel gave up: the others do nothing
  std::uint32_t epoch;             // of the last two-shot sum
  std::uint32_t arrived;           // blocks of the kernel that runs
  std::uint32_t left[most_peers];  // written by that rank's farewell: it writes here no more
};
inline constexpr std::int64_t flags_at = 256, slots_at = 8192;

// One rank's view, which kernels take by value.
struct peer_group {
  std::byte* memory[most_peers] = {};  // of each rank, its own among them
  peer_notes* notes = nullptr;
  std::uint64_t patience_ns = 0;  // then a peer is noted as missing; the host decides what follows
  std::int32_t rank = 0, ranks = 1;
  std::int64_t slot_packs = 0;                                 // a pack: 16 bytes
  std::int64_t scatter_at = 0, gather_at = 0, part_packs = 0;  // of two shots
  std::int64_t bytes = 0;                                      // of each rank's memory
};
// Without pointers.
peer_group peer_layout(std::int32_t rank, std::int32_t ranks);

// The same on every rank. `forced`: that way wherever it can go, for measurements.
sum_way way_of_sum(std::int32_t ranks, std::int64_t bytes, std::optional<sum_way> forced);

// x = the sum of all ranks' x. Not for sum_way::nccl.
void peer_sum(const peer_group& group, sum_way way, const tensor& x, cudaStream_t stream);

// add_norm of the one-shot sum of all ranks' `partial`: bit for bit what peer_sum and add_norm
// give, for the sum is rounded before it is added. False, and nothing is launched, for rows that
// are too many, too wide or not aligned: to the other ranks the two steps in its place are the
// same.
bool peer_sum_add_norm(const peer_group& group, sum_way way, const add_norm_job& job, dtype type,
                       cudaStream_t stream);

// Loads every kernel of these, for CUDA may wait for the GPU when it loads one.
void load_peer_kernels(std::int32_t ranks);
void load_peer_norm_kernels(std::int32_t ranks);

// Tells the others that this rank's kernels have ended.
void say_farewell(const peer_group& group, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda
