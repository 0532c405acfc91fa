// SPDX-License-Identifier: Apache-2.0
// One shard at work: a plan in, a result out, on one device. The one place that catches
// device_error. Thread: the shard's own; every call but abort() comes from it.
//
// Life: load() -> size_cache() -> connect() -> start_cache() -> execute()*.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "kernels/communicator.hpp"
#include "kernels/device.hpp"
#include "runtime/models/model.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/schedule/step.hpp"
#include "runtime/start_phases.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

// How long joining may take. Once somebody sets `aborted` it ends at once: cancelled.
struct join_limit {
  std::chrono::milliseconds deadline;
  const std::atomic<bool>* aborted = nullptr;
};

// Makes communicators of one rank. The card (at most 1 KB, opaque) travels over the control plane
// to the peers.
class transport {
 public:
  virtual ~transport() = default;
  // Opens what peers will connect to. Errors: io_error.
  virtual result<std::string> card() = 0;
  // Joins a group. `cards[i]` is member i's card, cards[index] our own; all members call it with
  // the same name and order. Meets every member before the deadline; errors: timeout or peer_lost,
  // naming the member waited for, and cancelled.
  virtual result<std::unique_ptr<kernels::communicator>> join(const std::string& group,
                                                              std::span<const std::string> cards,
                                                              std::int32_t index,
                                                              join_limit limit) = 0;
};

struct runner_options {
  std::string device;  // "cpu:0"
  kernels::device_options device_options;
  std::string model_path;
  load_format format = load_format::automatic;
  std::uint64_t seed = 0;  // of made-up weights
  bool dequantize = false;
  quantization_choice quantization = quantization_choice::none;
  std::uint32_t max_model_len = 0;
  std::uint32_t max_num_seqs = 256;
  std::uint32_t max_num_batched_tokens = 2048;
  std::uint32_t block_size = 0;    // 0: the device's
  std::uint64_t cache_bytes = 0;   // 0: what is free, less a reserve
  double memory_fraction = 0;      // of a device's own memory, for everything; 0: decided
  std::uint32_t cache_blocks = 0;  // exact; 0: from bytes
  cache_dtype_choice kv_cache_dtype = cache_dtype_choice::automatic;
  bool graphs = true;              // record decoding steps where the device can
  rank_layout layout;
  std::chrono::milliseconds collective_timeout{10'000};  // of a wait for a peer or the device
};

struct cache_size {
  std::uint32_t block_size = 0;
  std::vector<std::uint32_t> blocks;  // per KV group, the null block not counted
  std::uint64_t block_bytes = 0;      // one block of group 0 on this rank
};

struct rank_report {
  std::uint64_t weight_bytes = 0, replicated_bytes = 0, workspace_bytes = 0, cache_bytes = 0;
  std::string device_description;
  std::uint32_t load_ms = 0;
  std::vector<start_phase> phases;  // in their order, as far as the rank has come
};

// Called in step order, from execute() or from a thread of the runner.
using result_sink = std::function<void(result<step_result>)>;

class runner {
 public:
  virtual ~runner() = default;
  virtual result<void> load(const load_progress& progress) = 0;
  virtual result<cache_size> size_cache() = 0;
  // `cards[rank]` of the whole cluster, in rank order. Joins the tensor-parallel group and the
  // pipeline's.
  virtual result<std::string> card() = 0;
  virtual result<void> connect(std::span<const std::string> cards,
                               std::chrono::milliseconds deadline) = 0;
  // Blocks per group that every rank agreed on.
  virtual result<void> start_cache(std::span<const std::uint32_t> blocks, epoch_id epoch) = 0;
  // Runs a plan; on an asynchronous device returns once it is launched. A result reaches the sink
  // only on the last stage's tp rank 0 (others: `result` with no sequences is not sent); an error
  // reaches every rank's sink once, and the runner is unusable until connect().
  virtual void execute(const step_plan& plan, const result_sink& sink) = 0;
  // Of a runner that was made to check its device and its links (check/link_check.hpp), instead of
  // all between load() and report(): what it found (encoded rank_check). `cards` as for connect().
  virtual result<std::string> check(std::span<const std::string> /*cards*/,
                                    std::chrono::milliseconds /*deadline*/) {
    return fail(errc::unsupported, "this device has no links to check");
  }
  virtual rank_report report() const = 0;
  virtual void abort() noexcept = 0;  // any thread: wakes a blocked collective, or connect()
};

// The real one: opens the device, the model file and its model.
result<std::unique_ptr<runner>> make_model_runner(const runner_options& options,
                                                  std::unique_ptr<transport> wires);

}  // namespace dinfer::runtime
