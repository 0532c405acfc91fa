// SPDX-License-Identifier: Apache-2.0
// Meetings in one process, over sockets, and the handing round of shared memory.
#include "net/comm/meeting.hpp"

#include "net/comm/ring_mesh.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

namespace dinfer::net {
namespace {

tl::unexpected<error> without(const meeting& of, std::int32_t member, const error& why) {
  return fail(why.code, fmt::format("group {}: rank {} did not meet {}: {}", of.group, of.index,
                                    member_name(of, member), why.message));
}

// Groups of this process that some, but not all members have come to.
struct waiting_room {
  struct table {
    common_room shared;
    std::vector<bool> here;
    std::int32_t count = 0;
    std::int32_t missing = -1;  // who was waited for in vain
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint64_t, std::shared_ptr<table>> tables;
};

waiting_room& room() {
  static waiting_room one;
  return one;
}

result<stream> dial(const meeting& of, std::int32_t member, std::int32_t lane, wire_kind kind) {
  const auto& to = of.members[static_cast<std::size_t>(member)];
  auto made = kind == wire_kind::tcp ? connect_tcp(to.address, to.port, of.limit)
                                     : connect_local(local_name(to.secret), of.limit);
  if (!made) return tl::unexpected(made.error());
  DINFER_TRY(auto over, stream::open(std::move(*made), kind == wire_kind::tcp ? of.own : nullptr,
                                     tls_side::client));
  DINFER_CHECK(over.shake_hands(of.limit));
  greeting hello;
  hello.secret = to.secret;
  hello.meeting = of.key();
  hello.from = static_cast<std::uint32_t>(of.index);
  hello.lane = static_cast<std::uint32_t>(lane);
  DINFER_CHECK(over.write_all(&hello, sizeof hello, of.limit));
  return over;
}

// The dialled one answers with the dialler's nonce once it is at the meeting; the dialler confirms.
result<void> confirm_dialled(const meeting& of, stream& to) {
  greeting answer;
  DINFER_CHECK(to.read_all(&answer, sizeof answer, of.limit));
  const auto& own = of.members[static_cast<std::size_t>(of.index)];
  if (answer.mark != greeting{}.mark || !same_nonce(answer.secret, own.secret))
    return fail(errc::mismatch, "it answered without our card");
  return to.write_all("c", 1, of.limit);
}

result<stream> receive(const meeting& of, door& own, std::int32_t member, std::int32_t lane) {
  greeting answer;
  answer.secret = of.members[static_cast<std::size_t>(member)].secret;
  for (;;) {
    DINFER_TRY(auto from, own.take(of.key(), static_cast<std::uint32_t>(member),
                                   static_cast<std::uint32_t>(lane), of.limit));
    char confirmation = 0;
    auto met = from.write_all(&answer, sizeof answer, of.limit);
    if (met) met = from.read_all(&confirmation, 1, of.limit);
    if (met) return from;
    // A connection that its dialler gave up; it may dial again before the deadline.
    if (met.error().code != errc::peer_lost) return tl::unexpected(met.error());
  }
}

// Others may stay, and meet whoever comes again. Under the room's mutex.
tl::unexpected<error> leave(const meeting& of, waiting_room::table& from) {
  from.here[static_cast<std::size_t>(of.index)] = false;
  --from.count;
  const auto kept = room().tables.find(of.key());
  if (from.count == 0 && kept != room().tables.end() && kept->second.get() == &from)
    room().tables.erase(kept);
  return tl::unexpected(of.limit.passed({}));
}

}  // namespace

std::string member_place(const card& member) {
  const auto place = fmt::format("{}:{}", member.address, member.port);
  return member.name.empty() ? place : fmt::format("{} at {}", member.name, place);
}

std::string member_name(const meeting& of, std::int32_t member) {
  return fmt::format("rank {} ({})", member,
                     member_place(of.members[static_cast<std::size_t>(member)]));
}

result<common_room> meet_in_process(const meeting& of) {
  const auto index = static_cast<std::size_t>(of.index);
  std::unique_lock lock(room().mutex);
  auto& place = room().tables[of.key()];
  if (!place || place->here[index]) {  // the second: an attempt that was given up
    DINFER_TRY(auto memory, shared_memory::make(ring_mesh_bytes(of.size())));
    place = std::make_shared<waiting_room::table>();
    place->shared = {std::move(memory), std::make_shared<lending>(of.size())};
    place->here.resize(of.members.size());
  }
  const auto table = place;
  table->here[index] = true;
  ++table->count;
  const auto complete = [&] { return table->count == of.size(); };
  if (complete()) room().tables.erase(of.key());
  room().changed.notify_all();
  const auto decided = [&] { return complete() || table->missing >= 0; };
  while (!room().changed.wait_until(lock, of.limit.next_look(), decided) && !of.limit.given_up() &&
         clock::now() < of.limit.deadline) {
  }
  if (complete()) return table->shared;
  if (of.limit.given_up()) return leave(of, *table);
  if (table->missing < 0) {  // the first to give up says for whom, and all do
    const auto absent = std::find(table->here.begin(), table->here.end(), false);
    table->missing = static_cast<std::int32_t>(absent - table->here.begin());
    if (const auto kept = room().tables.find(of.key());
        kept != room().tables.end() && kept->second == table)
      room().tables.erase(kept);
    room().changed.notify_all();
  }
  return without(of, table->missing, {errc::timeout, "it did not come", {}});
}

result<peer_sockets> meet_by_socket(const meeting& of, door& own, wire_kind kind,
                                    std::int32_t lanes) {
  peer_sockets out;
  for (std::int32_t lane = 0; lane < lanes; ++lane) {
    auto& sockets = out[static_cast<std::size_t>(lane)];
    sockets.resize(of.members.size());
    for (std::int32_t member = 0; member < of.index; ++member) {
      auto made = dial(of, member, lane, kind);
      if (!made) return without(of, member, made.error());
      sockets[static_cast<std::size_t>(member)] = std::move(*made);
    }
  }
  for (std::int32_t member = 0; member < of.size(); ++member) {
    for (std::int32_t lane = 0; lane < lanes; ++lane) {
      auto& socket = out[static_cast<std::size_t>(lane)][static_cast<std::size_t>(member)];
      if (member < of.index) {
        auto met = confirm_dialled(of, socket);
        if (!met) return without(of, member, met.error());
      } else if (member > of.index) {
        auto met = receive(of, own, member, lane);
        if (!met) return without(of, member, met.error());
        socket = std::move(*met);
      }
    }
  }
  return out;
}

result<std::shared_ptr<shared_memory>> share_memory(const meeting& of, const peer_sockets& sockets,
                                                    std::size_t bytes) {
  if (of.index != 0) {
    auto file = receive_descriptor(sockets[0][0].fd(), of.limit);
    if (!file) return without(of, 0, file.error());
    return shared_memory::map(std::move(*file), bytes);
  }
  DINFER_TRY(auto memory, shared_memory::make(bytes));
  for (std::int32_t member = 1; member < of.size(); ++member) {
    auto passed = pass_descriptor(sockets[0][static_cast<std::size_t>(member)].fd(), memory->file(),
                                  of.limit);
    if (!passed) return without(of, member, passed.error());
  }
  return memory;
}

}  // namespace dinfer::net
