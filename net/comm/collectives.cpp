// SPDX-License-Identifier: Apache-2.0
// The algorithms. Small tensors are reduced by sending each rank everything (one round), large ones
// by reduce-scatter and all-gather (two rounds, 2 (n - 1) / n of the bytes; Thakur et al. 2005), by
// ranks of one process in each other's memory; every way sums every element in rank order.
#include "net/comm/collectives.hpp"

#include "kernels/device.hpp"
#include "net/comm/exchange.hpp"
#include "net/comm/lending.hpp"
#include "net/comm/sum.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace dinfer::net {
namespace {

using kernels::device_error;
using kernels::tensor;

// Above this the second round costs less than the bytes it saves.
constexpr std::int64_t direct_bytes = 64 << 10;
// Summed, then written to everyone while they lie in the first cache.
constexpr std::int64_t piece_bytes = 8 << 10;

std::byte* at(const tensor& of, std::int64_t offset) {
  return static_cast<std::byte*>(of.data) + offset;
}

void copy_bytes(void* to, const void* from, std::int64_t bytes) {
  if (to != from && bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
}

[[noreturn]] void refuse(const std::string& why) {
  throw device_error(errc::invalid_argument, why);
}

class mesh_communicator final : public kernels::communicator {
 public:
  mesh_communicator(std::unique_ptr<byte_mesh> mesh, const std::string& group,
                    std::vector<std::string> peers, std::chrono::milliseconds timeout)
      : exchange_(std::move(mesh), group, std::move(peers), timeout),
        sources_(static_cast<std::size_t>(exchange_.size())) {
    // Each rank starts with the one after it, so that no rank is everyone's first.
    for (std::int32_t i = 1; i < size(); ++i) others_.push_back((rank() + i) % size());
  }

  std::int32_t rank() const noexcept override { return exchange_.rank(); }
  std::int32_t size() const noexcept override { return exchange_.size(); }
  std::string_view wires() const noexcept override { return exchange_.wires(); }

  void all_reduce(tensor inout) override {
    check_summable(inout, "all_reduce");
    exchange_.begin({operation::all_reduce, inout.type, 0});
    const auto bytes = inout.bytes();
    if (bytes <= direct_bytes || inout.elements() < size()) return reduce_directly(inout);
    const bool done = together(inout, inout.data, [&](std::span<void* const> shown) {
      sum_shown(inout.type, segment(inout, rank()), shown);
    });
    if (!done) reduce_in_two_rounds(inout);
  }

  void all_gather(tensor in, tensor out) override {
    check_blocks(in.bytes(), out, "all_gather: out");
    exchange_.begin({operation::all_gather, in.type, 0});
    copy_bytes(at(out, rank() * in.bytes()), in.data, in.bytes());
    for (const auto peer : others_) {
      exchange_.put(peer, at(out, rank() * in.bytes()), in.bytes());
      exchange_.get(peer, at(out, peer * in.bytes()), in.bytes());
    }
    exchange_.finish();
  }

  void reduce_scatter(tensor in, tensor out) override {
    check_summable(in, "reduce_scatter");
    check_blocks(out.bytes(), in, "reduce_scatter: in");
    exchange_.begin({operation::reduce_scatter, in.type, 0});
    const auto bytes = out.bytes();
    reserve_parts(bytes);
    for (const auto peer : others_) {
      exchange_.put(peer, at(in, peer * bytes), bytes);
      exchange_.get(peer, part(peer, bytes), bytes);
    }
    exchange_.finish();
    sum_parts(in.type, at(in, rank() * bytes), out.data, bytes);
  }

  void all_to_all(tensor in, tensor out) override {
    if (in.bytes() != out.bytes() || in.bytes() % size() != 0)
      refuse(fmt::format("all_to_all: {} bytes in, {} out; both must be {} equal blocks",
                         in.bytes(), out.bytes(), size()));
    exchange_.begin({operation::all_to_all, in.type, 0});
    const auto bytes = in.bytes() / size();
    copy_bytes(at(out, rank() * bytes), at(in, rank() * bytes), bytes);
    for (const auto peer : others_) {
      exchange_.put(peer, at(in, peer * bytes), bytes);
      exchange_.get(peer, at(out, peer * bytes), bytes);
    }
    exchange_.finish();
  }

  void broadcast(tensor inout, std::int32_t root) override {
    check_peer(root, "broadcast");
    exchange_.begin({operation::broadcast, inout.type, static_cast<std::uint16_t>(root)});
    if (root == rank())
      for (const auto peer : others_) exchange_.put(peer, inout.data, inout.bytes());
    else exchange_.get(root, inout.data, inout.bytes());
    exchange_.finish();
  }

  void send(tensor in, std::int32_t peer) override {
    check_other(peer, "send");
    exchange_.send(peer, in.data, in.bytes(), in.type);
  }

  void recv(tensor out, std::int32_t peer) override {
    check_other(peer, "recv");
    exchange_.recv(peer, out.data, out.bytes(), out.type);
  }

  bool together(tensor what, void* mine,
                const std::function<void(std::span<void* const>)>& body) override {
    if (exchange_.loans() == nullptr) return false;
    auto& loans = *exchange_.loans();
    exchange_.begin({operation::all_reduce, what.type, 0});
    const lending::loan shown(loans, rank(), mine);
    exchange_.meet(what.bytes());
    see_all(loans, body);
    exchange_.meet(what.bytes());
    return true;
  }

  void abort() noexcept override { exchange_.abort(); }
  void reset(std::uint32_t epoch) override { exchange_.reset(epoch); }

 private:
  struct byte_range {
    std::int64_t begin, bytes;
  };

  // Rank `of`'s share of a tensor that is reduced in two rounds.
  byte_range segment(const tensor& whole, std::int32_t of) const {
    const auto width = kernels::info(whole.type).block_bytes;
    const auto begin = whole.elements() * of / size();
    const auto end = whole.elements() * (of + 1) / size();
    return {begin * width, (end - begin) * width};
  }

  void reduce_directly(const tensor& inout) {
    const auto bytes = inout.bytes();
    reserve_parts(bytes);
    for (const auto peer : others_) {
      exchange_.put(peer, inout.data, bytes);
      exchange_.get(peer, part(peer, bytes), bytes);
    }
    exchange_.finish();
    sum_parts(inout.type, inout.data, inout.data, bytes);
  }

  void reduce_in_two_rounds(const tensor& inout) {
    const auto own = segment(inout, rank());
    reserve_parts(own.bytes);
    for (const auto peer : others_) {
      const auto theirs = segment(inout, peer);
      exchange_.put(peer, at(inout, theirs.begin), theirs.bytes);
      exchange_.get(peer, part(peer, own.bytes), own.bytes);
    }
    exchange_.finish();
    sum_parts(inout.type, at(inout, own.begin), at(inout, own.begin), own.bytes);
    for (const auto peer : others_) {
      const auto theirs = segment(inout, peer);
      exchange_.put(peer, at(inout, own.begin), own.bytes);
      exchange_.get(peer, at(inout, theirs.begin), theirs.bytes);
    }
    exchange_.finish();
  }

  void see_all(lending& loans, const std::function<void(std::span<void* const>)>& body) {
    const lending::view shown(loans);
    if (const auto peer = shown.missing(); peer >= 0)
      exchange_.give_up(errc::peer_lost, peer,
                        fmt::format("all_reduce: {} gave up", exchange_.peer_name(peer)));
    shown_.clear();
    for (std::int32_t from = 0; from < size(); ++from) shown_.push_back(shown.of(from));
    body(shown_);
  }

  // Sums a part of the tensors that all ranks show, and writes it into every one.
  void sum_shown(kernels::dtype type, byte_range part, std::span<void* const> shown) {
    const auto at = [&](std::int32_t of, std::int64_t offset) {
      return static_cast<std::byte*>(shown[static_cast<std::size_t>(of)]) + offset;
    };
    for (std::int64_t done = 0; done < part.bytes; done += piece_bytes) {
      const auto begin = part.begin + done;
      const auto bytes = std::min(piece_bytes, part.bytes - done);
      for (std::int32_t from = 0; from < size(); ++from)
        sources_[static_cast<std::size_t>(from)] = at(from, begin);
      auto* const own = at(rank(), begin);
      sum_in_order(type, sources_, own, bytes / kernels::info(type).block_bytes);
      for (const auto peer : others_) copy_bytes(at(peer, begin), own, bytes);
    }
  }

  // What peers sent of `bytes` each; memory grows to the largest tensor seen and stays.
  void reserve_parts(std::int64_t bytes) {
    const auto all = static_cast<std::size_t>(bytes * size());
    if (scratch_.size() < all) scratch_.resize(all);
  }
  std::byte* part(std::int32_t peer, std::int64_t bytes) { return scratch_.data() + peer * bytes; }

  void sum_parts(kernels::dtype type, const void* own, void* out, std::int64_t bytes) {
    for (std::int32_t from = 0; from < size(); ++from)
      sources_[static_cast<std::size_t>(from)] = from == rank() ? own : part(from, bytes);
    sum_in_order(type, sources_, out, bytes / kernels::info(type).block_bytes);
  }

  void check_blocks(std::int64_t block, const tensor& whole, const char* what) const {
    if (whole.bytes() != block * size())
      refuse(fmt::format("{} has {} bytes; {} ranks x {} bytes are needed", what, whole.bytes(),
                         size(), block));
  }
  void check_peer(std::int32_t peer, const char* what) const {
    if (peer < 0 || peer >= size())
      refuse(fmt::format("{}: rank {} of a group of {}", what, peer, size()));
  }
  void check_other(std::int32_t peer, const char* what) const {
    check_peer(peer, what);
    if (peer == rank()) refuse(fmt::format("{}: rank {} is this rank", what, peer));
  }
  static void check_summable(const tensor& of, const char* what) {
    if (!summable(of.type))
      refuse(fmt::format("{} of {}: only f32, bf16 and f16 are summed", what,
                         kernels::info(of.type).name));
  }

  exchange exchange_;
  std::vector<std::int32_t> others_;
  std::vector<std::byte> scratch_;
  std::vector<const void*> sources_;  // in rank order
  std::vector<void*> shown_;          // likewise
};

}  // namespace

std::unique_ptr<kernels::communicator> make_communicator(std::unique_ptr<byte_mesh> mesh,
                                                         const std::string& group,
                                                         std::vector<std::string> peers,
                                                         std::chrono::milliseconds timeout) {
  return std::make_unique<mesh_communicator>(std::move(mesh), group, std::move(peers), timeout);
}

}  // namespace dinfer::net
