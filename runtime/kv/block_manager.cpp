// SPDX-License-Identifier: Apache-2.0
// Free lists, reference counts and the list of cached blocks, least recently used first.
#include "runtime/kv/block_manager.hpp"

#include "dinfer/error.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace dinfer::runtime {

namespace {

constexpr std::uint64_t endless = std::numeric_limits<std::uint64_t>::max() / 2;

}  // namespace

block_manager::block_manager(std::uint32_t block_size, std::vector<kv_group_config> groups,
                             bool prefix_caching, prefix_hash hash)
    : block_size_(block_size),
      prefix_caching_(prefix_caching),
      index_(block_size, static_cast<std::uint32_t>(groups.size()), hash) {
  DINFER_ASSERT(block_size > 0 && !groups.empty());
  for (const kv_group_config& g : groups) {
    pool p{g, std::vector<block_state>(std::size_t{g.blocks} + 1), {}, 0};
    p.free.reserve(g.blocks);
    for (std::uint32_t b = g.blocks; b > 0; --b) p.free.push_back(static_cast<block_id>(b));
    pools_.push_back(std::move(p));
  }
}

// A query at `position` reads keys from position - window on: one more than the usual count of a
// window, which the query itself belongs to.
std::uint32_t block_manager::first_needed(std::uint32_t group, std::uint64_t position) const {
  const std::uint32_t window = pools_[group].config.window;
  if (window == 0 || position <= window) return 0;
  return static_cast<std::uint32_t>((position - window) / block_size_);
}

std::uint32_t block_manager::blocks_for(std::uint32_t group, std::uint64_t positions) const {
  const std::uint64_t all = (positions + block_size_ - 1) / block_size_;
  const std::uint32_t window = pools_[group].config.window;
  const std::uint64_t reach =
      window == 0 ? all : (std::uint64_t{window} + block_size_ - 1) / block_size_ + 1;
  return static_cast<std::uint32_t>(std::min(all, reach));
}

std::uint64_t block_manager::capacity() const {
  std::uint64_t least = endless;
  for (std::uint32_t g = 0; g < groups(); ++g) {
    const bool slides = pools_[g].config.window != 0 && total(g) >= blocks_for(g, endless);
    if (!slides) least = std::min(least, std::uint64_t{total(g)} * block_size_);
  }
  return least;
}

std::uint32_t block_manager::available(std::uint32_t group) const {
  return static_cast<std::uint32_t>(pools_[group].free.size()) + pools_[group].cached;
}

// The number of leading blocks that every group could read; `path` receives their nodes.
std::uint32_t block_manager::match(node_id root, std::span<const token_id> tokens,
                                   std::vector<node_id>& path) const {
  std::vector<std::uint32_t> run(groups(), 0);  // blocks present without a gap up to here
  std::uint32_t best = 0;
  node_id node = root;
  for (std::size_t at = 0; at + block_size_ <= tokens.size(); at += block_size_) {
    node = index_.find(node, tokens.subspan(at, block_size_));
    if (node == no_node) break;
    path.push_back(node);
    const auto length = static_cast<std::uint32_t>(path.size());
    bool found = true;
    for (std::uint32_t g = 0; g < groups(); ++g) {
      run[g] = index_.block(node, g) != 0 ? run[g] + 1 : 0;
      found &= run[g] >= length - first_needed(g, std::uint64_t{length} * block_size_);
    }
    if (found) best = length;
  }
  path.resize(best);
  return best;
}

std::uint32_t block_manager::open(block_table& table, std::span<const token_id> tokens,
                                  std::string_view salt, std::uint32_t adapter, bool lookup) {
  DINFER_ASSERT(table.tail == no_node && table.registered == 0);
  table.groups.assign(groups(), {});
  table.live.assign(groups(), 0);
  if (!prefix_caching_) return 0;
  table.tail = index_.root(salt, adapter);
  index_.hold(table.tail);
  if (!lookup) return 0;

  std::vector<node_id> path;
  const std::uint32_t found = match(table.tail, tokens, path);
  if (found == 0) return 0;
  for (std::uint32_t g = 0; g < groups(); ++g) {
    table.live[g] = first_needed(g, std::uint64_t{found} * block_size_);
    table.groups[g].resize(found, 0);
    for (std::uint32_t i = table.live[g]; i < found; ++i) {
      table.groups[g][i] = index_.block(path[i], g);
      share(pools_[g], table.groups[g][i]);
    }
  }
  index_.hold(path.back());
  index_.drop(std::exchange(table.tail, path.back()));
  table.registered = found;
  return found * block_size_;
}

void block_manager::slide(block_table& table, std::uint32_t position) {
  for (std::uint32_t g = 0; g < groups(); ++g) {
    auto& blocks = table.groups[g];
    const auto end = std::min<std::size_t>(first_needed(g, position), blocks.size());
    for (; table.live[g] < end; ++table.live[g])
      give_up(pools_[g], std::exchange(blocks[table.live[g]], 0));
  }
}

std::uint64_t block_manager::room(const block_table& table) const {
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  for (std::uint32_t g = 0; g < groups(); ++g)
    least = std::min(least, (table.groups[g].size() + std::uint64_t{available(g)}) * block_size_);
  return least;
}

