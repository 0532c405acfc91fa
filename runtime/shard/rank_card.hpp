// SPDX-License-Identifier: Apache-2.0
// What a rank tells its peers before they are joined (docs/PROTOCOL.md, "Data connections"). Pure
// text handling; any thread.
#pragma once

#include "dinfer/error.hpp"

#include <string>
#include <string_view>

namespace dinfer::runtime {

struct rank_card {
  // Names of the groups that the rank's device will found: bytes, at most 128; empty: none.
  std::string stage_group, lane_group;
  std::string host;  // the transport's own card; empty: the rank is alone
};

inline constexpr std::size_t most_card_bytes = 1024;

std::string write_rank_card(const rank_card& from);
// Errors: mismatch, invalid_argument.
result<rank_card> read_rank_card(std::string_view text);

}  // namespace dinfer::runtime
