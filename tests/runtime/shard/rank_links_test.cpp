// SPDX-License-Identifier: Apache-2.0
// Ranks find each other by their cards, through their hosts or through groups of their devices; a
// missing one has a name.
#include "runtime/shard/rank_links.hpp"

#include "net/comm/transport.hpp"
#include "runtime/shard/rank_card.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/thread_group.hpp"

#include <map>
#include <thread>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

namespace {

// A CPU that founds groups of its own, as a GPU does.
class grouping_device final : public kernels::device {
 public:
  // Groups by name, of all devices of a test.
  struct meeting_place {
    std::mutex mutex;
    std::map<std::string, std::shared_ptr<thread_group>> groups;
    int named = 0;
    std::vector<std::string> joined;
  };

  explicit grouping_device(meeting_place& place) : place_(&place) {
    auto opened = kernels::open_device("cpu:0", {});
    REQUIRE(opened);
    cpu_ = std::move(*opened);
  }

  const kernels::device_traits& traits() const noexcept override { return cpu_->traits(); }
  kernels::buffer allocate(std::size_t bytes, bool zeroed) override {
    return cpu_->allocate(bytes, zeroed);
  }
  kernels::buffer allocate_host(std::size_t bytes) override { return cpu_->allocate_host(bytes); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    cpu_->upload(to, from, bytes);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    cpu_->download(to, from, bytes);
  }
  void upload_async(void* to, const void* from, std::size_t bytes) override {
    cpu_->upload_async(to, from, bytes);
  }
  void download_async(void* to, const void* from, std::size_t bytes) override {
    cpu_->download_async(to, from, bytes);
  }
  std::unique_ptr<kernels::event> make_event() override { return cpu_->make_event(); }
  void synchronize() override { cpu_->synchronize(); }
  kernels::ops& ops() noexcept override { return cpu_->ops(); }

  std::string make_group_id() override {
    const std::lock_guard lock(place_->mutex);
    return std::string("id\0\xff", 4) + std::to_string(place_->named++);
  }
  std::unique_ptr<kernels::communicator> join_group(const kernels::group_place& at) override {
    const std::lock_guard lock(place_->mutex);
    auto& group = place_->groups[at.id];
    if (!group) group = std::make_shared<thread_group>(at.size);
    place_->joined.push_back(at.id);
    return std::make_unique<thread_communicator>(group, at.rank);
  }

 private:
  void release(void*, std::size_t, kernels::memory_kind) noexcept override {}
  meeting_place* place_;
  std::unique_ptr<kernels::device> cpu_;
};

// All ranks of a grid of stages x tp, each with its links.
struct grid {
  grid(std::int32_t stages, std::int32_t tp, bool grouping,
       transport_choice choice = transport_choice::automatic) {
    for (std::int32_t rank = 0; rank < stages * tp; ++rank) {
      rank_layout layout;
      layout.rank = rank;
      layout.stage = rank / tp, layout.stages = stages;
      layout.tp_rank = rank % tp, layout.tp_size = tp;
      net::cpu_transport_options wires;
      wires.name = "n/dev:" + std::to_string(rank);
      wires.timeout = 2s;
      wires.choice = choice;
      if (grouping) {
        devices.push_back(std::make_unique<grouping_device>(place));
      } else {
        auto opened = kernels::open_device("cpu:0", {});
        REQUIRE(opened);
        devices.push_back(std::move(*opened));
      }
      links.push_back(std::make_unique<rank_links>(*devices.back(), layout,
                                                   net::make_cpu_transport(wires), 2s));
    }
  }
  std::vector<std::string> cards() {
    std::vector<std::string> all;
    for (auto& one : links) {
      auto card = one->card();
      REQUIRE(card);
      all.push_back(*card);
    }
    return all;
  }
  // What each of the first `ranks` says to `work`; an empty string is success.
  std::vector<std::string> everywhere(std::size_t ranks,
                                      const std::function<result<void>(rank_links&)>& work) {
    std::vector<std::string> said(ranks);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < ranks; ++i)
      threads.emplace_back([&, i] {
        try {
          if (auto done = work(*links[i]); !done) said[i] = done.error().message;
        } catch (const kernels::device_error& e) {
          said[i] = links[i]->located(e).message;
        }
      });
    for (auto& t : threads) t.join();
    return said;
  }