void block_manager::cover(block_table& table, std::uint32_t positions) {
  for (std::uint32_t g = 0; g < groups(); ++g)
    while (table.groups[g].size() * block_size_ < positions) table.groups[g].push_back(take(g));
}

void block_manager::commit(block_table& table, std::span<const token_id> tokens) {
  if (!prefix_caching_) return;
  while ((std::size_t{table.registered} + 1) * block_size_ <= tokens.size()) {
    const std::uint32_t i = table.registered++;
    const node_id node =
        index_.find_or_add(table.tail, tokens.subspan(std::size_t{i} * block_size_, block_size_));
    index_.hold(node);
    index_.drop(std::exchange(table.tail, node));
    for (std::uint32_t g = 0; g < groups(); ++g) {
      const block_id block = table.groups[g][i];
      // Where another sequence computed the same block first, its copy stays the one that is found.
      if (block == 0 || index_.block(node, g) != 0) continue;
      index_.set_block(node, g, block);
      pools_[g].blocks[static_cast<std::size_t>(block)].node = node;
    }
  }
}

void block_manager::close(block_table& table) {
  // Last blocks first: they become the oldest of the cached ones, so a prefix is shortened before
  // its beginning is lost.
  for (std::uint32_t g = 0; g < groups(); ++g)
    for (std::size_t i = table.groups[g].size(); i > table.live[g]; --i)
      give_up(pools_[g], table.groups[g][i - 1]);
  if (table.tail != no_node) index_.drop(table.tail);
  table = {};
}

block_id block_manager::take(std::uint32_t group) {
  pool& p = pools_[group];
  block_id block = 0;
  if (!p.free.empty()) {
    block = p.free.back();
    p.free.pop_back();
  } else {
    block = p.blocks[0].next;
    DINFER_ASSERT(block != 0);
    unlink(p, block);
    index_.clear_block(std::exchange(p.blocks[static_cast<std::size_t>(block)].node, no_node),
                       group);
  }
  p.blocks[static_cast<std::size_t>(block)].references = 1;
  return block;
}

void block_manager::share(pool& p, block_id block) {
  if (p.blocks[static_cast<std::size_t>(block)].references++ == 0) unlink(p, block);
}

void block_manager::give_up(pool& p, block_id block) {
  block_state& state = p.blocks[static_cast<std::size_t>(block)];
  DINFER_ASSERT(block != 0 && state.references > 0);
  if (--state.references > 0) return;
  if (state.node == no_node) {
    p.free.push_back(block);
    return;
  }
  block_state& head = p.blocks[0];
  state.previous = head.previous;
  state.next = 0;
  p.blocks[static_cast<std::size_t>(head.previous)].next = block;
  head.previous = block;
  ++p.cached;
}

void block_manager::unlink(pool& p, block_id block) {
  block_state& state = p.blocks[static_cast<std::size_t>(block)];
  p.blocks[static_cast<std::size_t>(state.previous)].next = state.next;
  p.blocks[static_cast<std::size_t>(state.next)].previous = state.previous;
  state.previous = state.next = 0;
  --p.cached;
}

void block_manager::check_pool(std::uint32_t group,
                               std::span<const block_table* const> tables) const {
  const pool& p = pools_[group];
  std::vector<std::uint32_t> references(p.blocks.size(), 0);
  for (const block_table* t : tables) {
    const auto& blocks = t->groups.at(group);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      DINFER_ASSERT((blocks[i] == 0) == (i < t->live[group]));
      if (blocks[i] != 0) ++references.at(static_cast<std::size_t>(blocks[i]));
    }
  }
  std::vector<bool> idle(p.blocks.size(), false);
  for (const block_id b : p.free) {
    DINFER_ASSERT(!idle.at(static_cast<std::size_t>(b)));
    DINFER_ASSERT(p.blocks[static_cast<std::size_t>(b)].node == no_node);
    idle[static_cast<std::size_t>(b)] = true;
  }
  std::uint32_t cached_count = 0;
  for (block_id b = p.blocks[0].next; b != 0; b = p.blocks[static_cast<std::size_t>(b)].next) {
    DINFER_ASSERT(!idle.at(static_cast<std::size_t>(b)));
    DINFER_ASSERT(p.blocks[static_cast<std::size_t>(b)].node != no_node);
    idle[static_cast<std::size_t>(b)] = true;
    ++cached_count;
  }
  DINFER_ASSERT(cached_count == p.cached);
  for (std::size_t b = 1; b < p.blocks.size(); ++b) {
    DINFER_ASSERT(p.blocks[b].references == references[b]);
    DINFER_ASSERT(idle[b] == (references[b] == 0));
    const node_id node = p.blocks[b].node;
    DINFER_ASSERT(node == no_node || index_.block(node, group) == static_cast<block_id>(b));
  }
}

void block_manager::check_integrity(std::span<const block_table* const> tables) const {
  std::unordered_map<node_id, std::uint32_t> held;
  for (const block_table* t : tables)
    if (t->tail != no_node) ++held[t->tail];
  index_.check_integrity(held);
  for (std::uint32_t g = 0; g < groups(); ++g) check_pool(g, tables);
}

}  // namespace dinfer::runtime
