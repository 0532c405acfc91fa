// SPDX-License-Identifier: Apache-2.0
// Whose memory may be freed when. A rank's memory is written by its peers' kernels, which may be
// some steps behind when the rank leaves the group: they were launched, and wait, or will run yet.
// Freed under them it would be somebody else's, or end their process. So:
// - A rank that leaves has its own kernels end first: the host's abort ends those that wait, later
//   ones find the group dead and store nothing. Only when its stream is empty it says farewell, a
//   word in every peer's memory, by a kernel behind all others.
// - Its own memory is parked until every peer has said farewell, or its process is gone, and its
//   kernels with it. Nobody waits for that: parked memory is looked at whenever a group of this GPU
//   is joined or left. A peer that stays in a dead group costs memory and nothing else.
// - What another process has opened is freed a second later still: its farewell comes before it
//   closes what it opened, and CUDA wants it closed first.
// - Memory of a process that was killed stays valid for those that have opened it, until they close
//   it; farewells do not go there.
// - Recorded steps hold addresses, and are destroyed before the communicator (kernels/device.hpp).
//   A GPU that does not get done in time may write yet: all that it knows of is kept for good.
#include "kernels/cuda/peer_memory.hpp"

#include "kernels/cuda/check.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace dinfer::kernels::cuda {

namespace {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""us;
using steady = std::chrono::steady_clock;

constexpr auto draining = 1s;  // of a leaving rank's stream
constexpr auto closing = 1s;   // of a peer that has said farewell

constexpr std::int32_t unwilling = -1, by_size = 0;

bool set_to(const char* variable, std::string_view value) {
  const char* set = std::getenv(variable);
  return set != nullptr && value == set;
}

// What the environment wants: by_size, a sum_way, or unwilling.
std::int32_t wish() {
  if (set_to("DINFER_PEER_REDUCE", "0") || set_to("NCCL_P2P_DISABLE", "1")) return unwilling;
  if (set_to("DINFER_PEER_REDUCE", "one-shot")) return static_cast<std::int32_t>(sum_way::one_shot);
  if (set_to("DINFER_PEER_REDUCE", "two-shot")) return static_cast<std::int32_t>(sum_way::two_shot);
  return by_size;
}

// Of the running kernel and of what can see this process by its number; NCCL_HOSTID takes GPUs of
// one host for several, as it does for NCCL.
std::uint64_t host_name() {
  std::string name;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> name;
  std::array<char, 64> space{};
  const auto size = readlink("/proc/self/ns/pid", space.data(), space.size());
  if (size > 0) name.append(space.data(), static_cast<std::size_t>(size));
  const char* given = std::getenv("NCCL_HOSTID");
  if (given != nullptr) name += given;
  return std::hash<std::string>{}(name);
}

// When a process was started, in the kernel's ticks; -1 where there is none.
std::int64_t start_of(std::int64_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(file, text);
  const auto name_end = text.rfind(')');  // a name may hold anything
  if (name_end == std::string::npos) return -1;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 3; i < 22; ++i) fields >> skipped;
  std::int64_t started = -1;
  return fields >> started ? started : -1;
}

bool succeeded(cudaError_t code) {
  if (code == cudaSuccess) return true;
  (void)cudaGetLastError();  // it would come back from the next call otherwise
  return false;
}

bool reach_neighbour(int index, int other) {
  int can = 0;
  if (!succeeded(cudaDeviceCanAccessPeer(&can, index, other)) || can == 0) return false;
  const cudaError_t code = cudaDeviceEnablePeerAccess(other, 0);
  return succeeded(code) || code == cudaErrorPeerAccessAlreadyEnabled;
}

// Within `draining`.
bool drained(cudaStream_t stream) {
  const auto until = steady::now() + draining;
  cudaError_t state = cudaStreamQuery(stream);
  while (state == cudaErrorNotReady && steady::now() < until) {
    std::this_thread::sleep_for(50us);
    state = cudaStreamQuery(stream);
  }
  return succeeded(state);
}

std::mutex parking_mutex;

