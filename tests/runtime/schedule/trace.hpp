// SPDX-License-Identifier: Apache-2.0
// Random lives of a scheduler with a fake runner: arrivals, cancels, late results, tiny caches.
// What every request must get is computed apart from both, token by token from fake_next_token. One
// seed is one trace. Throws std::runtime_error with what went wrong.
#pragma once

#include <cstdint>

namespace dinfer::test {

struct trace_figures {
  std::uint64_t steps = 0, preemptions = 0, prefix_hits = 0, tokens = 0, restarts = 0;
  std::uint64_t stopped = 0, cut = 0, cancelled = 0, refused = 0;
};

// `scale` 1: a dozen requests; 10: ten times as many.
trace_figures run_trace(std::uint64_t seed, std::uint32_t scale);

}  // namespace dinfer::test
