// SPDX-License-Identifier: Apache-2.0
// The way of what the host has to say of slots to the device, for the sampler alone. Thread: the
// device's own.
#pragma once

#include "kernels/cuda/sample.hpp"
#include "kernels/device.hpp"

#include <cuda_runtime_api.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace dinfer::kernels::cuda {

// Updates and their payload travel in pages: pinned ones in turn, each guarded by an event, to one
// page of the device.
class update_mail {
 public:
  update_mail(device& device, cudaStream_t stream)
      : device_(device), stream_(stream), there_(device.allocate(page_bytes(), false)) {
    for (page& p : pages_) p = {device.allocate_host(page_bytes()), device.make_event()};
  }

  // Room for one more update and at least `words` of payload; what is there may have to go first.
  void make_room(std::size_t words, const slot_arrays& slots) {
    if (!open_) {
      pages_[next_].passed->wait(patience);
      open_ = true;
      updates_ = 0;
      words_ = 0;
    } else if (updates_ == most_updates || words_ + words > payload_words) {
      send(slots);
      make_room(words, slots);
    }
  }
  std::size_t room() const { return payload_words - words_; }
  slot_update& add() {
    auto& update = *new (here() + updates_++ * sizeof(slot_update)) slot_update;
    update.payload = static_cast<std::uint32_t>(words_);
    return update;
  }
  template <class T>
  void append(const T* values, std::size_t count) {
    static_assert(sizeof(T) % sizeof(std::uint32_t) == 0);
    if (count == 0) return;
    std::memcpy(here() + payload_at + words_ * sizeof(std::uint32_t), values, count * sizeof(T));
    words_ += count * sizeof(T) / sizeof(std::uint32_t);
  }

  void send(const slot_arrays& slots) {
    if (!open_) return;
    open_ = false;
    if (updates_ == 0) return;
    auto* to = static_cast<std::byte*>(there_.data());
    device_.upload_async(to, here(), payload_at + words_ * sizeof(std::uint32_t));
    apply_updates(slots, reinterpret_cast<const slot_update*>(to),
                  reinterpret_cast<const std::uint32_t*>(to + payload_at),
                  static_cast<std::int32_t>(updates_), stream_);
    pages_[next_].passed->record();
    next_ = (next_ + 1) % pages_.size();
  }

  static constexpr std::size_t page_bytes() {
    return payload_at + payload_words * sizeof(std::uint32_t);
  }

 private:
  static constexpr std::chrono::seconds patience{60};
  static constexpr std::size_t most_updates = 64, payload_words = std::size_t{128} << 10;
  static constexpr std::size_t payload_at = most_updates * sizeof(slot_update);
  static_assert(payload_words > 2 * most_biases + most_stop_tokens);

  struct page {
    buffer memory;
    std::unique_ptr<event> passed;
  };
  std::byte* here() const { return static_cast<std::byte*>(pages_[next_].memory.data()); }

  device& device_;
  cudaStream_t stream_;
  buffer there_;
  std::array<page, 3> pages_;
  std::size_t next_ = 0, updates_ = 0, words_ = 0;
  bool open_ = false;
};

}  // namespace dinfer::kernels::cuda
