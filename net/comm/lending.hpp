// SPDX-License-Identifier: Apache-2.0
// Tensors that the ranks of one process show each other, so that a sum needs no copies on the way.
// What all have shown may be read and written by all; when, is agreed by other means (collectives).
// A rank that gives up takes its tensor back once nobody is in it, and the others are told. Thread:
// each rank's own.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <vector>

namespace dinfer::net {

class lending {
 public:
  explicit lending(std::int32_t ranks) : slots_(static_cast<std::size_t>(ranks)) {}

  // Shows a rank's tensor for as long as it lives. Waits for whoever is in it when it ends.
  class loan {
   public:
    loan(lending& to, std::int32_t rank, void* data);
    ~loan();
    loan(const loan&) = delete;
    loan& operator=(const loan&) = delete;

   private:
    lending& to_;
    std::int32_t rank_;
  };

  // What all ranks show, in rank order; none is taken back while it lives.
  class view {
   public:
    explicit view(lending& of);
    ~view();
    view(const view&) = delete;
    view& operator=(const view&) = delete;

    void* of(std::int32_t rank) const { return of_.slot_of(rank).data; }
    std::int32_t missing() const noexcept;  // the first rank that shows nothing, -1: none

   private:
    lending& of_;
  };

 private:
  struct alignas(64) slot {
    std::shared_mutex used;  // shared: somebody reads or writes data
    void* data = nullptr;
  };
  slot& slot_of(std::int32_t rank) { return slots_[static_cast<std::size_t>(rank)]; }

  std::vector<slot> slots_;
};

}  // namespace dinfer::net