// Those that kernels may wait in.
struct live_groups {
  std::mutex mutex;
  std::vector<std::pair<int, const peer_memory*>> all;  // by GPU
};
live_groups& live() {
  static live_groups groups;
  return groups;
}

}  // namespace

std::int32_t missing_peer(int index) noexcept {
  const std::lock_guard lock(live().mutex);
  for (const auto& [gpu, group] : live().all)
    if (gpu == index && group->missing() >= 0) return group->missing();
  return -1;
}

process_name this_process() { return {getpid(), start_of(getpid())}; }

bool runs(const process_name& process) { return start_of(process.number) == process.started; }

// What a rank says of itself.
struct peer_memory::greeting {
  std::uint64_t host = 0;
  process_name process;
  void* memory = nullptr;
  cudaIpcMemHandle_t handle{};
  std::int32_t device = 0, wish = unwilling;
};

// Memory whose rank has left.
struct peer_memory::parked {
  std::byte* memory = nullptr;
  int index = 0;
  std::int32_t rank = 0;
  std::vector<peer> peers;
  std::optional<steady::time_point> all_left;  // when that was seen

  // Nobody writes to it any more.
  bool idle() {
    peer_control seen{};
    if (!succeeded(cudaMemcpy(&seen, memory, sizeof seen, cudaMemcpyDeviceToHost))) return false;
    const process_name own = this_process();
    bool others = false;
    for (std::size_t q = 0; q < peers.size(); ++q) {
      if (static_cast<std::int32_t>(q) == rank) continue;
      const bool here = peers[q].process == own;
      if (!here && !runs(peers[q].process)) continue;
      if (seen.left[q] == 0) return false;
      others = others || !here;
    }
    if (!all_left) all_left = steady::now();
    return !others || steady::now() - *all_left > closing;
  }
};

std::vector<peer_memory::parked>& peer_memory::parking() {
  static std::vector<parked> places;
  return places;
}

