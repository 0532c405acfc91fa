// SPDX-License-Identifier: Apache-2.0
// Who holds which KV block: per group a free list, reference counts and cached prefixes (paged
// attention, Kwon et al. 2023). Host numbers only; the pages lie on the devices. Used by the
// scheduler, on its thread.
//
// A block is free (holds nothing), cached (nobody holds it, but a prefix is found there) or used
// (in one or more tables). Only full blocks whose tokens are known are cached; they are never
// written again, so tables may share them. When nothing is free the least recently used cached
// block is taken. A prefix counts as found where every group still has what its layers would read:
// a full group all of its blocks, a windowed group those that the window reaches.
#pragma once

#include "dinfer/request.hpp"
#include "runtime/kv/kv_group_config.hpp"
#include "runtime/kv/prefix_index.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// One sequence's blocks. Entry i of a group holds positions i * block_size ..; 0: slid out of the
// window, or never needed.
struct block_table {
  std::vector<std::vector<block_id>> groups;
  std::vector<std::uint32_t> live;  // per group: entries before this one are 0
  node_id tail = no_node;           // prefix of the leading blocks that are in the index
  std::uint32_t registered = 0;     // how many these are
};

class block_manager {
 public:
  block_manager(std::uint32_t block_size, std::vector<kv_group_config> groups, bool prefix_caching,
                prefix_hash hash = chained_hash);

  // Opens an empty table. Where `lookup`, the longest cached prefix of `tokens` is put into it;
  // returns its length.
  std::uint32_t open(block_table& table, std::span<const token_id> tokens, std::string_view salt,
                     std::uint32_t adapter, bool lookup);
  // Frees what no query at `position` or later reads.
  void slide(block_table& table, std::uint32_t position);
  // How many positions the table could cover if it took every block that is not used.
  std::uint64_t room(const block_table& table) const;
  // Takes blocks until `positions` are covered; room() was large enough.
  void cover(block_table& table, std::uint32_t positions);
  // `tokens`: those from position 0 on that are known and computed, or will be before any later
  // plan. Their full blocks become findable.
  void commit(block_table& table, std::span<const token_id> tokens);
  void close(block_table& table);  // gives up every block

  // Positions that a sequence alone can ever compute.
  std::uint64_t capacity() const;
  // Blocks that a sequence of `positions` holds in `group`, at most.
  std::uint32_t blocks_for(std::uint32_t group, std::uint64_t positions) const;
  std::uint32_t groups() const noexcept { return static_cast<std::uint32_t>(pools_.size()); }
  std::uint32_t available(std::uint32_t group) const;  // free or cached
  std::uint32_t cached(std::uint32_t group) const noexcept { return pools_[group].cached; }
  std::uint32_t total(std::uint32_t group) const noexcept { return pools_[group].config.blocks; }

  // Panics when counts disagree with `tables`, which are all that are open.
  void check_integrity(std::span<const block_table* const> tables) const;

 private:
  struct block_state {
    std::uint32_t references = 0;
    node_id node = no_node;           // the prefix that is found here
    block_id previous = 0, next = 0;  // among cached blocks; block 0 is the list's head
  };
  struct pool {
    kv_group_config config;
    std::vector<block_state> blocks;  // by block id
    std::vector<block_id> free;
    std::uint32_t cached = 0;
  };

  std::uint32_t first_needed(std::uint32_t group, std::uint64_t position) const;
  std::uint32_t match(node_id root, std::span<const token_id> tokens,
                      std::vector<node_id>& path) const;
  block_id take(std::uint32_t group);
  void share(pool& p, block_id block);
  void give_up(pool& p, block_id block);
  static void unlink(pool& p, block_id block);
  void check_pool(std::uint32_t group, std::span<const block_table* const> tables) const;

  std::uint32_t block_size_;
  bool prefix_caching_;
  std::vector<pool> pools_;
  prefix_index index_;
};

}  // namespace dinfer::runtime
