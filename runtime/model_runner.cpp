// SPDX-License-Identifier: Apache-2.0
// The runner of real models: one rank's model, KV pages and slots on one device. The only place
// where device_error is caught, in load, connect, start_cache and execute. Thread: the shard's, but
// for abort().
#include "kernels/device.hpp"
#include "runtime/base/config_defaults.hpp"
#include "runtime/kv/kv_cache.hpp"
#include "runtime/models/model.hpp"
#include "runtime/runner.hpp"
#include "runtime/shard/rank_links.hpp"
#include "runtime/shard/result_pump.hpp"
#include "runtime/shard/shard_steps.hpp"
#include "runtime/shard/slot_table.hpp"
#include "runtime/weights/source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <utility>

namespace dinfer::runtime {
namespace {

using kernels::device_error;
using steady = std::chrono::steady_clock;

constexpr std::uint64_t host_reserve_bytes = 512ULL << 20;     // left to the rest of the machine
constexpr double default_memory_fraction = 0.92;               // of a device's own memory
constexpr std::uint64_t recording_reserve_bytes = 1ULL << 30;  // recorded steps take some later
constexpr std::uint64_t group_reserve_bytes = 512ULL << 20;    // and so does each group of GPUs

class model_runner final : public runner {
 public:
  model_runner(const runner_options& options, std::unique_ptr<transport> wires,
               std::unique_ptr<weight_source> source, std::unique_ptr<kernels::device> device,
               std::unique_ptr<model> m, std::vector<std::int64_t> shard_rows, phase_clock clock)
      : options_(options),
        clock_(std::move(clock)),
        source_(std::move(source)),
        device_(std::move(device)),
        model_(std::move(m)),
        shard_rows_(std::move(shard_rows)),
        links_(*device_, options_.layout, std::move(wires), options_.collective_timeout) {}

  result<void> load(const load_progress& progress) override;
  result<cache_size> size_cache() override;
  result<std::string> card() override { return links_.card(); }
  result<void> connect(std::span<const std::string> cards,
                       std::chrono::milliseconds deadline) override;
  result<void> start_cache(std::span<const std::uint32_t> blocks, epoch_id epoch) override;
  void execute(const step_plan& plan, const result_sink& sink) override;
  rank_report report() const override;
  void abort() noexcept override { links_.abort(); }

 private:
  const rank_layout& layout() const { return options_.layout; }
  std::uint32_t block_size() const;
  kernels::dtype page_type() const;
  std::uint64_t cache_bytes() const;
  std::uint32_t most_blocks() const;
  shard_limits limits(std::span<const std::uint32_t> blocks) const;
  void take_cache(std::span<const std::uint32_t> blocks);
  result<void> check_order(const step_plan& plan) const;
  result<launched_step> launch(const step_plan& plan);
  result<step_result> finish(const launched_step& step);
  void report_failure(error why, const result_sink& sink);

  runner_options options_;
  phase_clock clock_;
  std::unique_ptr<weight_source> source_;  // until the model is loaded
  std::unique_ptr<kernels::device> device_;
  std::unique_ptr<model> model_;
  std::vector<std::int64_t> shard_rows_;  // vocabulary rows of every tp rank
  rank_links links_;
  bool loaded_ = false;
  std::uint32_t load_ms_ = 0;

