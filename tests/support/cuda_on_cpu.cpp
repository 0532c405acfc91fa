// SPDX-License-Identifier: Apache-2.0
// The fibers behind cuda_on_cpu.hpp: one block at a time, its threads switched where they wait.
#include "tests/support/cuda_on_cpu.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#error "cuda_on_cpu switches stacks with x86-64 instructions"
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// void dinfer_switch_stack(void** save, void* load): pushes the registers that a call preserves,
// keeps the stack pointer in *save, and goes on where the stack `load` was left.
extern "C" void dinfer_switch_stack(void** save, void* load);
asm(R"(
.text
.globl dinfer_switch_stack
.type dinfer_switch_stack, @function
dinfer_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size dinfer_switch_stack, . - dinfer_switch_stack
)");

namespace dinfer::tests::cuda_on_cpu {
namespace {

constexpr std::size_t page = 4096, stack_bytes = 256 * 1024;
constexpr std::size_t most_shared_bytes = 227 * 1024;
constexpr unsigned most_threads = 1024;

std::byte* map_pages(std::size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(p);
}

void forbid(std::byte* at) {
  if (mprotect(at, page, PROT_NONE) != 0) throw std::bad_alloc();
}

struct pending_copy {
  void* shared;
  const void* global;
  bool valid;
  std::uint64_t group;
};

enum class waits_for { nothing, warp, block, condition };

struct fiber {
  std::byte* stack = nullptr;  // its lowest byte; a page below it may not be touched
  void* stack_pointer = nullptr;
  uint3 index{};
  unsigned number = 0;
  bool done = false;
  waits_for waits = waits_for::nothing;
  const char* what = "";  // it waits in
  unsigned mask = 0;
  std::source_location where;
  const std::function<bool()>* condition = nullptr;
  std::vector<pending_copy> copies;
  std::uint64_t groups = 0;  // committed
};

struct warp {
  unsigned live = 0, waiting = 0;
  lane_calls calls{};
};

struct named_barrier {
  int arrived = 0;
  std::uint64_t ended = 0;  // how often
};

enum class order { first_come, last_come, any };

struct block_state {
  std::vector<fiber> fibers;  // as many as ever ran
  std::vector<warp> warps;
  std::deque<fiber*> ready;
  unsigned threads = 0, done = 0, at_barrier = 0, at_conditions = 0;
  std::array<named_barrier, 16> named_barriers;
  int barrier_sum = 0, barrier_result = 0;
  std::source_location barrier_where;
  const char* barrier_name = "";
  const std::function<void()>* thread = nullptr;
  fiber* current = nullptr;
  void* scheduler = nullptr;  // its stack pointer
  std::exception_ptr error;
  order picks = order::first_come;
  std::mt19937_64 random;
  std::byte* shared_region = nullptr;
  std::byte* shared = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  const void* main_stack = nullptr;
  std::size_t main_stack_bytes = 0;
#endif
};

block_state state;

std::uint64_t order_from_environment() {
  const char* text = std::getenv("DINFER_CUDA_ORDER");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}
std::uint64_t order_seed = order_from_environment();

std::string name_of(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}
std::string name_of(const std::source_location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

[[noreturn]] void fail(const std::string& what) {
  throw emulation_error("block " + name_of(blockIdx) + " (order " + std::to_string(order_seed) +
                        "): " + what);
}

fiber& current() {
  if (!state.current) throw emulation_error("a device function was called outside of a kernel");
  return *state.current;
}

void to_scheduler(bool for_ever) {
  fiber& self = *state.current;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &fake, state.main_stack,
                                 state.main_stack_bytes);
#else
  (void)for_ever;
#endif
  dinfer_switch_stack(&self.stack_pointer, state.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &state.main_stack, &state.main_stack_bytes);
#endif
}

void release(fiber& f) {
  f.waits = waits_for::nothing;
  state.ready.push_back(&f);
}

// Ends the barrier once all threads that still run are there.
bool end_barrier() {
  if (state.at_barrier == 0 || state.at_barrier + state.done < state.threads) return false;
  state.at_barrier = 0;
  state.barrier_result = state.barrier_sum;
  for (unsigned i = 0; i < state.threads; ++i) {
    if (state.fibers[i].waits == waits_for::block) release(state.fibers[i]);
  }
  return true;
}

void fiber_exit(fiber& self) {
  self.done = true;
  ++state.done;
  warp& w = state.warps[self.number / 32];
  w.live &= ~(1u << self.number % 32);
  end_barrier();
}

void fiber_entry() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &state.main_stack, &state.main_stack_bytes);
#endif
  try {
    (*state.thread)();
  } catch (...) {
    state.error = std::current_exception();
  }
  fiber_exit(*state.current);
  to_scheduler(true);
  std::abort();
}

