// SPDX-License-Identifier: Apache-2.0
// The frames' state machine: every active writer and reader is moved as far as its lane allows,
// then the rank waits for its mesh, until nothing is active or the deadline passes.
#include "net/comm/exchange.hpp"

#include "kernels/device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace dinfer::net {
namespace {

using kernels::device_error;
using std::chrono_literals::operator""ms;

constexpr std::uint32_t frame_mark = 0x6d617266;
constexpr auto look_every = 20ms;  // how often a waiting rank looks whether its peers live
constexpr std::array<std::byte, 4096> zeros{};

const char* name(operation what) {
  constexpr std::array names{"reset",      "all_reduce", "all_gather", "reduce_scatter",
                             "all_to_all", "broadcast",  "message"};
  const auto at = static_cast<std::size_t>(what);
  return at < names.size() ? names[at] : "unknown operation";
}

bool same(const operation_tag& a, const operation_tag& b) {
  return a.what == b.what && a.type == b.type && a.root == b.root;
}

}  // namespace

exchange::exchange(std::unique_ptr<byte_mesh> mesh, std::string group,
                   std::vector<std::string> peers, std::chrono::milliseconds timeout)
    : mesh_(std::move(mesh)),
      group_(std::move(group)),
      peers_(std::move(peers)),
      timeout_(timeout),
      wishes_(static_cast<std::size_t>(lane_count * mesh_->size())) {
  for (auto& lane_writers : writers_) lane_writers.resize(static_cast<std::size_t>(size()));
  for (auto& lane_readers : readers_) lane_readers.resize(static_cast<std::size_t>(size()));
}

void exchange::begin(operation_tag tag) {
  check_usable();
  tag_ = tag;
}

void exchange::put(std::int32_t peer, const void* from, std::int64_t bytes) {
  start_write(lane::collective, peer, tag_, from, static_cast<std::uint64_t>(bytes));
}

void exchange::get(std::int32_t peer, void* to, std::int64_t bytes) {
  start_read(lane::collective, peer, tag_, to, static_cast<std::uint64_t>(bytes));
}

void exchange::finish() { run(name(tag_.what)); }

void exchange::meet(std::int64_t bytes) {
  const operation_tag tag{tag_.what, tag_.type, head_only};
  for (std::int32_t peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    start_write(lane::collective, peer, tag, nullptr, static_cast<std::uint64_t>(bytes));
    start_read(lane::collective, peer, tag, nullptr, static_cast<std::uint64_t>(bytes));
  }
  finish();
}

void exchange::send(std::int32_t peer, const void* from, std::int64_t bytes, kernels::dtype type) {
  check_usable();
  start_write(lane::pairwise, peer, {operation::message, type, 0}, from,
              static_cast<std::uint64_t>(bytes));
  run("send");
}

void exchange::recv(std::int32_t peer, void* to, std::int64_t bytes, kernels::dtype type) {
  check_usable();
  start_read(lane::pairwise, peer, {operation::message, type, 0}, to,
             static_cast<std::uint64_t>(bytes));
  run("recv");
}

void exchange::abort() noexcept {
  aborted_.store(true);
  mesh_->wake();
}

void exchange::start_write(lane on, std::int32_t peer, operation_tag tag, const void* from,
                           std::uint64_t bytes) {
  auto& w = writers_[static_cast<std::size_t>(on)][static_cast<std::size_t>(peer)];
  DINFER_ASSERT(!w.active);
  w.head = {frame_mark, epoch_, w.sequence++, tag, bytes};
  w.head_done = 0;
  w.body = static_cast<const std::byte*>(from);
  w.left = w.head.body();
  w.active = true;
}

void exchange::start_read(lane on, std::int32_t peer, operation_tag tag, void* to,
                          std::uint64_t bytes) {
  auto& r = readers_[static_cast<std::size_t>(on)][static_cast<std::size_t>(peer)];
  DINFER_ASSERT(!r.active);
  r.expected = {frame_mark, epoch_, r.sequence++, tag, bytes};
  r.head_got = 0;
  r.body = static_cast<std::byte*>(to);
  r.left = r.expected.body();
  r.active = true;
}