  kv_cache cache_;
  std::vector<std::uint32_t> cache_blocks_;
  std::optional<slot_table> slots_;
  std::optional<shard_steps> steps_;
  bool fresh_links_ = false;  // joined, and no step has run since
  std::atomic<bool> ready_ = false;
  std::atomic<bool> reported_ = false;  // an error went out: silence until connect()
  epoch_id epoch_ = 0;
  step_id step_ = 0;
  std::optional<result_pump> pump_;  // of an asynchronous device; the last member: it uses others
};

std::uint32_t model_runner::block_size() const {
  return options_.block_size != 0 ? options_.block_size : device_->traits().default_block_size;
}

kernels::dtype model_runner::page_type() const {
  return runtime::page_type(options_.kv_cache_dtype, device_->traits().activation);
}

shard_limits model_runner::limits(std::span<const std::uint32_t> blocks) const {
  return {options_.max_num_seqs, options_.max_num_batched_tokens, options_.max_model_len,
          block_size(),          model_->shape().vocabulary,      {blocks.begin(), blocks.end()}};
}

result<void> model_runner::load(const load_progress& progress) {
  if (loaded_) return fail(errc::internal, "the model is loaded already");
  const auto begin = steady::now();
  clock_.resume();
  try {
    const bool fp8 = options_.quantization == quantization_choice::fp8;
    DINFER_CHECK(model_->load(*source_, *device_, {options_.dequantize, fp8}, progress));
    device_->synchronize();  // the file may go now
    clock_.end("weights");
    steps_.emplace(*device_, *model_, links_, limits({}), shard_rows_,
                   step_options{options_.graphs, options_.collective_timeout});
  } catch (const device_error& e) {
    return tl::unexpected(links_.located(e));
  }
  clock_.end("workspace");
  source_.reset();
  loaded_ = true;
  if (device_->traits().asynchronous) {
    pump_.emplace([this](const launched_step& step) {
      result<step_result> done = finish(step);
      if (!done) reported_ = true;
      return done;
    });
  }
  load_ms_ = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - begin).count());
  return {};
}

// Bytes that the cache may take on this device.
std::uint64_t model_runner::cache_bytes() const {
  if (options_.cache_bytes != 0) return options_.cache_bytes;
  const kernels::device_traits& traits = device_->traits();
  const auto within = [](std::uint64_t all, std::uint64_t taken) {
    return all > taken ? all - taken : 0;
  };
  if (!traits.host_memory) {
    const double fraction =
        options_.memory_fraction > 0 ? options_.memory_fraction : default_memory_fraction;
    const auto others =
        static_cast<std::uint64_t>(static_cast<double>(traits.memory_bytes) * (1 - fraction));
    const std::uint64_t groups = (layout().tp_size > 1 ? 1 : 0) + (layout().stages > 1 ? 1 : 0);
    return within(device_->free_bytes(),
                  others + recording_reserve_bytes + groups * group_reserve_bytes);
  }
  const rank_report used = report();
  const std::uint64_t left =
      within(traits.free_bytes, used.weight_bytes + used.workspace_bytes +
                                    std::max(host_reserve_bytes, traits.memory_bytes / 20));
  // Ranks may share this host's memory, and other programs live there too.
  const auto ranks = static_cast<std::uint64_t>(layout().stages * layout().tp_size);
  return std::min(left, traits.memory_bytes / 4) / ranks;
}

// More could never be used: every slot as long as a sequence may be.
std::uint32_t model_runner::most_blocks() const {
  const std::uint64_t most = std::uint64_t{options_.max_num_seqs} * limits({}).table_width();
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(most, std::numeric_limits<block_id>::max() - 1));
}

result<cache_size> model_runner::size_cache() {
  if (!loaded_) return fail(errc::unavailable, "the cache is sized once the model is loaded");
  const std::vector<kv_group> groups = model_->kv_groups();
  const kernels::dtype type = page_type();
  cache_size size;
  size.block_size = block_size();
  size.block_bytes = kv_block_bytes(groups.front(), size.block_size, type);
  std::uint32_t blocks = options_.cache_blocks;
  if (blocks == 0) {
    blocks =
        std::min(most_blocks(), kv_blocks_within(groups, size.block_size, type, cache_bytes()));
  }
  if (blocks == 0) {
    return fail(errc::out_of_memory,
                fmt::format("rank {}: {} bytes are left for the KV cache; one block takes {}",
                            layout().rank, cache_bytes(), size.block_bytes),
                "cache.memory");
  }
  size.blocks.assign(groups.size(), blocks);
  return size;
}