void peer_memory::free_parked(int index) {
  const std::lock_guard lock(parking_mutex);
  std::vector<parked>& places = parking();
  for (std::size_t i = places.size(); i-- > 0;) {
    parked& one = places[i];
    if (one.index != index || !one.idle()) continue;
    (void)succeeded(cudaFree(one.memory));
    places.erase(places.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

peer_memory::peer_memory(int index, const group_place& place)
    : index_(index),
      group_(peer_layout(place.rank, place.size)),
      peers_(static_cast<std::size_t>(place.size)) {
  using std::chrono::nanoseconds;
  // Before the host's own wait ends, so that it knows who is missing.
  group_.patience_ns = static_cast<std::uint64_t>(nanoseconds(place.deadline).count()) / 8 * 7;
}

// Takes memory, makes it ready, and loads the kernels.
void peer_memory::prepare() {
  void* memory = nullptr;
  void* notes = nullptr;
  check(cudaHostAlloc(&notes, sizeof(peer_notes), cudaHostAllocPortable), "notes");
  group_.notes = new (notes) peer_notes;
  check(cudaMalloc(&memory, static_cast<std::size_t>(group_.bytes)), "memory for sums");
  auto* bytes = group_.memory[group_.rank] = static_cast<std::byte*>(memory);
  check(cudaMemset(bytes, 0, slots_at), "clearing memory");
  check(cudaMemset(bytes + slots_at, 0xFF, static_cast<std::size_t>(group_.scatter_at - slots_at)),
        "clearing memory");
  check(cudaStreamSynchronize(nullptr), "clearing memory");
  load_peer_kernels(group_.ranks);
  load_peer_norm_kernels(group_.ranks);
}

peer_memory::greeting peer_memory::introduce() {
  greeting out;
  out.host = host_name();
  out.process = this_process();
  out.device = index_;
  out.wish = wish();
  if (out.wish == unwilling) return out;
  try {
    prepare();
    out.memory = group_.memory[group_.rank];
    (void)succeeded(cudaIpcGetMemHandle(&out.handle, out.memory));  // one process does without
  } catch (const device_error&) {                                   // then sums are NCCL's
    out.wish = unwilling;
  }
  return out;
}

bool peer_memory::reach(const std::vector<greeting>& all) {
  const greeting& own = all[static_cast<std::size_t>(group_.rank)];
  for (std::size_t q = 0; q < all.size(); ++q) {
    const greeting& other = all[q];
    peers_[q].process = other.process;
    if (other.wish == unwilling || other.wish != own.wish || other.host != own.host) return false;
    if (&other == &own) continue;
    if (other.process == own.process) {
      if (!reach_neighbour(index_, other.device)) return false;
      group_.memory[q] = static_cast<std::byte*>(other.memory);
      continue;
    }
    if (!succeeded(cudaIpcOpenMemHandle(&peers_[q].opened, other.handle,
                                        cudaIpcMemLazyEnablePeerAccess))) {
      peers_[q].opened = nullptr;
      return false;
    }
    group_.memory[q] = static_cast<std::byte*>(peers_[q].opened);
  }
  if (own.wish != by_size) forced_ = static_cast<sum_way>(own.wish);
  return true;
}

std::shared_ptr<peer_memory> peer_memory::meet(int index, const group_place& place,
                                               const tell_all& tell) {
  if (place.size < 2 || place.size > most_peers) return nullptr;
  free_parked(index);
  std::shared_ptr<peer_memory> made(new peer_memory(index, place));
  const greeting own = made->introduce();
  std::vector<greeting> all(static_cast<std::size_t>(place.size));
  if (!tell(&own, all.data(), sizeof own)) return nullptr;
  const std::uint32_t reached = made->reach(all) ? 1 : 0;  // NCCL reads words of smaller ones too
  std::vector<std::uint32_t> of_all(all.size());
  made->shared_ = reached == 1;  // whoever hears this of all may begin
  if (!tell(&reached, of_all.data(), sizeof reached)) return nullptr;
  if (std::count(of_all.begin(), of_all.end(), 1U) < place.size) {
    made->shared_ = false;
    return nullptr;
  }
  const std::lock_guard lock(live().mutex);
  live().all.emplace_back(index, made.get());
  return made;
}

peer_memory::~peer_memory() {
  {
    const std::lock_guard lock(live().mutex);
    std::erase(live().all, std::pair<int, const peer_memory*>(index_, this));
  }
  (void)cudaSetDevice(index_);
  if (shared_ && !left_) return;  // something may yet be written, by us or to us
  for (const peer& one : peers_) {
    if (one.opened != nullptr) (void)succeeded(cudaIpcCloseMemHandle(one.opened));
  }
  if (group_.notes != nullptr) (void)succeeded(cudaFreeHost(group_.notes));
  std::byte* own = group_.memory[group_.rank];
  if (!shared_) {
    if (own != nullptr) (void)succeeded(cudaFree(own));
    return;
  }
  {
    const std::lock_guard lock(parking_mutex);
    parking().push_back({own, index_, group_.rank, peers_, steady::now()});
  }
  free_parked(index_);
}

void peer_memory::abort() noexcept {
  std::atomic_ref(group_.notes->aborted).store(1, std::memory_order_release);
}

std::int32_t peer_memory::missing() const noexcept {
  if (std::atomic_ref(group_.notes->aborted).load(std::memory_order_acquire) != 0) return -1;
  const auto noted = std::atomic_ref(group_.notes->missing).load(std::memory_order_acquire);
  return static_cast<std::int32_t>(noted) - 1;
}

void peer_memory::leave(cudaStream_t stream) noexcept {
  (void)cudaSetDevice(index_);
  if (!drained(stream)) return;
  peer_group farewell = group_;
  const process_name own = this_process();
  for (std::size_t q = 0; q < peers_.size(); ++q) {
    if (!(peers_[q].process == own) && !runs(peers_[q].process)) farewell.memory[q] = nullptr;
  }
  try {
    say_farewell(farewell, stream);
  } catch (const device_error&) {
    return;
  }
  left_ = drained(stream);
}

}  // namespace dinfer::kernels::cuda
