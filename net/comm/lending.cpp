// SPDX-License-Identifier: Apache-2.0
// See lending.hpp.
#include "net/comm/lending.hpp"

#include <mutex>

namespace dinfer::net {

lending::loan::loan(lending& to, std::int32_t rank, void* data) : to_(to), rank_(rank) {
  const std::unique_lock lock(to_.slot_of(rank_).used);
  to_.slot_of(rank_).data = data;
}

lending::loan::~loan() {
  const std::unique_lock lock(to_.slot_of(rank_).used);
  to_.slot_of(rank_).data = nullptr;
}

lending::view::view(lending& of) : of_(of) {
  for (auto& one : of_.slots_) one.used.lock_shared();
}

lending::view::~view() {
  for (auto& one : of_.slots_) one.used.unlock_shared();
}

std::int32_t lending::view::missing() const noexcept {
  for (std::size_t rank = 0; rank < of_.slots_.size(); ++rank)
    if (of_.slots_[rank].data == nullptr) return static_cast<std::int32_t>(rank);
  return -1;
}

}  // namespace dinfer::net
