// SPDX-License-Identifier: Apache-2.0
// Sizes are dense where a few sequences more or less make a difference.
#include "runtime/shard/step_graphs.hpp"

#include <algorithm>
#include <array>

namespace dinfer::runtime {
namespace {

constexpr std::array<std::uint32_t, 19> sizes{1,  2,   4,   8,   12,  16,  24,  32,  48, 64,
                                              96, 128, 160, 192, 256, 320, 384, 448, 512};

// A stream must not be left recording when the work fails.
class recording {
 public:
  explicit recording(kernels::device& device) : device_(device) { device_.begin_capture(); }
  ~recording() {
    if (!open_) return;
    try {
      device_.end_capture();
    } catch (const kernels::device_error&) {  // the work's own failure is on its way
    }
  }
  recording(const recording&) = delete;
  recording& operator=(const recording&) = delete;
  std::unique_ptr<kernels::graph> end() {
    open_ = false;
    return device_.end_capture();
  }

 private:
  kernels::device& device_;
  bool open_ = true;
};

}  // namespace

step_graphs::step_graphs(kernels::device& device, bool enabled)
    : device_(&device), enabled_(enabled && device.traits().graphs) {}

std::uint32_t step_graphs::size_for(std::uint32_t sequences) const {
  if (!enabled_) return sequences;
  const auto* found = std::ranges::lower_bound(sizes, sequences);
  return found == sizes.end() ? sequences : *found;
}

std::uint32_t step_graphs::size_of(const step_plan& plan) const {
  const auto sequences = static_cast<std::uint32_t>(plan.sequences.size());
  if (!enabled_ || sequences == 0 || sequences > sizes.back()) return 0;
  const auto decodes = [](const sequence_step& s) {
    return s.query_count == 1 && s.sample && s.logit_rows == 1;
  };
  return std::ranges::all_of(plan.sequences, decodes) ? size_for(sequences) : 0;
}

void step_graphs::run(std::uint32_t size, bool draws, const std::function<void()>& compute) {
  recorded& r = graphs_[{size, draws}];
  if (!std::exchange(r.warm, true)) return compute();
  if (!r.graph) {
    recording work(*device_);
    compute();
    r.graph = work.end();
  }
  r.graph->replay();
}

}  // namespace dinfer::runtime