void exchange::run(const char* doing) {
  started_ = looked_ = clock::now();
  try {
    for (;;) {
      const auto ticket = mesh_->ticket();
      while (pump()) {
      }
      if (awaited() < 0) return;
      wait(ticket, doing);
    }
  } catch (const device_error&) {
    broken_ = true;
    throw;
  }
}

// Notes in wishes_ what is still to come. True when bytes moved.
bool exchange::pump() {
  bool moved = false;
  for (const auto on : {lane::collective, lane::pairwise}) {
    for (std::int32_t peer = 0; peer < size(); ++peer) {
      auto& w = writers_[static_cast<std::size_t>(on)][static_cast<std::size_t>(peer)];
      auto& r = readers_[static_cast<std::size_t>(on)][static_cast<std::size_t>(peer)];
      if (w.active) moved |= pump_write(on, peer, w);
      if (r.active) moved |= pump_read(on, peer, r);
      wishes_[index(on, peer)] =
          static_cast<std::uint8_t>((r.active ? wish_read : 0) | (w.active ? wish_write : 0));
    }
  }
  return moved;
}

bool exchange::pump_write(lane on, std::int32_t peer, writer& w) {
  const auto head = std::as_bytes(std::span(&w.head, 1)).subspan(w.head_done);
  const auto body = w.body != nullptr
                        ? std::span(w.body, w.left)
                        : std::span(zeros).first(std::min<std::uint64_t>(w.left, zeros.size()));
  const auto moved = mesh_->write_some(peer, on, head, body);
  const auto of_head = std::min(moved, head.size());
  w.head_done += of_head;
  w.left -= moved - of_head;
  if (w.body != nullptr) w.body += moved - of_head;
  w.active = w.head_done < sizeof(frame) || w.left > 0;
  if (!w.active && std::exchange(w.reset_next, false)) {
    w.head = {frame_mark, epoch_, 0, {}, 0};
    w.head_done = 0;
    w.active = true;
  }
  return moved > 0;
}

bool exchange::pump_read(lane on, std::int32_t peer, reader& r) {
  std::size_t moved = 0;
  if (r.head_got < sizeof(frame)) {
    const auto head = std::as_writable_bytes(std::span(&r.head, 1)).subspan(r.head_got);
    moved = mesh_->read_some(peer, on, head);
    r.head_got += moved;
    if (r.head_got < sizeof(frame)) return moved > 0;
    r.discarding ? check_reset_head(peer, r) : check_head(peer, r);
  }
  if (r.left > 0) {
    std::array<std::byte, 4096> dropped;
    const auto to = r.body != nullptr
                        ? std::span(r.body, r.left)
                        : std::span(dropped).first(std::min<std::uint64_t>(r.left, dropped.size()));
    const auto got = mesh_->read_some(peer, on, to);
    r.left -= got;
    if (r.body != nullptr) r.body += got;
    moved += got;
  }
  if (r.left == 0 && r.discarding) r.head_got = 0;  // to the next frame
  if (r.left == 0 && !r.discarding) r.active = false;
  return moved > 0;
}

void exchange::check_head(std::int32_t peer, reader& r) {
  if (r.head.mark != frame_mark) give_up(errc::device_lost, peer, "its byte stream is damaged");
  const bool fits = same(r.head.tag, r.expected.tag) && r.head.bytes == r.expected.bytes &&
                    r.head.sequence == r.expected.sequence && r.head.epoch == r.expected.epoch;
  if (fits) return;
  r.left = r.head.body();  // for reset(), which reads past it
  give_up(errc::mismatch, peer,
          fmt::format("ranks disagree: rank {} is at {}, {} at {}", rank(), describe(r.expected),
                      peer_name(peer), describe(r.head)));
}

// While resetting every frame is dropped until the peer's reset to our epoch.
void exchange::check_reset_head(std::int32_t peer, reader& r) {
  if (r.head.mark != frame_mark) give_up(errc::device_lost, peer, "its byte stream is damaged");
  r.left = r.head.body();
  if (r.head.tag.what != operation::reset || r.head.epoch < epoch_) return;
  if (r.head.epoch > epoch_)
    give_up(errc::mismatch, peer,
            fmt::format("{} is at epoch {} already, rank {} at {}", peer_name(peer), r.head.epoch,
                        rank(), epoch_));
  r.discarding = false;
}

