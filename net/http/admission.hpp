// SPDX-License-Identifier: Apache-2.0
// Counts open connections, in all and per address. A ticket is held as long as its connection.
// Any thread; outlives all tickets.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace dinfer::net {

class connection_admission {
 public:
  connection_admission(std::uint32_t total, std::uint32_t per_address)
      : total_max_(total), per_address_max_(per_address) {}

  // nullptr: full.
  std::shared_ptr<void> enter(const std::string& address) {
    const std::lock_guard lock(mutex_);
    if (total_ >= total_max_) return nullptr;
    auto& count = counts_[address];
    if (count >= per_address_max_) return nullptr;
    ++count;
    ++total_;
    // The pointer itself means nothing; only its deleter is wanted.
    return {static_cast<void*>(this), [this, address](void*) { leave(address); }};
  }

 private:
  void leave(const std::string& address) {
    const std::lock_guard lock(mutex_);
    --total_;
    const auto found = counts_.find(address);
    if (--found->second == 0) counts_.erase(found);
  }

  std::mutex mutex_;
  const std::uint32_t total_max_, per_address_max_;
  std::uint32_t total_ = 0;
  std::unordered_map<std::string, std::uint32_t> counts_;
};

}  // namespace dinfer::net