  grouping_device::meeting_place place;
  std::vector<std::unique_ptr<kernels::device>> devices;
  std::vector<std::unique_ptr<rank_links>> links;
};

// Sums over the stage, hidden states down the pipe, tokens back up.
result<void> talk(rank_links& l, std::int32_t rank, std::int32_t stages, std::int32_t tp) {
  float sum = static_cast<float>(rank);
  float expected = 0;
  for (std::int32_t i = 0; i < tp; ++i) expected += static_cast<float>(rank / tp * tp + i);
  if (tp > 1) l.tp()->all_reduce(kernels::view(&sum, kernels::dtype::f32, 1));
  if (sum != expected) return fail(errc::internal, "a wrong sum");
  if (!l.piped()) return {};
  float hidden = 100.0F + static_cast<float>(rank % tp);
  token_id token = 7 + rank % tp;
  const auto state = kernels::view(&hidden, kernels::dtype::f32, 1);
  const auto tokens = kernels::view(&token, kernels::dtype::i32, 1);
  const std::int32_t stage = rank / tp;
  if (stage > 0) hidden = 0, l.take_hidden(state);
  if (hidden != 100.0F + static_cast<float>(rank % tp)) return fail(errc::internal, "wrong state");
  if (stage + 1 < stages) l.send_hidden(state);
  if (stage + 1 == stages) l.return_tokens(tokens);
  if (stage == 0) token = 0, l.take_tokens(tokens);
  if (token != 7 + rank % tp) return fail(errc::internal, "a wrong token");
  return {};
}

}  // namespace

TEST_CASE("a rank's card says what it was made of, and refuses anything else", "[shard]") {
  const std::string bytes("\0\n\xff z", 5);
  const auto text = write_rank_card({bytes, "", "host\ncard\n"});
  const auto read = read_rank_card(text);
  REQUIRE(read);
  CHECK(read->stage_group == bytes);
  CHECK(read->lane_group.empty());
  CHECK(read->host == "host\ncard\n");
  const rank_card largest{std::string(128, 'x'), std::string(128, 'y'), std::string(400, 'z')};
  CHECK(read_rank_card(write_rank_card(largest)));
  CHECK_FALSE(read_rank_card(write_rank_card({std::string(129, 'x'), "", ""})));
  CHECK_FALSE(read_rank_card(""));
  CHECK_FALSE(read_rank_card("dinfer-rank 2\n\n\n"));
  CHECK_FALSE(read_rank_card("dinfer-rank 1\nabc\n\n"));
  CHECK_FALSE(read_rank_card("dinfer-rank 1\nzz\n\n"));
  CHECK_FALSE(read_rank_card(text.substr(0, 15)));
  CHECK_FALSE(read_rank_card(text + std::string(1024, 'x')));
}

