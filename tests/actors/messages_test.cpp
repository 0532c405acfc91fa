// SPDX-License-Identifier: Apache-2.0
// Every message type crosses CAF's binary format unchanged and is registered under its own name.
#include "actors/interfaces.hpp"
#include "actors/system.hpp"
#include "actors/wire.hpp"
#include "tests/support/catch.hpp"

#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace dinfer::actors {
namespace {

// Fills a message's fields from a seeded generator, and compares two messages field by field.
class filler {
 public:
  explicit filler(std::uint32_t seed) : engine_(seed) {}

  void fill(std::string& x) {
    x.clear();
    for (auto n = engine_() % 40; n > 0; --n) x.push_back(static_cast<char>(engine_() % 256));
  }
  template <class T>
  requires std::is_integral_v<T>
  void fill(T& x) { x = static_cast<T>(std::uniform_int_distribution<std::uint64_t>()(engine_)); }
  void fill(bool& x) { x = engine_() % 2 == 0; }
  template <class T>
  void fill(std::vector<T>& x) {
    x.resize(engine_() % 6);
    for (auto& e : x) fill(e);
  }
  template <wire_message T>
  void fill(T& x) {
    T::fields(x, [this](const char*, auto... members) {
      (fill(members.value), ...);
      return 0;
    });
  }

 private:
  std::mt19937 engine_;
};

template <wire_message T>
bool same(const T& a, const T& b);
template <class T>
bool same(const T& a, const T& b) {
  return a == b;
}
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i])) return false;
  return true;
}
template <wire_message T>
bool same(const T& a, const T& b) {
  return T::fields(a, [&](const char*, auto... mine) {
    return T::fields(
        b, [&](const char*, auto... theirs) { return (same(mine.value, theirs.value) && ...); });
  });
}

template <class T>
void round_trip(caf::actor_system& system) {
  INFO(caf::type_name<T>::value);
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    T before;
    filler(seed).fill(before);
    std::vector<char> bytes;
    caf::binary_serializer sink{system, bytes};
    auto wrapped = caf::make_message(before);  // as it travels: with its registered type
    REQUIRE(!sink(wrapped));
    caf::message after;
    caf::binary_deserializer source{system, bytes};
    REQUIRE(!source(after));
    REQUIRE(after.match_elements<T>());
    REQUIRE(same(before, after.get_as<T>(0)));
  }
}

template <class... Ts>
void round_trips(caf::actor_system& system) {
  (round_trip<Ts>(system), ...);
}

}  // namespace

TEST_CASE("every message crosses the wire unchanged") {
  system_config config({.health = {}, .protocol = 1, .network = false, .deterministic = true});
  caf::actor_system system{config};
  round_trips<hello, welcome, node_joined, node_lost, child_ended, dial, probe, shard_order,
              stage_order, drop_shards, abort_shards, progress_query, progress_report, end_node,
              end_child, drain_cluster, status_query, cluster_status, show_cluster, join_now,
              form_tick>(system);
  round_trips<load_shard, shard_loaded, size_cache, cache_offer, open_card, shard_card,
              connect_shard, start_cache, shard_ready, load_progress, shard_failed>(system);
  round_trips<run_step, step_done, submit, cancel, token_batch, engine_pulse, pulse_tick, plan_tick,
              engine_notice, engine_ready, add_gateway, fail_engine, interrupt_engine,
              resume_engine, resume_tick, step_overdue, drain_engine, drained>(system);
}

TEST_CASE("an error keeps code, text and subject as a CAF error, across the wire too") {
  system_config config({.health = {}, .protocol = 1, .network = false, .deterministic = true});
  caf::actor_system system{config};
  for (std::uint8_t code = 1; code <= static_cast<std::uint8_t>(errc::internal); ++code) {
    const error before{static_cast<errc>(code), "what and where", "key"};
    auto crossing = to_caf(before);
    std::vector<char> bytes;
    caf::binary_serializer sink{system, bytes};
    REQUIRE(!sink(crossing));
    caf::error after;
    caf::binary_deserializer source{system, bytes};
    REQUIRE(!source(after));
    CHECK(from_caf(after).code == before.code);
    CHECK(from_caf(after).message == before.message);
    CHECK(from_caf(after).subject == before.subject);
  }
}

TEST_CASE("what CAF reports becomes an error of ours") {
  CHECK(from_caf(caf::make_error(caf::sec::request_timeout)).code == errc::timeout);
  CHECK(from_caf(caf::make_error(caf::sec::request_receiver_down)).code == errc::peer_lost);
  CHECK(from_caf(caf::make_error(caf::sec::incompatible_application_ids)).code == errc::mismatch);
  CHECK(from_caf(caf::make_error(caf::exit_reason::remote_link_unreachable)).code ==
        errc::peer_lost);
  CHECK(from_caf(caf::error{}).code == errc::none);
  const caf::error unknown{200, caf::atom("dinfer"), caf::make_message(std::string("x"))};
  CHECK(from_caf(unknown).code == errc::internal);
}

}  // namespace dinfer::actors
