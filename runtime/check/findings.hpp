// SPDX-License-Identifier: Apache-2.0
// What the ranks found out, judged: every line passes, warns or fails, and says what to do. Pure;
// any thread.
#pragma once

#include "runtime/check/rank_check.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

enum class verdict : std::uint8_t { pass, warn, fail };

struct finding {
  verdict is = verdict::pass;
  std::string subject;  // "ranks 0 and 1"
  std::string figures;
  std::string remedy;  // of what does not pass
};

// One rank's report, and where the rank is.
struct checked_rank {
  std::string node, machine, device;  // machine: nodes that share one are on one host
  std::int32_t stage = 0;
  rank_check report;
};

// `ranks` in rank order.
std::vector<finding> judge(std::span<const checked_rank> ranks);

// The worst of them.
verdict worst(std::span<const finding> findings);

// A table for people, a finding a line.
std::string render(std::span<const finding> findings);

}  // namespace dinfer::runtime
