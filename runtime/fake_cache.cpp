// SPDX-License-Identifier: Apache-2.0
// The pretended KV cache: cells with the chain over all tokens up to them.
#include "runtime/fake_cache.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace dinfer::runtime {

std::uint64_t fake_chain(std::uint64_t chain, token_id token) noexcept {
  std::uint64_t h = (chain ^ static_cast<std::uint32_t>(token)) + 0x9e3779b97f4a7c15ULL;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ULL;  // the finaliser of SplitMix64 (Steele et al. 2014)
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebULL;
  return h ^ (h >> 31);
}

fake_cache::fake_cache(std::uint32_t block_size, std::uint32_t blocks, std::uint32_t window)
    : block_size_(block_size), window_(window), blocks_(std::size_t{blocks} + 1) {
  for (block_state& b : blocks_) b.cells.resize(block_size);
}

result<void> fake_cache::append(fake_table& t, const std::vector<block_id>& more) {
  for (const block_id b : more) {
    if (b < 0 || static_cast<std::size_t>(b) >= blocks_.size())
      return fail(errc::internal, fmt::format("slot {} was given block {}, which the pool of {} "
                                              "does not have",
                                              t.slot, b, blocks_.size() - 1));
    t.blocks.push_back(b);
    if (b != 0) ++blocks_[static_cast<std::size_t>(b)].holders;
  }
  return {};
}

void fake_cache::give_up(fake_table& t, std::size_t index) {
  if (t.blocks[index] == 0) return;
  block_state& b = blocks_[static_cast<std::size_t>(t.blocks[index])];
  --b.holders;
  if (b.writer == t.slot) b.writer = nobody;
}

void fake_cache::slide(fake_table& t, std::uint32_t position) {
  if (window_ == 0 || position <= window_) return;
  const std::size_t end =
      std::min<std::size_t>((position - window_) / block_size_, t.blocks.size());
  for (; t.live < end; ++t.live) give_up(t, t.live);
}

void fake_cache::release(fake_table& t) {
  for (; t.live < t.blocks.size(); ++t.live) give_up(t, t.live);
  t.blocks.clear();
  t.live = 0;
}

result<const fake_cache::cell*> fake_cache::read(const fake_table& t,
                                                 std::uint32_t position) const {
  const std::size_t index = position / block_size_;
  if (index >= t.blocks.size() || t.blocks[index] == 0 || index < t.live)
    return fail(errc::internal,
                fmt::format("slot {} reads position {} without a block", t.slot, position));
  const auto block = static_cast<std::size_t>(t.blocks[index]);
  const cell& c = blocks_[block].cells[position % block_size_];
  if (!c.written || c.position != position)
    return fail(errc::internal, fmt::format("slot {} reads position {} in block {}, which does not "
                                            "hold it",
                                            t.slot, position, block));
  return &c;
}

result<std::uint64_t> fake_cache::before(const fake_table& t, std::uint32_t position) const {
  if (position == 0) return fake_chain_begin;
  DINFER_TRY(const cell* c, read(t, position - 1));
  return c->chain;
}

result<void> fake_cache::write(const fake_table& t, std::uint32_t position, std::uint64_t previous,
                               std::uint64_t chain) {
  const std::size_t index = position / block_size_;
  const std::uint32_t offset = position % block_size_;
  if (index >= t.blocks.size() || t.blocks[index] == 0)
    return fail(errc::internal,
                fmt::format("slot {} writes position {} without a block", t.slot, position));
  const auto id = static_cast<std::size_t>(t.blocks[index]);
  block_state& b = blocks_[id];
  if (offset == 0) {  // a block is begun anew: nobody else may still look at it
    if (b.holders != 1)
      return fail(errc::internal, fmt::format("slot {} writes block {}, which {} slots hold",
                                              t.slot, id, b.holders));
    std::ranges::fill(b.cells, cell{});
    b.writer = t.slot;
  }
  if (b.writer != t.slot || (offset > 0 && !b.cells[offset - 1].written) || b.cells[offset].written)
    return fail(errc::internal,
                fmt::format("slot {} writes position {} into block {}, which is not "
                            "its own to go on with",
                            t.slot, position, id));
  b.cells[offset] = {previous, chain, position, true};
  return {};
}

result<void> fake_cache::check_visible(const fake_table& t, std::uint32_t position) const {
  const std::uint32_t first = window_ == 0 || position < window_ ? 0 : position - window_ + 1;
  DINFER_TRY(const cell* last, read(t, position));
  for (std::uint32_t begin = position - position % block_size_; begin > first;
       begin -= block_size_) {
    DINFER_TRY(const cell* here, read(t, begin));
    DINFER_TRY(const cell* before_here, read(t, begin - 1));
    if (here->previous != before_here->chain)
      return fail(errc::internal,
                  fmt::format("slot {} reads a foreign prefix before position {}", t.slot, begin));
  }
  static_cast<void>(last);
  return {};
}

}  // namespace dinfer::runtime
