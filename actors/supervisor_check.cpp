// SPDX-License-Identifier: Apache-2.0
// The end of a cluster that only checks itself: what the ranks found is judged and told.
#include "actors/node_process.hpp"
#include "actors/supervisor.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/check/findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dinfer::actors {

void supervisor::end_check() {
  const auto& nodes = setup_.config->nodes;
  std::vector<runtime::checked_rank> ranks;
  for (std::size_t i = 0; i < checks_.size(); ++i) {
    const auto& place = plan_->ranks[i];
    ranks.push_back({nodes[place.node].name, members_[place.node].host.machine, place.device,
                     place.layout.stage, std::move(checks_[i])});
  }
  // Whoever differs in one of these was refused when it wanted to join; nodes without devices need
  // not be there.
  const auto joined = std::count_if(members_.begin(), members_.end(),
                                    [](const member& m) { return static_cast<bool>(m.worker); });
  std::vector<runtime::finding> findings{
      {runtime::verdict::pass,
       "nodes",
       fmt::format("{} of {} joined: same build, configuration and model ({})", joined,
                   nodes.size(), setup_.config->model.path),
       {}}};
  for (auto& one : runtime::judge(ranks)) findings.push_back(std::move(one));
  setup_.on_check(findings);
  phase_ = phase::ended;
  ++attempt_;
  const bool failed = runtime::worst(findings) == runtime::verdict::fail;
  const auto code = failed ? runtime::exit_cluster : runtime::exit_ok;
  for (std::size_t i = members_.size(); i-- > 0;)
    if (members_[i].worker)
      tell(self_, members_[i].worker, end_node{code, failed ? "the check failed" : ""});
}

}  // namespace dinfer::actors
