// SPDX-License-Identifier: Apache-2.0
// How the process of a node ends. Any thread.
#pragma once

#include "dinfer/error.hpp"

namespace dinfer::runtime {

inline constexpr int exit_ok = 0;
inline constexpr int exit_failure = 1;
inline constexpr int exit_bad_config = 2;
inline constexpr int exit_bad_file = 3;
inline constexpr int exit_cluster = 5;  // refused, not joined in time, or the first node was lost

// The exit code that stands for an error.
int exit_code_of(errc code) noexcept;

}  // namespace dinfer::runtime
