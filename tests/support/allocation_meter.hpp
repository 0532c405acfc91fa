// SPDX-License-Identifier: Apache-2.0
// How many bytes this thread asked of operator new, to hold code to "allocate nothing by a number
// that was not checked". allocation_meter.cpp replaces operator new for the whole test binary.
#pragma once

#include <cstdint>

namespace dinfer::tests {

// All bytes asked for so far by the calling thread, freed or not; always 0 under a sanitizer.
std::uint64_t bytes_allocated() noexcept;

}  // namespace dinfer::tests
