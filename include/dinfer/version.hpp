// SPDX-License-Identifier: Apache-2.0
// Which dinfer this is. `protocol_version` changes whenever any message or blob that crosses nodes
// changes.
#pragma once

#include <cstdint>
#include <string_view>

namespace dinfer {

inline constexpr std::uint32_t protocol_version = 5;
std::string_view version() noexcept;   // "0.1.0"
std::string_view build_id() noexcept;  // version, compiler and protocol: two nodes must agree on it

}  // namespace dinfer
