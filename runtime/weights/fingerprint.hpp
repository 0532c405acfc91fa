// SPDX-License-Identifier: Apache-2.0
// A short proof that two nodes opened the same model. Pure; any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace dinfer::runtime {

// SHA-256, 64 hex digits. `full`: of every byte. Else of the file's size, its first `header_bytes`
// bytes (names, types and shapes of all tensors) and 64 pages of 4 KB spread evenly over the rest:
// milliseconds for any size, and enough to tell two conversions or fine-tunes of a model apart, but
// not to find a single flipped bit.
std::string fingerprint_of(std::span<const std::byte> file, std::size_t header_bytes, bool full);

}  // namespace dinfer::runtime
