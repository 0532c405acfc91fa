// SPDX-License-Identifier: Apache-2.0
// Tries candidate sizes in order of preference and takes the first that can be seated on the
// devices and fits their memory.
#include "runtime/parallel/placement.hpp"

#include "runtime/parallel/seating.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace dinfer::runtime {
namespace {

struct candidate {
  std::uint32_t tp = 1, pp = 1;
  std::string why;
};

bool splits_evenly(const model_shape& shape, std::uint32_t tp) noexcept {
  const auto heads = static_cast<std::uint32_t>(shape.heads);
  const auto kv = static_cast<std::uint32_t>(shape.kv_heads);
  return heads % tp == 0 && (kv % tp == 0 || tp % kv == 0);
}

tl::unexpected<error> refuse(const std::string& key, const std::string& why) {
  return fail(errc::invalid_argument, key + why, key);
}

class planner {
 public:
  planner(const cluster_config& config, const model_shape& shape, const weight_estimate& weights,
          std::span<const host_facts> hosts)
      : config_(config), shape_(shape), weights_(weights), seats_(config, hosts) {}

  result<placement> run() {
    DINFER_CHECK(check());
    const auto candidates = list();
    std::optional<error> last;
    for (const candidate& c : candidates) {
      auto plan = attempt(c);
      if (plan) return plan;
      // Of all refusals the last plan's shortage of memory says most: it is the widest one.
      if (!last || plan.error().code == errc::out_of_memory) last = std::move(plan.error());
    }
    DINFER_ASSERT(last.has_value());
    return tl::unexpected(*last);
  }

 private:
  bool tp_given() const noexcept { return config_.parallel.tensor_parallel_size != 0; }
  bool pp_given() const noexcept { return pp_wanted() != 0; }
  std::uint32_t pp_wanted() const noexcept {
    const auto listed = static_cast<std::uint32_t>(config_.parallel.pp_layers.size());
    return listed != 0 ? listed : config_.parallel.pipeline_parallel_size;
  }
  std::uint32_t devices() const noexcept {
    return static_cast<std::uint32_t>(seats_.devices().size());
  }

  result<void> check() const {
    DINFER_CHECK(seats_.check());
    const auto& parallel = config_.parallel;
    const auto layers = static_cast<std::uint32_t>(shape_.layers);
    if (weights_.layer_bytes.size() != layers)
      return fail(errc::internal, "the estimate of weights is not of this model");
    if (parallel.pipeline_parallel_size != 0 && parallel.pipeline_parallel_size != pp_wanted())
      return refuse("pp_layers",
                    fmt::format(": {} stages; pipeline_parallel_size = {}",
                                parallel.pp_layers.size(), parallel.pipeline_parallel_size));
    if (pp_wanted() > layers)
      return refuse(
          "pipeline_parallel_size",
          fmt::format(" = {}: the model has {} layers; at most {}", pp_wanted(), layers, layers));
    if (config_.model.max_model_len > static_cast<std::uint32_t>(shape_.max_positions))
      return refuse(
          "max_model_len",
          fmt::format(" = {}: the model was trained for {} positions; at most {}",
                      config_.model.max_model_len, shape_.max_positions, shape_.max_positions));
    return check_product();
  }

  result<void> check_product() const {
    const std::uint64_t tp = std::max<std::uint32_t>(config_.parallel.tensor_parallel_size, 1);
    const std::uint64_t pp = std::max<std::uint32_t>(pp_wanted(), 1);
    if (tp * pp <= devices()) return {};
    std::string fits;
    if (pp <= devices())
      fits = fmt::format("; tensor_parallel_size = {} fits {} stages", devices() / pp, pp);
    if (tp > 1 && tp <= devices())
      fits +=
          fmt::format("; pipeline_parallel_size = {} fits {} ranks a stage", devices() / tp, tp);
    return refuse(tp_given() ? "tensor_parallel_size" : "pipeline_parallel_size",
                  fmt::format(": {} x {} (tensor x pipeline) needs {} devices; the nodes list {}{}",
                              tp, pp, tp * pp, seats_.inventory(), fits));
  }

  // All sizes worth trying, best first. With both sizes given there is one.
  std::vector<candidate> list() const {
    if (tp_given() && pp_given())
      return {{config_.parallel.tensor_parallel_size, pp_wanted(), "as configured"}};
    std::vector<candidate> out;
    add(out, 1, 1, "the model fits one device");
    const std::uint32_t in_node = seats_.most_in_a_node();
    for (std::uint32_t tp = 2; tp <= in_node; ++tp)
      if (splits_evenly(shape_, tp))
        add(out, tp, 1,
            fmt::format("one device is too small; {} devices of one node share the heads evenly",
                        tp));
    for (std::uint32_t pp = 2; pp <= in_node; ++pp)
      add(out, 1, pp,
          fmt::format("one device is too small and the heads do not split evenly over as many as "
                      "it takes; {} devices of one node share the layers",
                      pp));
    add_both(out, true, "one node is too small: tensor parallel inside nodes, pipeline over them");
    add_both(out, false, "no even split fits: heads are split unevenly");
    return out;
  }

  // All products of sizes, the widest stages first: exchanges inside a node are cheap, and each
  // stage more is a wait more for every token.
  void add_both(std::vector<candidate>& out, bool even, const std::string& why) const {
    const auto layers = static_cast<std::uint32_t>(shape_.layers);
    const std::uint32_t widest = std::min({devices(), static_cast<std::uint32_t>(shape_.heads),
                                           tp_given() ? devices() : seats_.most_in_a_node()});
    for (std::uint32_t tp = widest; tp >= 1; --tp)
      for (std::uint32_t pp = 1; pp <= std::min(layers, devices() / tp); ++pp)
        if (splits_evenly(shape_, tp) == even) add(out, tp, pp, why);
  }

