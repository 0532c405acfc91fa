// SPDX-License-Identifier: Apache-2.0
// Which dinfer this is. `protocol_version` changes whenever any message or blob that crosses nodes
// changes.
#pragma once

#include "dinfer/export.hpp"

#include <cstdint>
#include <string_view>

namespace dinfer {

inline constexpr std::uint32_t protocol_version = 6;
DINFER_EXPORT std::string_view version() noexcept;  // "0.1.0"
// Version, compiler and protocol: two nodes must agree on it.
DINFER_EXPORT std::string_view build_id() noexcept;

}  // namespace dinfer
