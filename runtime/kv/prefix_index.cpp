// SPDX-License-Identifier: Apache-2.0
// The tree of cached prefixes. Nodes lie in flat arrays and their numbers are reused.
#include "runtime/kv/prefix_index.hpp"

#include "dinfer/error.hpp"

#include <algorithm>

namespace dinfer::runtime {

std::uint64_t chained_hash(std::uint64_t parent, std::span<const token_id> tokens) {
  std::uint64_t h = parent ^ 0x9e3779b97f4a7c15ULL;
  for (const token_id t : tokens) {
    h = (h ^ static_cast<std::uint32_t>(t)) * 0xff51afd7ed558ccdULL;
    h ^= h >> 32;
  }
  return h;
}

prefix_index::prefix_index(std::uint32_t block_size, std::uint32_t groups, prefix_hash hash)
    : block_size_(block_size), groups_(groups), hash_(hash) {}

node_id prefix_index::make(std::uint64_t hash, node_id parent) {
  node_id id = static_cast<node_id>(nodes_.size());
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else {
    nodes_.emplace_back();
    tokens_.resize(tokens_.size() + block_size_);
    blocks_.resize(blocks_.size() + groups_);
  }
  nodes_[id] = {hash, parent, 0};
  if (parent != no_node) hold(parent);
  return id;
}

node_id prefix_index::root(std::string_view salt, std::uint32_t adapter) {
  auto [it, added] = roots_.try_emplace({std::string(salt), adapter}, no_node);
  if (added) {
    const std::vector<token_id> bytes(salt.begin(), salt.end());
    it->second = make(chained_hash(adapter, bytes), no_node);
    root_keys_.emplace(it->second, it);
  }
  return it->second;
}

node_id prefix_index::find(node_id parent, std::span<const token_id> block) const {
  const auto [begin, end] = by_hash_.equal_range(hash_(nodes_[parent].hash, block));
  for (auto it = begin; it != end; ++it) {
    const node_id id = it->second;
    if (nodes_[id].parent == parent && std::ranges::equal(tokens(id), block)) return id;
  }
  return no_node;
}

node_id prefix_index::find_or_add(node_id parent, std::span<const token_id> block) {
  if (const node_id found = find(parent, block); found != no_node) return found;
  const std::uint64_t hash = hash_(nodes_[parent].hash, block);
  const node_id id = make(hash, parent);
  std::ranges::copy(block, tokens_.begin() + static_cast<std::ptrdiff_t>(id) * block_size_);
  by_hash_.emplace(hash, id);
  return id;
}

void prefix_index::set_block(node_id node, std::uint32_t group, block_id block) {
  block_id& place = blocks_[std::size_t{node} * groups_ + group];
  DINFER_ASSERT(place == 0 && block != 0);
  place = block;
  hold(node);
}

void prefix_index::clear_block(node_id node, std::uint32_t group) {
  block_id& place = blocks_[std::size_t{node} * groups_ + group];
  DINFER_ASSERT(place != 0);
  place = 0;
  drop(node);
}

void prefix_index::drop(node_id id) {
  while (id != no_node) {
    DINFER_ASSERT(nodes_[id].uses > 0);
    if (--nodes_[id].uses > 0) return;
    const node_id parent = nodes_[id].parent;
    forget(id);
    id = parent;  // a child is a use of its parent
  }
}

void prefix_index::forget(node_id id) {
  if (const auto it = root_keys_.find(id); it != root_keys_.end()) {
    roots_.erase(it->second);
    root_keys_.erase(it);
  } else {
    const auto [begin, end] = by_hash_.equal_range(nodes_[id].hash);
    const auto found = std::find_if(begin, end, [id](const auto& e) { return e.second == id; });
    DINFER_ASSERT(found != end);
    by_hash_.erase(found);
  }
  free_.push_back(id);
}

void prefix_index::check_integrity(const std::unordered_map<node_id, std::uint32_t>& held) const {
  std::vector<std::uint32_t> uses(nodes_.size(), 0);
  for (const auto& [id, count] : held) uses.at(id) += count;
  for (const auto& [hash, id] : by_hash_) {
    DINFER_ASSERT(nodes_[id].hash == hash && nodes_[id].parent != no_node);
    DINFER_ASSERT(hash_(nodes_[nodes_[id].parent].hash, tokens(id)) == hash);
    ++uses[nodes_[id].parent];
  }
  for (node_id id = 0; id < nodes_.size(); ++id) {
    for (std::uint32_t g = 0; g < groups_; ++g) uses[id] += block(id, g) != 0;
    DINFER_ASSERT(uses[id] == nodes_[id].uses);
  }
  DINFER_ASSERT(by_hash_.size() + roots_.size() == size() && roots_.size() == root_keys_.size());
}

}  // namespace dinfer::runtime
