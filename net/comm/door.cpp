// SPDX-License-Identifier: Apache-2.0
// The watching thread and the room where proven connections wait.
#include "net/comm/door.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <span>

namespace dinfer::net {
namespace {

using std::chrono_literals::operator""ms;

static_assert(std::endian::native == std::endian::little, "greetings are little-endian");
constexpr std::size_t most_unproven = 64, most_proven = 1024;
constexpr auto time_to_prove = 800ms;

}  // namespace

// The name shows a part of the nonce only: names of local sockets are public on their host.
std::string local_name(const nonce& secret) { return "dinfer-" + hex(secret).substr(0, 12); }

result<std::unique_ptr<door>> door::open(const std::string& address, const nonce& secret,
                                         std::shared_ptr<const tls_identity> own) {
  DINFER_TRY(auto tcp, listen_tcp(address));
  DINFER_TRY(auto local, listen_local(local_name(secret)));
  descriptor stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return tl::unexpected(system_error_of("making an event descriptor"));
  return std::unique_ptr<door>(
      new door(std::move(tcp), std::move(local), std::move(stop), secret, std::move(own)));
}

door::door(listener tcp, descriptor local, descriptor stop, const nonce& secret,
           std::shared_ptr<const tls_identity> own)
    : tcp_(std::move(tcp)),
      local_(std::move(local)),
      stop_(std::move(stop)),
      secret_(secret),
      own_(std::move(own)),
      thread_([this] { watch(); }) {}

door::~door() {
  const std::uint64_t one = 1;
  if (write(stop_.get(), &one, sizeof one) == sizeof one) thread_.join();
  else thread_.detach();
}

void door::watch() {
  std::vector<pollfd> watched;
  for (;;) {
    watched.assign({{stop_.get(), POLLIN, 0}});
    for (const auto& one : visitors_) watched.push_back({one.socket.fd(), POLLIN, 0});
    // While too many are unproven, others wait in the kernel's short queue.
    const bool room = visitors_.size() < most_unproven;
    if (room) watched.push_back({tcp_.socket.get(), POLLIN, 0});
    if (room) watched.push_back({local_.get(), POLLIN, 0});
    if (poll(watched.data(), watched.size(), visitors_.empty() ? -1 : 100) < 0) continue;
    if (watched[0].revents != 0) return;
    const auto now = clock::now();
    std::erase_if(visitors_, [&](visitor& one) { return !listen_to(one) || now >= one.deadline; });
    if (!room) continue;
    if (watched[watched.size() - 2].revents != 0) let_in(tcp_.socket, own_);
    if (watched.back().revents != 0) let_in(local_, nullptr);
  }
}

void door::let_in(const descriptor& listening, std::shared_ptr<const tls_identity> own) {
  auto made = accept_one(listening);
  if (!made) return;
  auto over = stream::open(std::move(*made), std::move(own), tls_side::server);
  if (over) visitors_.push_back({std::move(*over), {}, 0, clock::now() + time_to_prove});
}

bool door::listen_to(visitor& from) {
  const auto proven = from.socket.shake_hands();
  if (!proven || !*proven) return proven.has_value();
  const auto to = std::as_writable_bytes(std::span(&from.said, 1)).subspan(from.got);
  const auto got = from.socket.read_some(to);
  if (!got) return false;
  from.got += *got;
  if (from.got < sizeof(greeting)) return true;
  if (from.said.mark == greeting{}.mark && same_nonce(from.said.secret, secret_)) admit(from);
  return false;
}

void door::admit(visitor& proven) {
  const std::lock_guard lock(mutex_);
  if (proven_.size() >= most_proven) proven_.pop_front();
  proven_.push_back({std::move(proven.socket), proven.said, 0, {}});
  arrived_.notify_all();
}

// The newest first: an older one is from an attempt that its dialler gave up.
result<stream> door::take(std::uint64_t meeting, std::uint32_t from, std::uint32_t lane,
                          wait_limit limit) {
  std::unique_lock lock(mutex_);
  stream found;
  const auto matches = [&](const visitor& one) {
    return one.said.meeting == meeting && one.said.from == from && one.said.lane == lane;
  };
  const auto came = [&] {
    const auto newest = std::find_if(proven_.rbegin(), proven_.rend(), matches);
    if (newest == proven_.rend()) return false;
    found = std::move(newest->socket);
    proven_.remove_if(matches);
    return true;
  };
  while (!arrived_.wait_until(lock, limit.next_look(), came))
    if (limit.given_up() || clock::now() >= limit.deadline)
      return tl::unexpected(limit.passed("it did not connect"));
  return found;
}

}  // namespace dinfer::net
