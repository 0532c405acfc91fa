// SPDX-License-Identifier: Apache-2.0
// Holds the calling thread to what it may allocate while this lives: a larger single allocation, or
// more held at a time, ends the process with the figures. Under AddressSanitizer every malloc is
// counted, else operator new alone; under other sanitizers nothing. One at a time per thread.
#pragma once

#include <cstdint>

namespace dinfer::fuzz {

class memory_bound {
 public:
  memory_bound(std::uint64_t single_bytes, std::uint64_t held_bytes) noexcept;
  ~memory_bound();
  memory_bound(const memory_bound&) = delete;
  memory_bound& operator=(const memory_bound&) = delete;
  static std::uint64_t most_held() noexcept;  // of the last one that ended
};

}  // namespace dinfer::fuzz