// A stack as dinfer_switch_stack leaves it, that returns into fiber_entry.
void prepare(fiber& f) {
  if (!f.stack) {
    std::byte* region = map_pages(page + stack_bytes);
    forbid(region);
    f.stack = region + page;
  }
#if defined(__SANITIZE_ADDRESS__)
  // Frames that never returned lie there.
  if (f.stack_pointer) {
    auto* last = static_cast<std::byte*>(f.stack_pointer);
    ASAN_UNPOISON_MEMORY_REGION(last, static_cast<std::size_t>(f.stack + stack_bytes - last));
  }
#endif
  auto** top = reinterpret_cast<void**>(f.stack + stack_bytes);
  *--top = nullptr;  // fiber_entry's return address: it has none
  *--top = reinterpret_cast<void*>(&fiber_entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f.stack_pointer = top;
}

void resume(fiber& f) {
  state.current = &f;
  threadIdx = f.index;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, f.stack, stack_bytes);
#endif
  dinfer_switch_stack(&state.scheduler, f.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  state.current = nullptr;
}

fiber& pick() {
  auto& ready = state.ready;
  if (state.picks == order::any) std::swap(ready.front(), ready[state.random() % ready.size()]);
  const bool last = state.picks == order::last_come;
  fiber* f = last ? ready.back() : ready.front();
  last ? ready.pop_back() : ready.pop_front();
  return *f;
}

[[noreturn]] void fail_deadlock() {
  std::map<std::string, std::vector<std::string>> places;
  for (unsigned i = 0; i < state.threads; ++i) {
    const fiber& f = state.fibers[i];
    if (f.done) continue;
    std::ostringstream place;
    place << f.what << " at " << name_of(f.where);
    if (f.waits == waits_for::warp) place << " with mask 0x" << std::hex << f.mask;
    places[place.str()].push_back(name_of(f.index));
  }
  std::string text = "deadlock; " + std::to_string(state.done) + " threads returned";
  for (const auto& [place, threads] : places) {
    text += "\n  " + std::to_string(threads.size()) + " wait in " + place + ": threads";
    for (std::size_t i = 0; i < std::min<std::size_t>(threads.size(), 8); ++i)
      text += " " + threads[i];
    if (threads.size() > 8) text += " ...";
  }
  fail(text);
}

// Lanes that returned count as arrived: an operation may be complete without a further arrival.
struct warp_resolvers {
  std::array<void (*)(const lane_calls&), 32> of{};
};
std::vector<warp_resolvers> resolvers;

// Completes the operation of the lanes that wait with `mask`, if all of them are there.
bool end_warp_operation(unsigned number, unsigned mask) {
  warp& w = state.warps[number];
  if ((mask & w.live & ~w.waiting) != 0) return false;
  lane_calls group{};
  unsigned there = 0;
  int first = -1;
  for (int lane = 0; lane < 32; ++lane) {
    if (!(w.waiting >> lane & 1) || w.calls[lane]->mask != mask) continue;
    group[lane] = w.calls[lane];
    there |= 1u << lane;
    if (first < 0) first = lane;
  }
  if (there == 0 || there != (mask & w.live)) return false;
  for (int lane = 0; lane < 32; ++lane) {
    if (!group[lane] || std::strcmp(group[lane]->name, group[first]->name) == 0) continue;
    fail("lanes of warp " + std::to_string(number) + " meet in different operations: lane " +
         std::to_string(first) + " in " + group[first]->name + " at " +
         name_of(group[first]->where) + ", lane " + std::to_string(lane) + " in " +
         group[lane]->name + " at " + name_of(group[lane]->where));
  }
  resolvers[number].of[first](group);
  w.waiting &= ~there;
  for (int lane = 0; lane < 32; ++lane) {
    if (!group[lane]) continue;
    w.calls[lane] = nullptr;
    fiber& f = state.fibers[number * 32 + lane];
    if (&f != state.current) {
      release(f);
    } else {
      f.waits = waits_for::nothing;
    }
  }
  return true;
}

void end_operations_without(const fiber& gone) {
  const unsigned number = gone.number / 32;
  std::array<unsigned, 32> masks{};
  int count = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (state.warps[number].waiting >> lane & 1)
      masks[count++] = state.warps[number].calls[lane]->mask;
  }
  for (int i = 0; i < count; ++i) end_warp_operation(number, masks[i]);
}

