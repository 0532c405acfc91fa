// SPDX-License-Identifier: Apache-2.0
// How many bytes this thread asked of operator new, and how many it held at a time, to hold code to
// "allocate nothing by a number that was not checked". allocation_meter.cpp replaces operator new
// for the whole test binary.
#pragma once

#include <cstdint>

namespace dinfer::tests {

// All bytes asked for so far by the calling thread, freed or not; always 0 under a sanitizer.
std::uint64_t bytes_allocated() noexcept;

// What the calling thread held at most while this lived, more than when it began. One at a time;
// memory that another thread frees counts as held; always 0 under a sanitizer.
class allocation_peak {
 public:
  allocation_peak() noexcept;
  std::uint64_t bytes() const noexcept;

 private:
  std::int64_t before_;
};

}  // namespace dinfer::tests