void exchange::wait(std::uint32_t ticket, const char* doing) {
  if (aborted_.load()) give_up(errc::cancelled, -1, fmt::format("{} was aborted", doing));
  const auto now = clock::now();
  const auto peer = awaited();
  if (now >= started_ + timeout_) {
    const auto wish = wishes_[index(lane::collective, peer)] | wishes_[index(lane::pairwise, peer)];
    give_up(errc::timeout, peer,
            fmt::format("{}: {} did not {} within {} ms", doing, peer_name(peer),
                        (wish & wish_read) != 0 ? "send its part" : "take what was sent",
                        timeout_.count()));
  }
  if (now >= looked_ + look_every) look_for_losses(doing);
  mesh_->pause(ticket, wishes_, std::min(now + look_every, started_ + timeout_));
}

void exchange::look_for_losses(const char* doing) {
  looked_ = clock::now();
  for (std::int32_t other = 0; other < size(); ++other) {
    if ((wishes_[index(lane::collective, other)] | wishes_[index(lane::pairwise, other)]) == 0)
      continue;
    // What it wrote before it went is still ours.
    if (mesh_->gone(other) && !pump())
      give_up(errc::peer_lost, other, fmt::format("{}: {} is gone", doing, peer_name(other)));
  }
}

void exchange::reset(std::uint32_t epoch) {
  aborted_.store(false);
  broken_ = true;  // until the ranks have met
  epoch_ = epoch;
  for (std::size_t on = 0; on < lane_count; ++on)
    for (std::size_t peer = 0; peer < peers_.size(); ++peer)
      if (static_cast<std::int32_t>(peer) != rank())
        start_over(writers_[on][peer], readers_[on][peer]);
  run("reset");
  broken_ = false;
}

// A frame that was half written is filled up with zeros, then a reset frame follows; a frame that
// was half read is read to its end, then frames are dropped up to the peer's reset.
void exchange::start_over(writer& w, reader& r) {
  const bool begun = w.active && w.head_done > 0;
  if (!begun) w.head = {frame_mark, epoch_, 0, {}, 0}, w.head_done = 0, w.left = 0;
  w.body = nullptr;
  w.reset_next = begun;
  w.active = true;
  w.sequence = 0;
  if (!r.active) r.head_got = 0;
  if (r.head_got < sizeof(frame)) r.left = 0;
  r.body = nullptr;
  r.active = r.discarding = true;
  r.sequence = 0;
}

void exchange::check_usable() {
  if (aborted_.load()) give_up(errc::cancelled, -1, "aborted");
  if (broken_) give_up(errc::device_lost, -1, "an operation failed before; reset the group first");
}

std::size_t exchange::index(lane on, std::int32_t peer) const noexcept {
  return static_cast<std::size_t>(static_cast<std::int32_t>(on) * size() + peer);
}

// The lowest rank that something is still to come from or go to; -1: none.
std::int32_t exchange::awaited() const noexcept {
  for (std::int32_t peer = 0; peer < size(); ++peer)
    for (const auto on : {lane::collective, lane::pairwise})
      if (wishes_[index(on, peer)] != 0) return peer;
  return -1;
}

std::string exchange::peer_name(std::int32_t peer) const {
  return fmt::format("rank {} ({})", peer, peers_[static_cast<std::size_t>(peer)]);
}

std::string exchange::describe(const frame& head) const {
  const auto type = static_cast<std::size_t>(head.tag.type);
  return fmt::format(
      "{} number {} of {} bytes ({}, {}, epoch {})", name(head.tag.what), head.sequence, head.bytes,
      type < 10 ? kernels::info(head.tag.type).name : "unknown type",
      head.tag.root == head_only ? "in place" : fmt::format("root {}", head.tag.root), head.epoch);
}

void exchange::give_up(errc code, std::int32_t peer, const std::string& why) {
  broken_ = true;
  throw device_error(code, fmt::format("group {}: {}", group_, why), peer);
}

}  // namespace dinfer::net
