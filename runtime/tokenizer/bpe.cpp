// SPDX-License-Identifier: Apache-2.0
// Two ways through the same merges: a plain search for the lowest rank in short words, a heap over
// a linked list in long ones. Both take the leftmost pair of the lowest rank. Any thread.
#include "runtime/tokenizer/bpe.hpp"

#include "runtime/tokenizer/utf8.hpp"

#include <algorithm>
#include <bit>
#include <queue>

namespace dinfer::runtime {

namespace {

constexpr std::size_t short_word = 24;  // symbols; above it the heap is faster
constexpr std::uint32_t no_rank = ~std::uint32_t{0};

std::uint64_t pair_of(token_id left, token_id right) noexcept {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::size_t spread(std::uint64_t x) noexcept {
  x *= 0x9E3779B97F4A7C15ULL;
  return static_cast<std::size_t>(x ^ x >> 32);
}

// A symbol of a long word, in a doubly linked list over an array.
struct node {
  token_id token;
  std::int64_t previous, next;  // -1: none
};

// A pair that may be merged; stale once one of its two symbols has changed.
struct candidate {
  std::uint32_t rank;
  std::int64_t at;
  token_id left, right, result;
};

struct later {
  bool operator()(const candidate& a, const candidate& b) const noexcept {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  }
};

}  // namespace

bpe::bpe(const vocabulary& words, bool whole_words) : words_(words) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const auto found = words.by_bytes.find(std::string_view(&c, 1));
    byte_tokens_[static_cast<std::size_t>(byte)] =
        found == words.by_bytes.end() ? -1 : found->second;
  }
  merges_.resize(std::bit_ceil(words.merges.size() * 2 + 1));
  for (std::size_t i = 0; i < words.merges.size(); ++i)
    add(words.merges[i], static_cast<std::uint32_t>(i));

  is_whole_.assign(static_cast<std::size_t>(words.size()), false);
  std::vector<token_id> tokens;
  for (const auto& [bytes, token] : words.by_bytes) {
    tokens.clear();
    if (!whole_words) merge_word(bytes, tokens);
    is_whole_[static_cast<std::size_t>(token)] =
        whole_words || (tokens.size() == 1 && tokens[0] == token);
  }
}

// Of two equal rules the later one counts, as in the reference.
void bpe::add(const merge_rule& rule, std::uint32_t rank) {
  const std::uint64_t pair = pair_of(rule.left, rule.right);
  std::size_t slot = spread(pair) & (merges_.size() - 1);
  while (merges_[slot].pair != empty && merges_[slot].pair != pair)
    slot = (slot + 1) & (merges_.size() - 1);
  merges_[slot] = {pair, rank, rule.result};
}

const bpe::merge* bpe::find(token_id left, token_id right) const noexcept {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t slot = spread(pair) & (merges_.size() - 1);
  for (; merges_[slot].pair != empty; slot = (slot + 1) & (merges_.size() - 1))
    if (merges_[slot].pair == pair) return &merges_[slot];
  return nullptr;
}

void bpe::encode(std::string_view word, std::vector<token_id>& out) const {
  const auto found = words_.by_bytes.find(word);
  if (found != words_.by_bytes.end() && is_whole_[static_cast<std::size_t>(found->second)]) {
    out.push_back(found->second);
    return;
  }
  merge_word(word, out);
}

void bpe::merge_word(std::string_view word, std::vector<token_id>& out) const {
  std::vector<token_id> symbols;
  symbols.reserve(word.size());
  if (words_.characters) {
    split_characters(word, symbols);
  } else {
    for (const char c : word) {
      const token_id token = byte_tokens_[static_cast<unsigned char>(c)];
      if (token >= 0) symbols.push_back(token);
    }
  }
  if (symbols.size() <= short_word) encode_short(symbols, out);
  else encode_long(symbols, out);
}

// An unknown character waits for the next known one, as those that follow it may join it; what is
// spelt by bytes does not end the wait, as in the reference.
void bpe::split_characters(std::string_view word, std::vector<token_id>& symbols) const {
  bool waiting = false;
  const auto spelt = [this](char c) {
    return words_.byte_tokens[static_cast<unsigned char>(c)] >= 0;
  };
  while (!word.empty()) {
    const std::string_view character = word.substr(0, utf8_next(word).size);
    word.remove_prefix(character.size());
    const auto found = words_.by_bytes.find(character);
    if (found != words_.by_bytes.end()) {
      if (waiting) symbols.push_back(*words_.unknown);
      waiting = false;
      symbols.push_back(found->second);
    } else if (std::all_of(character.begin(), character.end(), spelt)) {
      for (const char c : character)
        symbols.push_back(words_.byte_tokens[static_cast<unsigned char>(c)]);
    } else if (words_.unknown) {
      if (waiting && !words_.fuse_unknown) symbols.push_back(*words_.unknown);
      waiting = true;
    }
  }
  if (waiting) symbols.push_back(*words_.unknown);
}

void bpe::encode_short(std::vector<token_id>& symbols, std::vector<token_id>& out) const {
  std::array<std::uint32_t, short_word> ranks{};  // of the pair that begins here
  std::array<token_id, short_word> results{};
  const auto look = [&](std::size_t i) {
    const merge* m = i + 1 < symbols.size() ? find(symbols[i], symbols[i + 1]) : nullptr;
    ranks[i] = m != nullptr ? m->rank : no_rank;
    results[i] = m != nullptr ? m->result : -1;
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) look(i);
  while (symbols.size() > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < symbols.size(); ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == no_rank) break;
    symbols[best] = results[best];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    for (std::size_t i = best + 1; i < symbols.size(); ++i) {
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    look(best);
    if (best > 0) look(best - 1);
  }
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void bpe::encode_long(const std::vector<token_id>& symbols, std::vector<token_id>& out) const {
  const auto count = static_cast<std::int64_t>(symbols.size());
  std::vector<node> nodes(symbols.size());
  std::vector<candidate> heap;
  heap.reserve(symbols.size());
  std::priority_queue<candidate, std::vector<candidate>, later> queue(later{}, std::move(heap));
  const auto offer = [&](std::int64_t at) {
    const std::int64_t next = at < 0 ? -1 : nodes[static_cast<std::size_t>(at)].next;
    if (next < 0) return;
    const token_id left = nodes[static_cast<std::size_t>(at)].token;
    const token_id right = nodes[static_cast<std::size_t>(next)].token;
    if (const merge* m = find(left, right)) queue.push({m->rank, at, left, right, m->result});
  };
  for (std::int64_t i = 0; i < count; ++i)
    nodes[static_cast<std::size_t>(i)] = {symbols[static_cast<std::size_t>(i)], i - 1,
                                          i + 1 < count ? i + 1 : -1};
  for (std::int64_t i = 0; i < count; ++i) offer(i);
  while (!queue.empty()) {
    const candidate c = queue.top();
    queue.pop();
    node& left = nodes[static_cast<std::size_t>(c.at)];
    if (left.token != c.left || left.next < 0) continue;
    node& right = nodes[static_cast<std::size_t>(left.next)];
    if (right.token != c.right) continue;
    left.token = c.result;
    left.next = right.next;
    right.token = -1;  // no candidate names it any more
    if (left.next >= 0) nodes[static_cast<std::size_t>(left.next)].previous = c.at;
    offer(left.previous);
    offer(c.at);
  }
  for (std::int64_t i = 0; i >= 0 && i < count; i = nodes[static_cast<std::size_t>(i)].next)
    out.push_back(nodes[static_cast<std::size_t>(i)].token);
}

}  // namespace dinfer::runtime