void start_block(dim3 block) {
  state.threads = block.x * block.y * block.z;
  state.done = state.at_barrier = state.at_conditions = 0;
  state.named_barriers = {};
  state.barrier_sum = 0;
  state.error = nullptr;
  state.warps.assign((state.threads + 31) / 32, {});
  resolvers.assign(state.warps.size(), {});
  state.ready.clear();
  if (state.fibers.size() < state.threads) state.fibers.resize(state.threads);
  for (unsigned i = 0; i < state.threads; ++i) {
    fiber& f = state.fibers[i];
    f.number = i;
    f.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    f.done = false;
    f.waits = waits_for::nothing;
    f.copies.clear();
    f.groups = 0;
    prepare(f);
    state.warps[i / 32].live |= 1u << i % 32;
    state.ready.push_back(&f);
  }
  state.picks = order::first_come;
  if (order_seed != 0) {
    std::shuffle(state.ready.begin(), state.ready.end(), state.random);
    state.picks = static_cast<order>(state.random() % 3);
  }
}

void release_where_conditions_hold() {
  for (unsigned i = 0; i < state.threads && state.at_conditions > 0; ++i) {
    fiber& f = state.fibers[i];
    if (f.waits != waits_for::condition || !(*f.condition)()) continue;
    --state.at_conditions;
    release(f);
  }
}

void run_block(dim3 block) {
  start_block(block);
  while (state.done < state.threads) {
    // Late, when nothing else can run, or early.
    if (state.ready.empty() || (state.at_conditions > 0 && state.random() % 64 == 0))
      release_where_conditions_hold();
    if (state.ready.empty()) fail_deadlock();
    fiber& f = pick();
    resume(f);
    if (state.error) std::rethrow_exception(state.error);
    if (f.done) end_operations_without(f);
  }
}

// Dynamic shared memory ends, but for what 1024-byte alignment leaves, at a page that may not be
// touched.
void place_shared(std::size_t bytes) {
  constexpr std::size_t room = 256 * 1024;
  if (!state.shared_region) {
    state.shared_region = map_pages(page + room + page);
    forbid(state.shared_region);
    forbid(state.shared_region + page + room);
  }
  state.shared = state.shared_region + page + room - (bytes + 1023) / 1024 * 1024;
}

void check_shared_end(std::size_t bytes) {
  for (std::size_t i = bytes; i < (bytes + 1023) / 1024 * 1024; ++i) {
    if (state.shared[i] != std::byte{0xFF})
      fail("byte " + std::to_string(i) + " of shared memory was written; it has " +
           std::to_string(bytes));
  }
}

