// SPDX-License-Identifier: Apache-2.0
// Steps that decode are alike but for their numbers: they are padded to a few sizes, recorded once
// for each, and replayed. The first step of a size runs as it is, which also lets the device find
// its fastest kernels; the second records. Thread: the shard's.
#pragma once

#include "kernels/device.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

namespace dinfer::runtime {

class step_graphs {
 public:
  step_graphs(kernels::device& device, bool enabled);

  // The least size that holds `sequences`; `sequences` itself where no steps are recorded.
  std::uint32_t size_for(std::uint32_t sequences) const;
  // The size that the plan's step is padded to, 0 when it is not to be recorded: every sequence
  // must decode and draw one token.
  std::uint32_t size_of(const step_plan& plan) const;

  // Computes a step of `size` by `compute`, which does the same operations at the same addresses
  // for equal arguments here.
  void run(std::uint32_t size, bool draws, const std::function<void()>& compute);
  void forget() { graphs_.clear(); }  // addresses are about to change

 private:
  struct recorded {
    bool warm = false;
    std::unique_ptr<kernels::graph> graph;
  };
  kernels::device* device_;
  bool enabled_;
  std::map<std::pair<std::uint32_t, bool>, recorded> graphs_;
};

}  // namespace dinfer::runtime