result<void> model_runner::connect(std::span<const std::string> cards,
                                   std::chrono::milliseconds deadline) {
  if (!loaded_) return fail(errc::unavailable, "ranks meet once the model is loaded");
  ready_ = reported_ = false;
  if (pump_) pump_->restart();
  steps_->forget_recordings();  // they hold the groups
  DINFER_CHECK(links_.join(cards, deadline));
  fresh_links_ = true;
  return {};
}

void model_runner::take_cache(std::span<const std::uint32_t> blocks) {
  if (!std::ranges::equal(blocks, cache_blocks_)) {
    cache_blocks_.clear();
    cache_ = kv_cache();  // the old pool goes before the new one comes
    cache_ = kv_cache(*device_, model_->kv_groups(), blocks, block_size(), page_type());
    cache_blocks_.assign(blocks.begin(), blocks.end());
  }
  slots_.emplace(limits(blocks));
  steps_->restart();
}

result<void> model_runner::start_cache(std::span<const std::uint32_t> blocks, epoch_id epoch) {
  if (!fresh_links_ && !ready_)
    return fail(errc::unavailable, "the cache starts once the ranks are connected");
  const auto unusable = [](std::uint32_t n) {
    return n == 0 || n >= static_cast<std::uint32_t>(std::numeric_limits<block_id>::max());
  };
  if (blocks.size() != model_->kv_groups().size() || std::ranges::any_of(blocks, unusable)) {
    return fail(errc::invalid_argument,
                fmt::format("rank {}: a cache of [{}] blocks for {} KV groups", layout().rank,
                            fmt::join(blocks, ", "), model_->kv_groups().size()));
  }
  ready_ = reported_ = false;
  if (pump_) pump_->restart();
  clock_.resume();
  try {
    if (!std::exchange(fresh_links_, false)) links_.reset(epoch);
    take_cache(blocks);
  } catch (const device_error& e) {
    return tl::unexpected(links_.located(e));
  }
  if (epoch_ == 0) clock_.end("cache");
  epoch_ = epoch;
  step_ = 0;
  ready_ = true;
  return {};
}

result<void> model_runner::check_order(const step_plan& plan) const {
  if (!ready_) {
    return fail(errc::unavailable, fmt::format("rank {}: not connected", layout().rank));
  }
  if (plan.epoch != epoch_ || plan.step != step_ + 1) {
    return fail(errc::mismatch,
                fmt::format("rank {}: plan {} of epoch {} came, {} of epoch {} is next",
                            layout().rank, plan.step, plan.epoch, step_ + 1, epoch_));
  }
  return {};
}

void model_runner::execute(const step_plan& plan, const result_sink& sink) {
  result<launched_step> step = launch(plan);
  if (!step) return report_failure(std::move(step).error(), sink);
  if (!layout().last()) return;
  // The other ranks of the stage finish steps too, and say nothing of them.
  const bool speaks = layout().tp_rank == 0;
  if (pump_) {
    return pump_->push(std::move(*step), [speaks, sink](result<step_result> done) {
      if (speaks || !done) sink(std::move(done));
    });
  }
  result<step_result> done = finish(*step);
  if (!done) return report_failure(std::move(done).error(), sink);
  if (speaks) sink(std::move(done));
}

void model_runner::report_failure(error why, const result_sink& sink) {
  ready_ = false;
  if (pump_) pump_->drain();  // results before it come first
  if (!reported_.exchange(true)) sink(tl::unexpected(std::move(why)));
}

result<launched_step> model_runner::launch(const step_plan& plan) {
  DINFER_CHECK(check_order(plan));
  if (auto taken = slots_->apply(plan); !taken) {
    error e = std::move(taken).error();
    e.message = fmt::format("rank {}: plan {}: {}", layout().rank, plan.step, e.message);
    return tl::unexpected(std::move(e));
  }
  step_ = plan.step;
  try {
    return steps_->launch(plan, *slots_, cache_);
  } catch (const device_error& e) {
    return tl::unexpected(links_.located(e));
  }
}