std::vector<const guarded_memory*> guarded_memories;

void check_guarded_ends() {
  for (const guarded_memory* memory : guarded_memories) {
    for (std::size_t i = memory->bytes(); i % 16 != 0; ++i) {
      if (memory->data()[i] != std::byte{0xFF})
        fail("byte " + std::to_string(i) + " of a guarded array was written; it has " +
             std::to_string(memory->bytes()));
    }
  }
}

// Names the thread whose access failed, and lets it fail again where it did before.
class fault_report {
 public:
  fault_report() {
    struct sigaction action {};
    action.sa_sigaction = &report;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before_);
  }
  fault_report(const fault_report&) = delete;
  fault_report& operator=(const fault_report&) = delete;
  ~fault_report() { sigaction(SIGSEGV, &before_, nullptr); }

 private:
  static void report(int, siginfo_t* info, void*) {
    char text[200];
    const int length = std::snprintf(
        text, sizeof text, "thread (%u,%u,%u) of block (%u,%u,%u): no access to address %p\n",
        threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z, info->si_addr);
    if (length > 0 && write(STDERR_FILENO, text, static_cast<std::size_t>(length)) < 0) _exit(3);
    sigaction(SIGSEGV, &before_, nullptr);
  }
  static inline struct sigaction before_ {};
};

void check_shape(dim3 grid, dim3 block, std::size_t shared_bytes) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > most_threads || block.z > 64)
    throw emulation_error("a block of " + std::to_string(threads) + " threads");
  if (grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535)
    throw emulation_error("a grid too large");
  if (shared_bytes > most_shared_bytes)
    throw emulation_error(std::to_string(shared_bytes) + " bytes of shared memory");
  if (state.current) throw emulation_error("a launch inside of a kernel");
}

}  // namespace

void set_order(std::uint64_t seed) { order_seed = seed; }

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes,
              const std::function<void()>& thread) {
  static std::recursive_mutex one_at_a_time;  // a launch inside of one gets as far as its error
  const std::lock_guard lock(one_at_a_time);
  check_shape(grid, block, shared_bytes);
  gridDim = grid;
  blockDim = block;
  state.thread = &thread;
  state.random.seed(order_seed);
  place_shared(shared_bytes);
  const fault_report report;
  std::vector<std::uint64_t> blocks(std::uint64_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0);
  if (order_seed != 0) std::shuffle(blocks.begin(), blocks.end(), state.random);
  for (const std::uint64_t i : blocks) {
    blockIdx = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                static_cast<unsigned>(i / grid.x / grid.y)};
    std::memset(state.shared, 0xFF, (shared_bytes + 1023) / 1024 * 1024);
    run_block(block);
    check_shared_end(shared_bytes);
  }
  check_guarded_ends();
}

guarded_memory::guarded_memory(std::size_t bytes)
    : region_bytes_((bytes + page - 1) / page * page + 2 * page), bytes_(bytes) {
  region_ = map_pages(region_bytes_);
  forbid(region_);
  forbid(region_ + region_bytes_ - page);
  std::memset(region_ + page, 0xFF, region_bytes_ - 2 * page);
  data_ = region_ + region_bytes_ - page - (bytes + 15) / 16 * 16;
  guarded_memories.push_back(this);
}

guarded_memory::~guarded_memory() {
  std::erase(guarded_memories, this);
  munmap(region_, region_bytes_);
}

void* shared_memory() {
  current();
  return state.shared;
}

