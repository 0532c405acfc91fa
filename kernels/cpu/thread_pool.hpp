// SPDX-License-Identifier: Apache-2.0
// Spreads the chunks of one operation over a device's threads. The caller takes part, so a pool of
// one thread starts none. Workers take chunks one by one, spin for some microseconds when there are
// none and then sleep: a machine that is shared is not burnt, and a worker that the operating
// system holds back delays nobody. Where a process has several pools, a thread of one that waits
// for the work of another takes over chunks of it (kernels/neighbours.hpp): ranks that hold more
// than others, or are held up, delay them less. Thread: run() is called by one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace dinfer::kernels::cpu {

class thread_pool {
 public:
  // Pins thread i, the constructing one being 0, to core first_core + i when first_core >= 0.
  // Throws std::system_error when a thread cannot be started.
  thread_pool(std::uint32_t threads, std::int32_t first_core);
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  std::uint32_t threads() const noexcept { return static_cast<std::uint32_t>(workers_.size()) + 1; }

  // Calls body(chunk, thread) once for every chunk in 0 .. chunks - 1, in any order; returns when
  // all are done. `body` does not throw. `thread` picks scratch memory; threads() is a guest.
  template <class Body>
  void run(std::int64_t chunks, Body&& body) {
    using plain = std::remove_reference_t<Body>;
    start(chunks, const_cast<std::remove_const_t<plain>*>(&body),
          [](void* self, std::int64_t chunk, std::uint32_t thread) {
            (*static_cast<plain*>(self))(chunk, thread);
          });
  }

  // Makes sure that every thread has `floats` floats of scratch memory, 64-byte aligned. Between
  // runs; throws device_error{out_of_memory}.
  void reserve_scratch(std::size_t floats);
  // This thread's; what it holds is lost between chunks.
  float* scratch(std::uint32_t thread) const noexcept { return scratch_[thread].data.get(); }

  // Takes one chunk of the job that another thread runs, if there is one and no other guest.
  bool help() noexcept;

 private:
  using call = void (*)(void*, std::int64_t, std::uint32_t);
  struct aligned_free {
    void operator()(float* p) const noexcept;
  };
  struct alignas(64) scratch_memory {
    std::unique_ptr<float[], aligned_free> data;
    std::size_t floats = 0;
  };

  void stop();
  void start(std::int64_t chunks, void* body, call function);
  void work(std::uint32_t thread);
  bool take_one(std::uint32_t thread);

  std::vector<scratch_memory> scratch_;  // of each thread, then of a guest
  std::vector<std::thread> workers_;

  // The job. The plain members are read only by a thread that holds an unfinished chunk of it.
  void* body_ = nullptr;
  call function_ = nullptr;
  std::uint32_t chunks_ = 0;
  alignas(64) std::atomic<std::uint32_t> left_{0};        // chunks that nobody took
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};  // chunks that are not done
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // jobs so far; workers sleep on it
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<bool> guest_{false};
};

}  // namespace dinfer::kernels::cpu