// May run on the pump's thread.
result<step_result> model_runner::finish(const launched_step& step) {
  try {
    return steps_->finish(step);
  } catch (const device_error& e) {
    ready_ = false;
    return tl::unexpected(links_.located(e));
  }
}

rank_report model_runner::report() const {
  rank_report r;
  r.weight_bytes = model_->weight_bytes();
  r.replicated_bytes = model_->replicated_bytes();
  r.workspace_bytes = steps_ ? steps_->bytes() : 0;
  r.cache_bytes = cache_.bytes();
  r.device_description = device_->traits().description;
  r.load_ms = load_ms_;
  r.phases = clock_.phases();
  return r;
}

result<void> check_options(runner_options& options, const model_shape& shape) {
  const auto trained = static_cast<std::uint32_t>(shape.max_positions);
  if (options.max_model_len == 0) options.max_model_len = trained;
  if (options.max_model_len > trained) {
    return fail(errc::invalid_argument,
                fmt::format("max_model_len = {}: the model was trained for {} positions",
                            options.max_model_len, trained),
                "max_model_len");
  }
  if (options.max_num_seqs == 0 || options.max_num_batched_tokens == 0) {
    return fail(errc::invalid_argument,
                fmt::format("max_num_seqs = {}, max_num_batched_tokens = {}: both at least 1",
                            options.max_num_seqs, options.max_num_batched_tokens),
                "max_num_seqs");
  }
  return {};
}

result<void> check_quantization(quantization_choice wanted, const kernels::device_traits& traits) {
  if (wanted == quantization_choice::none || traits.fp8) return {};
  return fail(errc::unsupported,
              fmt::format("model.quantization = \"fp8\": {} ({}) has no products of 8-bit floats; "
                          "GPUs of compute capability 8.9 and later have",
                          traits.name, traits.description),
              "model.quantization");
}

// Kernels copy keys and values by 16 bytes.
result<void> check_cache(cache_dtype_choice wanted, const kernels::device_traits& traits,
                         std::int64_t head_dim) {
  if (wanted == cache_dtype_choice::automatic) return {};
  const auto refuse = [](const std::string& what) {
    return fail(errc::unsupported, "cache.kv_cache_dtype = \"fp8\": " + what + "; \"auto\" fits",
                "cache.kv_cache_dtype");
  };
  if (!traits.fp8)
    return refuse(
        fmt::format("{} ({}) has no 8-bit floats; GPUs of compute capability 8.9 and "
                    "later have",
                    traits.name, traits.description));
  if (head_dim % 16 != 0)
    return refuse(fmt::format("heads of {} elements are no multiple of 16", head_dim));
  return {};
}

}  // namespace

result<std::unique_ptr<runner>> make_model_runner(const runner_options& options,
                                                  std::unique_ptr<transport> wires) {
  phase_clock clock;
  DINFER_TRY(auto source, open_weights(options.model_path, options.format, options.seed));
  DINFER_TRY(const model_shape shape, read_model_shape(*source));
  DINFER_TRY(const model_factory* factory, find_model(shape.architecture));
  runner_options own = options;
  DINFER_CHECK(check_options(own, shape));
  DINFER_TRY(const auto stage, stage_of(own.layout, shape));
  std::vector<std::int64_t> shard_rows;
  for (const rank_layout& r : stage) shard_rows.push_back(r.vocabulary.size());
  clock.end("headers");
  DINFER_TRY(auto device, kernels::open_device(own.device, own.device_options));
  clock.end("open_device");
  DINFER_CHECK(check_quantization(own.quantization, device->traits()));
  DINFER_CHECK(check_cache(own.kv_cache_dtype, device->traits(), shape.head_dim));
  auto made = factory->make(shape, own.layout);
  return std::make_unique<model_runner>(own, std::move(wires), std::move(source), std::move(device),
                                        std::move(made), std::move(shard_rows), std::move(clock));
}

}  // namespace dinfer::runtime