void meet_warp(lane_call& call, void (*resolve)(const lane_calls& lanes)) {
  fiber& self = current();
  warp& w = state.warps[self.number / 32];
  const unsigned lane = self.number % 32;
  if (!(call.mask >> lane & 1))
    fail("thread " + name_of(self.index) + " calls " + call.name + " at " + name_of(call.where) +
         " with a mask it is not in");
  w.calls[lane] = &call;
  w.waiting |= 1u << lane;
  resolvers[self.number / 32].of[lane] = resolve;
  self.waits = waits_for::warp;
  self.what = call.name;
  self.mask = call.mask;
  self.where = call.where;
  if (!end_warp_operation(self.number / 32, call.mask)) to_scheduler(false);
}

int meet_block(const char* name, int value, std::source_location where) {
  fiber& self = current();
  if (state.at_barrier == 0) {
    state.barrier_sum = 0;
    state.barrier_where = where;
    state.barrier_name = name;
  }
  if (state.barrier_where.line() != where.line() ||
      std::strcmp(state.barrier_where.file_name(), where.file_name()) != 0)
    fail("threads meet in different barriers: " + std::string(state.barrier_name) + " at " +
         name_of(state.barrier_where) + " and, thread " + name_of(self.index) + ", " + name +
         " at " + name_of(where));
  state.barrier_sum += value != 0;
  ++state.at_barrier;
  self.what = name;
  self.where = where;
  if (!end_barrier()) {
    self.waits = waits_for::block;
    to_scheduler(false);
  }
  return state.barrier_result;
}

void wait_until(const char* name, const std::function<bool()>& ready, std::source_location where) {
  fiber& self = current();
  if (ready()) return;
  self.condition = &ready;
  self.waits = waits_for::condition;
  self.what = name;
  self.where = where;
  ++state.at_conditions;
  to_scheduler(false);
}

void arrive_at_named_barrier(int id, int threads) {
  current();
  named_barrier& barrier = state.named_barriers.at(static_cast<std::size_t>(id));
  if (++barrier.arrived < threads) return;
  barrier.arrived = 0;
  ++barrier.ended;
}

void meet_named_barrier(int id, int threads, std::source_location where) {
  const named_barrier& barrier = state.named_barriers.at(static_cast<std::size_t>(id));
  const std::uint64_t ended = barrier.ended;
  arrive_at_named_barrier(id, threads);
  wait_until(
      "a named barrier", [&] { return barrier.ended != ended; }, where);
}

void let_others_run() {
  fiber& self = current();
  if (state.picks == order::last_come) {
    state.ready.push_front(&self);
  } else {
    state.ready.push_back(&self);
  }
  to_scheduler(false);
}

unsigned live_lanes() { return state.warps[current().number / 32].live; }
int current_lane() { return static_cast<int>(current().number % 32); }

void copy_later(void* shared, const void* global, bool valid) {
  fiber& self = current();
  if (reinterpret_cast<std::uintptr_t>(shared) % 16 != 0 ||
      (valid && reinterpret_cast<std::uintptr_t>(global) % 16 != 0))
    fail("thread " + name_of(self.index) + ": copy_async_16 of addresses that 16 does not divide");
  std::memset(shared, 0xFF, 16);
  self.copies.push_back({shared, global, valid, self.groups});
}

void commit_copies() { ++current().groups; }

void wait_for_copies(int groups) {
  fiber& self = current();
  std::erase_if(self.copies, [&](const pending_copy& copy) {
    if (copy.group + groups >= self.groups) return false;
    if (copy.valid) {
      std::memcpy(copy.shared, copy.global, 16);
    } else {
      std::memset(copy.shared, 0, 16);
    }
    return true;
  });
}

}  // namespace dinfer::tests::cuda_on_cpu

// What kernels/cuda/check.hpp and the host side of kernels call of CUDA's runtime.
extern "C" {
__attribute__((weak)) cudaError_t cudaGetLastError() { return cudaSuccess; }
__attribute__((weak)) const char* cudaGetErrorString(cudaError_t) { return "an error of CUDA"; }
__attribute__((weak)) cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes,
                                                  cudaStream_t) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
__attribute__((weak)) cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes,
                                                  cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
}
