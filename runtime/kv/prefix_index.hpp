// SPDX-License-Identifier: Apache-2.0
// Which token prefixes lie in the cache: a tree whose nodes stand for one full block of tokens
// after their parent's, found by a chained hash and confirmed by comparing parent and tokens, so
// that a collision costs time and never a wrong block. A node names, per KV group, the block that
// holds it. Used by block_manager alone; one thread.
//
// A root stands for the extra keys of a request (salt, adapter): prefixes under different roots
// never meet. A node lives while it has uses: children, holders, or blocks.
#pragma once

#include "dinfer/request.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace dinfer::runtime {

using node_id = std::uint32_t;
inline constexpr node_id no_node = std::numeric_limits<node_id>::max();

// Hash of one block of tokens after a prefix with hash `parent`.
using prefix_hash = std::uint64_t (*)(std::uint64_t parent, std::span<const token_id> tokens);
std::uint64_t chained_hash(std::uint64_t parent, std::span<const token_id> tokens);

class prefix_index {
 public:
  prefix_index(std::uint32_t block_size, std::uint32_t groups, prefix_hash hash);

  // The root of these keys, made when missing. It has no use yet: hold() it.
  node_id root(std::string_view salt, std::uint32_t adapter);
  // The child of `parent` with these block_size tokens, or no_node.
  node_id find(node_id parent, std::span<const token_id> tokens) const;
  // The same, made when missing. A new one has no use yet: hold() it or give it a block.
  node_id find_or_add(node_id parent, std::span<const token_id> tokens);

  void hold(node_id node) { ++nodes_[node].uses; }
  void drop(node_id node);  // gives up one use; nodes without use are forgotten, upwards

  block_id block(node_id node, std::uint32_t group) const {
    return blocks_[std::size_t{node} * groups_ + group];
  }
  void set_block(node_id node, std::uint32_t group, block_id block);  // was 0; counts as a use
  void clear_block(node_id node, std::uint32_t group);                // gives up that use

  std::size_t size() const noexcept { return nodes_.size() - free_.size(); }
  // Panics when a count of uses disagrees. `held[node]`: holders that the caller knows of.
  void check_integrity(const std::unordered_map<node_id, std::uint32_t>& held) const;

 private:
  using root_map = std::map<std::pair<std::string, std::uint32_t>, node_id>;
  struct node_state {
    std::uint64_t hash = 0;
    node_id parent = no_node;
    std::uint32_t uses = 0;
  };
  node_id make(std::uint64_t hash, node_id parent);
  void forget(node_id id);
  std::span<const token_id> tokens(node_id id) const {
    return std::span(tokens_).subspan(std::size_t{id} * block_size_, block_size_);
  }

  std::uint32_t block_size_, groups_;
  prefix_hash hash_;
  std::vector<node_state> nodes_;
  std::vector<token_id> tokens_;  // [node][block_size]; a root's are unused
  std::vector<block_id> blocks_;  // [node][group]; 0: not cached
  std::vector<node_id> free_;
  std::unordered_multimap<std::uint64_t, node_id> by_hash_;  // without roots
  root_map roots_;
  std::unordered_map<node_id, root_map::iterator> root_keys_;
};

}  // namespace dinfer::runtime
