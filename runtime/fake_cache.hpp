// SPDX-License-Identifier: Apache-2.0
// The pretended KV cache of the fake runner: what every position of every block holds, so that
// reading a block that was never written, was handed to somebody else or holds another prefix is
// seen. Used by fake_runner.cpp alone.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <vector>

namespace dinfer::runtime {

// A chain over the first tokens of a sequence: what is before token 0, and after one more token.
inline constexpr std::uint64_t fake_chain_begin = 0x6a09e667f3bcc908ULL;
std::uint64_t fake_chain(std::uint64_t chain, token_id token) noexcept;

// The blocks that a slot was given in one group. Those before `live` have slid out of the window.
struct fake_table {
  slot_id slot = 0;
  std::vector<block_id> blocks;
  std::size_t live = 0;
};

class fake_cache {
 public:
  fake_cache(std::uint32_t block_size, std::uint32_t blocks, std::uint32_t window);

  // Blocks come to a table. Error: one that the pool does not have.
  result<void> append(fake_table& t, const std::vector<block_id>& more);
  // The table's next query is at `position`: what the window has left behind is given up.
  void slide(fake_table& t, std::uint32_t position);
  void release(fake_table& t);

  // The chain over the tokens before `position`, read from the cache.
  result<std::uint64_t> before(const fake_table& t, std::uint32_t position) const;
  // Stores a token. Errors: no block, the null block, or a block that others hold or wrote.
  result<void> write(const fake_table& t, std::uint32_t position, std::uint64_t previous,
                     std::uint64_t chain);
  // The blocks that a query at `position` reads hold one unbroken chain.
  result<void> check_visible(const fake_table& t, std::uint32_t position) const;

 private:
  static constexpr slot_id nobody = 0xffffffffU;
  struct cell {
    std::uint64_t previous = 0, chain = 0;
    std::uint32_t position = 0;
    bool written = false;
  };
  struct block_state {
    std::vector<cell> cells;
    slot_id writer = nobody;
    std::uint32_t holders = 0;  // tables that it is live in
  };

  void give_up(fake_table& t, std::size_t index);
  result<const cell*> read(const fake_table& t, std::uint32_t position) const;

  std::uint32_t block_size_, window_;
  std::vector<block_state> blocks_;  // by block id
};

}  // namespace dinfer::runtime
