// SPDX-License-Identifier: Apache-2.0
// See devices.hpp.
#include "tests/sim/devices.hpp"

#include "runtime/schedule/step_codec.hpp"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

namespace dinfer::sim {

namespace {

constexpr usec least_step = millisecond, most_step = 12 * millisecond;
constexpr usec look_again = 20 * millisecond;  // at a partition of the devices' own wires
constexpr usec most_reset = 50 * millisecond;  // until a peer's closed connection is seen

// What a result says, whatever epoch it claims to be of.
std::uint64_t content_of(const runtime::step_result& result) {
  std::uint64_t h = 0;
  for (const auto& s : result.sequences) {
    h = packed(h, s.slot, s.tokens.size(), s.prompt.size());
    for (const auto& t : s.tokens) h = packed(h, static_cast<std::uint64_t>(t.token));
  }
  return h;
}

struct pending_step {
  usec begun = 0;
  runtime::step_id step = 0;
  std::optional<result<runtime::step_result>> done;  // of ranks that tell
  runtime::result_sink sink;
  bool complete = false;
};

}  // namespace

// The ranks that met in one connect().
struct device_group {
  explicit device_group(std::size_t ranks) : members(ranks, nullptr) {}
  struct arrival {
    std::size_t ranks = 0;
    usec ready = 0;
  };
  std::vector<device*> members;  // by rank; nullptr: not met yet, or gone
  std::map<runtime::step_id, arrival> steps;
  bool broken = false;
};

class device : public runtime::runner {
 public:
  device(device_room& room, std::unique_ptr<runtime::runner> fake, process_id owner,
         std::uint32_t node)
      : room_(room), fake_(std::move(fake)), owner_(owner), node_(node) {}
  ~device() override {
    *alive_ = false;
    leave();
    room_.by_card_.erase(card_);
  }

  result<void> load(const runtime::load_progress& progress) override {
    return fake_->load(progress);
  }
  result<runtime::cache_size> size_cache() override { return fake_->size_cache(); }
  result<std::string> card() override {
    room_.by_card_.erase(card_);
    card_ = "card " + std::to_string(++room_.cards_);
    room_.by_card_[card_] = this;
    return card_;
  }
  result<void> connect(std::span<const std::string> cards,
                       std::chrono::milliseconds deadline) override;
  result<void> start_cache(std::span<const std::uint32_t> blocks,
                           runtime::epoch_id epoch) override {
    return fake_->start_cache(blocks, epoch);
  }
  void execute(const runtime::step_plan& plan, const runtime::result_sink& sink) override;
  runtime::rank_report report() const override { return fake_->report(); }
  void abort() noexcept override {
    fake_->abort();
    stop({errc::cancelled, "the step was aborted", {}}, 100);
  }

  // The group has done it; it is told once no partition is between the members.
  void complete(runtime::step_id step);
  // What is under way ends with this error, told once, after a while.
  void stop(error why, usec delay);
  std::uint32_t node() const noexcept { return node_; }
  bool idle() const noexcept { return pending_.empty(); }

 private:
  // An event in this device's process while it lives and is in the same group.
  void soon(usec delay, std::function<void()> event) {
    room_.in_process_(owner_, delay, [alive = alive_, event = std::move(event)] {
      if (*alive) event();
    });
  }
  void leave();
  void watch();
  void arrive(runtime::step_id step, usec took);
  bool reaches_all() const;
  void hand_over();
  void tell(pending_step done);