TEST_CASE("ranks talk in their stage, down the pipe and back up", "[shard]") {
  struct sizes {
    std::int32_t stages, tp;
  };
  const auto s = GENERATE(sizes{1, 1}, sizes{1, 3}, sizes{2, 1}, sizes{3, 1}, sizes{2, 2});
  const bool grouping = GENERATE(false, true);
  CAPTURE(s.stages, s.tp, grouping);
  const auto all = static_cast<std::size_t>(s.stages * s.tp);
  grid g(s.stages, s.tp, grouping);
  for (std::uint32_t round = 1; round <= 2; ++round) {  // the second on new connections
    const auto cards = g.cards();
    for (const auto& card : cards) CHECK(card.size() <= most_card_bytes);
    const auto said = g.everywhere(all, [&](rank_links& l) -> result<void> {
      DINFER_CHECK(l.join(cards, 5s));
      std::size_t rank = 0;
      while (g.links[rank].get() != &l) ++rank;
      for (std::uint32_t epoch = 1; epoch <= 3; ++epoch) {
        DINFER_CHECK(talk(l, static_cast<std::int32_t>(rank), s.stages, s.tp));
        l.reset(epoch);
      }
      return {};
    });
    CHECK(said == std::vector<std::string>(all));
  }
  // Each stage and each lane has a group; new cards name new ones.
  const auto groups =
      static_cast<std::size_t>((s.tp > 1 ? s.stages : 0) + (s.stages > 1 ? s.tp : 0));
  CHECK(g.place.groups.size() == (grouping ? 2 * groups : 0));
}

TEST_CASE("a rank that stays away is named before devices are asked", "[shard]") {
  const bool grouping = GENERATE(false, true);
  const bool piped = GENERATE(false, true);
  grid g(piped ? 2 : 1, piped ? 1 : 2, grouping);
  const auto cards = g.cards();
  const auto said = g.everywhere(1, [&](rank_links& l) { return l.join(cards, 300ms); });
  CHECK_THAT(said[0], Catch::Contains("rank 1 (n/dev:1 at 127.0.0.1:"));
  CHECK(g.place.joined.empty());
}

TEST_CASE("an abort wakes whoever waits, and new connections serve again", "[shard]") {
  const bool grouping = GENERATE(false, true);
  grid g(2, 1, grouping);
  auto cards = g.cards();
  const auto join = [&](rank_links& l) { return l.join(cards, 5s); };
  CHECK(g.everywhere(2, join) == std::vector<std::string>(2));
  bool cancelled = false;
  std::thread waiter([&] {
    token_id token = 0;
    try {
      g.links[0]->take_tokens(kernels::view(&token, kernels::dtype::i32, 1));
    } catch (const kernels::device_error& e) {
      cancelled = e.code() == errc::cancelled;
    }
  });
  CHECK_NOTHROW(g.links[0]->check());
  g.links[0]->abort();
  waiter.join();
  CHECK(cancelled);
  CHECK_THROWS_AS(g.links[0]->check(), kernels::device_error);
  cards = g.cards();
  CHECK(g.everywhere(2, join) == std::vector<std::string>(2));
  CHECK_NOTHROW(g.links[0]->check());
}

TEST_CASE("an abort ends joining at once, and all may join anew", "[shard]") {
  const auto choice =
      GENERATE(transport_choice::automatic, transport_choice::shared_memory, transport_choice::tcp);
  const std::size_t here = GENERATE(0U, 1U);  // the other one does not come
  const auto pause = GENERATE(0ms, 60ms);     // before joining waits, and while it does
  grid g(1, 2, false, choice);
  auto cards = g.cards();
  errc code = errc::none;
  const auto begin = std::chrono::steady_clock::now();
  std::thread waiter([&] {
    if (const auto joined = g.links[here]->join(cards, 60s); !joined) code = joined.error().code;
  });
  std::this_thread::sleep_for(pause);
  g.links[here]->abort();
  waiter.join();
  CHECK(code == errc::cancelled);
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
  cards = g.cards();
  const auto join = [&](rank_links& l) { return l.join(cards, 5s); };
  CHECK(g.everywhere(2, join) == std::vector<std::string>(2));
}

TEST_CASE("a card of another build is refused", "[shard]") {
  grid g(1, 2, true);
  auto cards = g.cards();
  cards[1] = "dinfer-rank 9\n\n\n";
  const auto joined = g.links[0]->join(cards, 100ms);
  REQUIRE_FALSE(joined);
  CHECK(joined.error().code == errc::mismatch);
}
