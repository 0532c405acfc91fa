// SPDX-License-Identifier: Apache-2.0
// See directory.hpp.
#include "actors/directory.hpp"

#include "actors/node_process.hpp"
#include "actors/orders.hpp"
#include "actors/wire.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/log.hpp"

#include <utility>

namespace dinfer::actors {

namespace {

constexpr milliseconds status_timeout{1500};  // longer than the supervisor waits itself

}  // namespace

directory::directory(directory_actor::pointer self, directory_setup setup)
    : self_(self), setup_(std::move(setup)), watch_(self), members_(setup_.config->nodes.size()) {}

directory_actor::behavior_type directory::make_behavior() {
  return {
      [this](const hello& theirs, const worker_actor& worker) { return join(theirs, worker); },
      [this](const status_query& query) -> caf::result<cluster_status> {
        auto promise = self_->make_response_promise<cluster_status>();
        ask(self_, setup_.supervisor, status_timeout, query)
            .then([this, promise](
                      const cluster_status& known) mutable { promise.deliver(with_nodes(known)); },
                  [promise](const caf::error& why) mutable { promise.deliver(why); });
        return promise;
      },
  };
}

caf::result<welcome, supervisor_actor> directory::join(const hello& theirs,
                                                       const worker_actor& worker) {
  if (auto admitted = admit(setup_.ours, theirs, *setup_.config); !admitted) {
    DINFER_LOG_WARN("{}", admitted.error().message);
    return to_caf(admitted.error());
  }
  auto& place = members_[theirs.index];
  if (place.worker == worker)  // its answer was late and it asked again
    return {welcome{setup_.ours.node}, setup_.supervisor};
  if (place.worker) {
    watch_.forget(place.worker);
    tell(self_, place.worker,
         end_node{runtime::exit_cluster, "another process joined as node " + theirs.node});
    lose(theirs.index, "another process joined in its place");
  }
  place = {worker, theirs.build, {}};
  watch_.on_down(
      worker, [this, index = theirs.index](const caf::error& why) { lose(index, text_of(why)); });
  tell(self_, setup_.supervisor, node_joined{theirs.index, theirs.host, theirs.process}, worker);
  return {welcome{setup_.ours.node}, setup_.supervisor};
}

void directory::lose(std::size_t index, const std::string& why) {
  members_[index].worker = worker_actor{};
  members_[index].note = "lost: " + why;
  tell(self_, setup_.supervisor, node_lost{static_cast<std::uint32_t>(index), why});
}

cluster_status directory::with_nodes(cluster_status out) const {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const auto& node = setup_.config->nodes[i];
    node_line line;
    line.name = node.name;
    line.address = node.address + ":" + std::to_string(node.port);
    line.build = members_[i].build;
    line.devices = node.devices;
    line.alive = static_cast<bool>(members_[i].worker);
    line.note = members_[i].note;
    out.nodes.push_back(std::move(line));
  }
  return out;
}

}  // namespace dinfer::actors