  // Unless a given size says otherwise.
  void add(std::vector<candidate>& out, std::uint32_t tp, std::uint32_t pp,
           const std::string& why) const {
    const auto given_tp = config_.parallel.tensor_parallel_size;
    if (tp_given() && tp != given_tp) return;
    if (pp_given() && pp != pp_wanted()) return;
    std::string reason = why;
    if (tp_given()) reason = "tensor_parallel_size as configured, and the fewest stages that fit";
    if (pp_given()) reason = "stages as configured, and the fewest ranks a stage that fit";
    out.push_back({tp, pp, reason});
  }

  const std::vector<std::uint32_t>& layers_of(std::uint32_t stages) {
    auto& split = splits_[stages];
    if (!config_.parallel.pp_layers.empty()) split = config_.parallel.pp_layers;
    if (split.empty())
      split =
          split_layers(weights_.layer_bytes, weights_.embedding_bytes, weights_.head_bytes, stages);
    return split;
  }

  // Layers are split by their weights first. With the cache that this leaves counted to each layer
  // they are split again, which is kept where the cache does not shrink: a stage that holds few
  // layers beside a large embedding would else leave the others three times its keys and values.
  result<placement> attempt(const candidate& c) {
    DINFER_TRY(auto plan, attempt(c, layers_of(c.pp)));
    if (c.pp == 1 || !config_.parallel.pp_layers.empty()) return plan;
    auto layer_bytes = weights_.layer_bytes;
    for (auto& bytes : layer_bytes) bytes += layer_cache_bytes(plan);
    auto even =
        attempt(c, split_layers(layer_bytes, weights_.embedding_bytes, weights_.head_bytes, c.pp));
    return even && even->cache_blocks >= plan.cache_blocks ? even : plan;
  }

  // Of one layer on all ranks of its stage.
  std::uint64_t layer_cache_bytes(const placement& plan) const {
    std::uint64_t bytes = 0;
    for (const placed_rank& rank : plan.ranks)
      if (rank.layout.first()) bytes += rank.cache_bytes;
    return bytes / static_cast<std::uint64_t>(plan.ranks.front().layout.layers.size());
  }

  result<placement> attempt(const candidate& c, const std::vector<std::uint32_t>& layers) {
    // A stage leaves its node only when its size was asked for.
    DINFER_TRY(const auto seats, seats_.seat(c.tp, c.pp, tp_given()));
    DINFER_TRY(const auto layouts, lay_out(shape_, c.tp, layers, heads_for(seats, c.tp)));
    placement plan;
    plan.tensor_parallel_size = c.tp;
    plan.pipeline_parallel_size = c.pp;
    plan.layers_per_stage = layers;
    plan.reason = c.why + crossing_note(seats, c.tp);
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      placed_rank rank;
      rank.layout = layouts[i];
      rank.node = seats[i]->node;
      rank.device = seats[i]->name;
      plan.ranks.push_back(std::move(rank));
    }
    seats_.share_cores(config_.cpu.threads, seats, plan.ranks);
    DINFER_CHECK(seats_.share_memory(shape_, weights_, seats, plan));
    note_idle(seats, plan);
    return plan;
  }

  // The first rank that sits on another node than its stage's first; seats.size() when none does.
  static std::size_t crossing_rank(const std::vector<const device_slot*>& seats, std::uint32_t tp) {
    std::size_t i = 0;
    while (i < seats.size() && seats[i]->node == seats[i / tp * tp]->node) ++i;
    return i;
  }

  // CPUs of one process help each other. Nodes that isolation = "process" makes are processes too.
  static head_rule heads_for(const std::vector<const device_slot*>& seats, std::uint32_t tp) {
    const bool helping = seats.front()->kind == "cpu" && crossing_rank(seats, tp) == seats.size();
    return helping ? head_rule::least_work : head_rule::lightest_rank;
  }

  std::string crossing_note(const std::vector<const device_slot*>& seats, std::uint32_t tp) const {
    const std::size_t i = crossing_rank(seats, tp);
    if (i == seats.size()) return {};
    return fmt::format(
        "; stage {} spans nodes {} and {}, which costs two exchanges between "
        "them a layer",
        i / tp, config_.nodes[seats[i / tp * tp]->node].name, config_.nodes[seats[i]->node].name);
  }

  void note_idle(const std::vector<const device_slot*>& seats, placement& plan) const {
    const std::set<const device_slot*> used(seats.begin(), seats.end());
    for (const device_slot& device : seats_.devices())
      if (used.count(&device) == 0)
        plan.idle.push_back(config_.nodes[device.node].name + "/" + device.name);
    if (plan.idle.empty()) return;
    plan.reason += fmt::format("; {} of {} devices stay idle, since the plan needs no more",
                               plan.idle.size(), devices());
    if (!tp_given() && !pp_given())
      plan.reason += " (set tensor_parallel_size or pipeline_parallel_size to use them)";
  }

  const cluster_config& config_;
  const model_shape& shape_;
  const weight_estimate& weights_;
  seating seats_;
  std::map<std::uint32_t, std::vector<std::uint32_t>> splits_;  // by number of stages
};

}  // namespace

result<placement> place(const cluster_config& config, const model_shape& shape,
                        const weight_estimate& weights, std::span<const host_facts> hosts) {
  return planner(config, shape, weights, hosts).run();
}

}  // namespace dinfer::runtime