  device_room& room_;
  std::unique_ptr<runtime::runner> fake_;
  process_id owner_;
  std::uint32_t node_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::string card_;
  std::shared_ptr<device_group> group_;
  std::uint64_t joined_ = 0;  // groups so far
  std::deque<pending_step> pending_;
  bool watched_ = false;  // an event will look at the oldest of them
  bool silent_ = true;    // an error was told: nothing more until connect()
  usec free_at_ = 0;
  std::map<runtime::step_id, runtime::step_result> before_, here_;  // results, for the planted bug
};

std::unique_ptr<runtime::runner> device_room::make(std::unique_ptr<runtime::runner> fake,
                                                   process_id owner, std::uint32_t node) {
  return std::make_unique<device>(*this, std::move(fake), owner, node);
}

bool device_room::idle() const {
  return std::all_of(by_card_.begin(), by_card_.end(),
                     [](const auto& entry) { return entry.second->idle(); });
}

bool device_room::computed(const runtime::step_result& result) const {
  return computed_.contains({{result.epoch, result.step}, content_of(result)});
}

// A real one waits for all members; here nobody can, so that those who will come are there already
// when their card is the newest of theirs.
result<void> device::connect(std::span<const std::string> cards,
                             std::chrono::milliseconds deadline) {
  leave();
  pending_.clear();
  silent_ = watched_ = false;
  std::string key;
  for (const auto& card : cards) {
    if (!room_.by_card_.contains(card)) return fail(errc::peer_lost, "a peer is gone");
    key += card + "\n";
  }
  auto& known = room_.groups_[key];
  group_ = known.lock();
  if (!group_) known = group_ = std::make_shared<device_group>(cards.size());
  const auto me = std::find(cards.begin(), cards.end(), card_) - cards.begin();
  group_->members[static_cast<std::size_t>(me)] = this;
  ++joined_;
  before_ = std::exchange(here_, {});
  return fake_->connect(cards, deadline);
}

// The others' connections to it close: most see it, some wait for their deadline.
void device::leave() {
  if (!group_) return;
  auto group = std::exchange(group_, nullptr);
  for (auto& member : group->members)
    if (member == this) member = nullptr;
  if (std::exchange(group->broken, true)) return;
  for (auto* member : group->members)
    if (member != nullptr && room_.world_.random.chance(70))
      member->stop({errc::peer_lost, "a peer closed its connection", {}},
                   room_.world_.random.between(0, most_reset));
}

void device::execute(const runtime::step_plan& plan, const runtime::result_sink& sink) {
  if (silent_ || !group_) return;
  auto& dice = room_.world_.random;
  const usec took = dice.between(least_step, most_step);
  pending_.push_back({room_.world_.now(), plan.step, std::nullopt, sink});
  auto& step = pending_.back();
  fake_->execute(plan, [&step](result<runtime::step_result> done) { step.done = std::move(done); });
  if (step.done && !*step.done) {
    const auto& why = step.done->error();
    if (why.code == errc::internal || why.code == errc::mismatch)
      room_.world_.broken("a shard cannot follow its plan: " + why.message);
    return stop(why, 0);
  }
  if (step.done) room_.computed_.insert({{plan.epoch, plan.step}, content_of(**step.done)});
  if (room_.fail_on_ == node_) {
    room_.fail_on_.reset();
    return stop({errc::device_lost, "the device broke", {}}, took);
  }
  watch();
  if (room_.hang_on_ == node_) return room_.hang_on_.reset();
  if (group_->broken)
    return stop({errc::peer_lost, "a peer closed its connection", {}}, dice.between(0, most_reset));
  arrive(plan.step, took);
}

// No step waits for its peers for longer than the collective's deadline.
void device::watch() {
  if (pending_.empty() || std::exchange(watched_, true)) return;
  const auto left = pending_.front().begun + room_.timeout_ - room_.world_.now();
  soon(std::max<usec>(0, left), [this, in = joined_] {
    if (in != joined_) return;
    watched_ = false;
    if (!pending_.empty() && pending_.front().begun + room_.timeout_ <= room_.world_.now())
      return stop({errc::timeout, "a peer did not come", {}}, 0);
    watch();
  });
}

void device::arrive(runtime::step_id step, usec took) {
  auto& world = room_.world_;
  free_at_ = std::max(free_at_, world.now()) + took;
  auto& at = group_->steps[step];
  at.ready = std::max(at.ready, free_at_);
  if (++at.ranks < group_->members.size()) return;
  const auto ready = at.ready;
  group_->steps.erase(step);
  for (auto* member : group_->members)
    if (member != nullptr)
      member->soon(ready - world.now(), [member, step] { member->complete(step); });
}

void device::complete(runtime::step_id step) {
  for (auto& pending : pending_)
    if (pending.step == step) pending.complete = true;
  hand_over();
}

bool device::reaches_all() const {
  return std::all_of(group_->members.begin(), group_->members.end(), [this](const device* other) {
    return other == nullptr ||
           (!room_.net_.blocked(other->node(), node_) && !room_.net_.blocked(node_, other->node()));
  });
}

void device::hand_over() {
  while (group_ && !pending_.empty() && pending_.front().complete) {
    if (!reaches_all())
      return soon(look_again, [this, in = joined_] {
        if (in == joined_) hand_over();
      });
    auto done = std::move(pending_.front());
    pending_.pop_front();
    if (done.done) tell(std::move(done));
  }
}

void device::tell(pending_step done) {
  auto& told = **done.done;
  if (room_.reuse_) {
    here_[done.step] = told;
    if (const auto old = before_.find(done.step); old != before_.end()) {
      told.sequences = old->second.sequences;
      room_.world_.note(packed(11, done.step), "step {} gives its result of the epoch before",
                        done.step);
    }
  }
  done.sink(std::move(*done.done));
}

void device::stop(error why, usec delay) {
  if (silent_ || pending_.empty()) return;
  soon(delay, [this, in = joined_, why = std::move(why)] {
    if (in != joined_ || silent_ || pending_.empty()) return;
    silent_ = true;
    const auto sink = pending_.front().sink;
    pending_.clear();
    room_.world_.note(packed(10, owner_), "a device of process {} fails: {}", owner_, why.message);
    sink(tl::unexpected(why));
  });
}

}  // namespace dinfer::sim
