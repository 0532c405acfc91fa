// SPDX-License-Identifier: Apache-2.0
// NCCL's own waits know no deadline, so two of its calls have threads of their own: joining, which
// waits for all members, and aborting, which waits until no graph holds the group any more. Either
// may outlive the communicator; what it needs lies in `shared`. NCCL's non-blocking mode would
// bound joining too, but starts a thread for every single operation. Sums that are not large go
// through memory of our own (peer_sum.hpp) where all ranks can.
#include "kernels/cuda/nccl_communicator.hpp"

#include "kernels/cuda/background.hpp"
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/nccl.hpp"
#include "kernels/cuda/peer_memory.hpp"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

namespace dinfer::kernels::cuda {

namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

constexpr auto enqueue_patience = 500ms;  // of an abort for an operation that is being enqueued
constexpr auto between_looks = 20ms;      // of who waits for joining, at `aborted`
constexpr auto farewell = 1s;             // of the destructor for NCCL's memory

// What the threads of one group share.
struct group_state {
  std::timed_mutex enqueue;  // held during NCCL's calls: an abort frees what they use
  std::mutex mutex;          // for what follows
  std::condition_variable changed;
  ncclComm_t comm = nullptr;
  std::shared_ptr<peer_memory> peers;  // null: all sums are NCCL's
  std::string failure;                 // of joining
  bool joined = false;                 // or failed to, and then without a communicator
  bool given_up = false;
  bool aborted = false;
  bool gone = false;  // NCCL has let go of it
};

void let_go(group_state& state, ncclComm_t comm) {
  if (comm != nullptr) (void)nccl().abort(comm);
  const std::lock_guard lock(state.mutex);
  state.gone = true;
  state.changed.notify_all();
}

// Messages to a neighbour connect when the first one is sent: here, where all are present.
ncclResult_t greet_neighbours(ncclComm_t comm, const group_place& place) {
  cudaStream_t stream = nullptr;
  void* memory = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess ||
      cudaMalloc(&memory, 2) != cudaSuccess) {
    return ncclUnhandledCudaError;
  }
  auto* bytes = static_cast<std::byte*>(memory);
  ncclResult_t code = nccl().group_start();
  if (code == ncclSuccess && place.rank + 1 < place.size)
    code = nccl().send(bytes, 1, ncclUint8, place.rank + 1, comm, stream);
  if (code == ncclSuccess && place.rank > 0)
    code = nccl().recv(bytes + 1, 1, ncclUint8, place.rank - 1, comm, stream);
  const ncclResult_t ended = nccl().group_end();
  const bool done = cudaStreamSynchronize(stream) == cudaSuccess;
  (void)cudaFree(memory);
  (void)cudaStreamDestroy(stream);
  if (code == ncclSuccess) code = ended;
  return code == ncclSuccess && !done ? ncclUnhandledCudaError : code;
}

// An all-gather of what the host has. NCCL must not be called once an abort has taken `comm`, which
// it does under `enqueue`.
bool tell_all(group_state& state, ncclComm_t comm, std::int32_t ranks, cudaStream_t stream,
              const void* mine, void* of_all, std::size_t bytes) {
  const auto going_on = [&] {
    const std::lock_guard lock(state.mutex);
    return state.comm == comm && !state.given_up && !state.aborted;
  };
  const std::size_t all = bytes * static_cast<std::size_t>(ranks);
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes + all) != cudaSuccess) return false;
  auto* in = static_cast<std::byte*>(memory);
  bool told = cudaMemcpyAsync(in, mine, bytes, cudaMemcpyHostToDevice, stream) == cudaSuccess;
  if (told) {
    const std::lock_guard lock(state.enqueue);
    told = going_on() &&
           nccl().all_gather(in, in + bytes, bytes, ncclUint8, comm, stream) == ncclSuccess;
  }
  told = told &&
         cudaMemcpyAsync(of_all, in + bytes, all, cudaMemcpyDeviceToHost, stream) == cudaSuccess;
  told = cudaStreamSynchronize(stream) == cudaSuccess && told && going_on();
  (void)cudaFree(memory);
  return told;
}

std::shared_ptr<peer_memory> meet_peers(group_state& state, ncclComm_t comm, int index,
                                        const group_place& place) {
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return nullptr;
  auto peers =
      peer_memory::meet(index, place, [&](const void* mine, void* of_all, std::size_t bytes) {
        return tell_all(state, comm, place.size, stream, mine, of_all, bytes);
      });
  (void)cudaStreamDestroy(stream);
  return peers;
}

// Runs on a thread of its own.
void join(const std::shared_ptr<group_state>& state, int index, const group_place& place) {
  ncclUniqueId id;
  std::memcpy(id.internal, place.id.data(), sizeof id.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  ncclComm_t comm = nullptr;
  (void)cudaSetDevice(index);
  ncclResult_t code = nccl().init_rank(&comm, place.size, id, place.rank, &config);
  if (code != ncclSuccess) comm = nullptr;  // NCCL has dealt with it
  {
    const std::lock_guard lock(state->mutex);
    state->comm = comm;  // whoever gives up aborts it from here on
    if (state->given_up) code = ncclInternalError;
  }
  if (code == ncclSuccess && place.neighbours) {
    const std::lock_guard lock(state->enqueue);
    code = greet_neighbours(comm, place);
  }
  std::shared_ptr<peer_memory> peers;
  if (code == ncclSuccess) peers = meet_peers(*state, comm, index, place);
  {
    const std::lock_guard lock(state->mutex);
    state->joined = true;
    if (code != ncclSuccess) state->failure = nccl_failure("joining", code, nullptr);
    state->changed.notify_all();
    if (code == ncclSuccess && !state->given_up) {
      state->peers = std::move(peers);
      return;
    }
    comm = std::exchange(state->comm, nullptr);
  }
  if (peers) peers->leave(nullptr);  // nothing was launched
  if (comm != nullptr) (void)nccl().abort(comm);
}

// Runs on a thread of its own. Kernels that wait for peers end first, then NCCL waits for graphs.
void abort_group(const std::shared_ptr<group_state>& state, int index) {
  // An operation that is stuck in a full launch queue is let go by the abort itself.
  std::unique_lock lock(state->enqueue, enqueue_patience);
  ncclComm_t comm = nullptr;
  {
    const std::lock_guard guard(state->mutex);
    comm = std::exchange(state->comm, nullptr);
  }
  (void)cudaSetDevice(index);
  if (lock.owns_lock()) lock.unlock();  // `comm` is ours alone
  let_go(*state, comm);
}

void start_abort(const std::shared_ptr<group_state>& state, int index) noexcept {
  {
    const std::lock_guard lock(state->mutex);
    if (std::exchange(state->aborted, true)) return;
    if (state->peers) state->peers->abort();  // NCCL's kernels may come behind
  }
  try {
    run_in_background([state, index] { abort_group(state, index); });
  } catch (const std::system_error&) {  // no thread to be had
    abort_group(state, index);
  }
}

ncclDataType_t summable(const tensor& t) {
  switch (t.type) {
    case dtype::f32:
      return ncclFloat32;
    case dtype::bf16:
      return ncclBfloat16;
    case dtype::f16:
      return ncclFloat16;
    default:
      throw device_error(errc::invalid_argument, "NCCL: sums are of f32, bf16 and f16");
  }
}

std::size_t count_of(const tensor& t) { return static_cast<std::size_t>(t.elements()); }
std::size_t bytes_of(const tensor& t) { return static_cast<std::size_t>(t.bytes()); }

class nccl_communicator final : public communicator {
 public:
  nccl_communicator(device& owner, cudaStream_t stream, int index, group_place place,
                    std::shared_ptr<group_state> state)
      : stream_(stream),
        index_(index),
        place_(std::move(place)),
        state_(std::move(state)),
        word_(owner.allocate(sizeof(float), true)),
        met_(owner.make_event()) {}
  ~nccl_communicator() override {
    abort();
    std::shared_ptr<peer_memory> peers;
    {
      std::unique_lock lock(state_->mutex);
      state_->changed.wait_for(lock, farewell, [this] { return state_->gone; });
      peers = std::move(state_->peers);
    }
    if (peers) peers->leave(stream_);
  }
  nccl_communicator(const nccl_communicator&) = delete;
  nccl_communicator& operator=(const nccl_communicator&) = delete;

  std::int32_t rank() const noexcept override { return place_.rank; }
  std::int32_t size() const noexcept override { return place_.size; }
  std::string_view wires() const noexcept override {
    return state_->peers ? "peer memory and NCCL" : "NCCL";
  }

  void all_reduce(tensor inout) override {
    const ncclDataType_t type = summable(inout);
    const sum_way way = way_of(inout.bytes());
    if (way != sum_way::nccl) {
      const std::lock_guard lock(state_->enqueue);
      (void)usable();
      return peer_sum(state_->peers->group(), way, inout, stream_);
    }
    run("all_reduce", [&](ncclComm_t comm) {
      return nccl().all_reduce(inout.data, inout.data, count_of(inout), type, ncclSum, comm,
                               stream_);
    });
  }

  void all_gather(tensor in, tensor out) override {
    expect(out.bytes() == size() * in.bytes(), "all_gather");
    run("all_gather", [&](ncclComm_t comm) {
      return nccl().all_gather(in.data, out.data, bytes_of(in), ncclUint8, comm, stream_);
    });
  }

  void reduce_scatter(tensor in, tensor out) override {
    expect(in.bytes() == size() * out.bytes() && in.type == out.type, "reduce_scatter");
    const ncclDataType_t type = summable(in);
    run("reduce_scatter", [&](ncclComm_t comm) {
      return nccl().reduce_scatter(in.data, out.data, count_of(out), type, ncclSum, comm, stream_);
    });
  }

  void all_to_all(tensor in, tensor out) override {
    expect(in.bytes() == out.bytes() && in.bytes() % size() == 0, "all_to_all");
    const std::size_t block = bytes_of(in) / static_cast<std::size_t>(size());
    run("all_to_all", [&](ncclComm_t comm) {
      ncclResult_t code = nccl().group_start();
      for (std::int32_t peer = 0; peer < size() && code == ncclSuccess; ++peer) {
        const std::size_t at = block * static_cast<std::size_t>(peer);
        code = nccl().send(in.as<std::byte>() + at, block, ncclUint8, peer, comm, stream_);
        if (code == ncclSuccess)
          code = nccl().recv(out.as<std::byte>() + at, block, ncclUint8, peer, comm, stream_);
      }
      const ncclResult_t ended = nccl().group_end();
      return code != ncclSuccess ? code : ended;
    });
  }

  void broadcast(tensor inout, std::int32_t root) override {
    expect(root >= 0 && root < size(), "broadcast");
    run("broadcast", [&](ncclComm_t comm) {
      return nccl().broadcast(inout.data, inout.data, bytes_of(inout), ncclUint8, root, comm,
                              stream_);
    });
  }

  void send(tensor in, std::int32_t peer) override {
    expect(peer >= 0 && peer < size() && peer != rank(), "send");
    run("send", [&](ncclComm_t comm) {
      return nccl().send(in.data, bytes_of(in), ncclUint8, peer, comm, stream_);
    });
  }

  void recv(tensor out, std::int32_t peer) override {
    expect(peer >= 0 && peer < size() && peer != rank(), "recv");
    run("recv", [&](ncclComm_t comm) {
      return nccl().recv(out.data, bytes_of(out), ncclUint8, peer, comm, stream_);
    });
  }

  void abort() noexcept override { start_abort(state_, index_); }

  // A group lives from one connect to the next; here its ranks only meet.
  void reset(std::uint32_t) override {
    all_reduce(view(word_.data(), dtype::f32, 1));
    met_->record();
    met_->wait(place_.deadline);
    (void)usable();
  }

  // See sum_add_norm().
  bool add_norm(const add_norm_job& job, dtype type) {
    const sum_way way = way_of(row_bytes(type, job.rows * job.columns));
    if (way == sum_way::nccl) return false;
    const std::lock_guard lock(state_->enqueue);
    (void)usable();
    return peer_sum_add_norm(state_->peers->group(), way, job, type, stream_);
  }

 private:
  sum_way way_of(std::int64_t bytes) const {
    return state_->peers ? state_->peers->way_of(bytes) : sum_way::nccl;
  }
  static void expect(bool holds, const char* what) {
    if (!holds)
      throw device_error(errc::invalid_argument,
                         std::string("NCCL ") + what + ": sizes or ranks that do not fit");
  }
  ncclComm_t usable() const {
    const std::lock_guard lock(state_->mutex);
    if (state_->aborted || state_->comm == nullptr)
      throw device_error(errc::cancelled, place_name() + ": NCCL was aborted");
    const std::int32_t late = state_->peers ? state_->peers->missing() : -1;
    if (late >= 0) throw device_error(errc::timeout, place_name() + ": a peer came too late", late);
    return state_->comm;
  }
  std::string place_name() const { return "cuda:" + std::to_string(index_); }

  template <class Call>
  void run(const char* what, Call call) {
    const std::lock_guard lock(state_->enqueue);
    const ncclComm_t comm = usable();
    const ncclResult_t code = call(comm);
    if (code == ncclSuccess) return;
    (void)usable();  // an abort is the reason then
    throw device_error(code == ncclRemoteError ? errc::peer_lost : errc::internal,
                       place_name() + ": NCCL " + nccl_failure(what, code, comm));
  }

  cudaStream_t stream_;
  int index_;
  group_place place_;
  std::shared_ptr<group_state> state_;
  buffer word_;
  std::unique_ptr<event> met_;
};

std::string late(const device& owner, const group_place& place) {
  std::string text = owner.traits().name + ": NCCL did not bring rank " +
                     std::to_string(place.rank) + " of " + std::to_string(place.size) +
                     " to its peers within " + std::to_string(place.deadline.count()) +
                     " ms (NCCL_DEBUG=INFO says more; with several networks NCCL_SOCKET_IFNAME "
                     "names the right one)";
  const char* noted = nccl().last_error(nullptr);
  if (noted != nullptr && *noted != '\0') text += std::string(": ") + noted;
  return text;
}

}  // namespace

bool sum_add_norm(communicator& group, const add_norm_job& job, dtype type) {
  auto* ours = dynamic_cast<nccl_communicator*>(&group);
  return ours != nullptr && ours->add_norm(job, type);
}

std::unique_ptr<communicator> join_nccl_group(device& owner, cudaStream_t stream, int index,
                                              const group_place& place) {
  (void)nccl();  // its absence is told on this thread
  if (place.id.size() != sizeof(ncclUniqueId) || place.rank < 0 || place.rank >= place.size)
    throw device_error(errc::invalid_argument, "NCCL: this is no place in a group");
  const auto state = std::make_shared<group_state>();
  // First, since it takes memory: once it is there it lets go of whatever comes.
  auto made = std::make_unique<nccl_communicator>(owner, stream, index, place, state);
  try {
    run_in_background([state, index, place] { join(state, index, place); });
  } catch (const std::system_error& e) {
    throw device_error(errc::internal, owner.traits().name + ": no thread for NCCL: " + e.what());
  }
  const auto until = std::chrono::steady_clock::now() + place.deadline;
  const auto aborted = [&] { return place.aborted != nullptr && *place.aborted; };
  std::unique_lock lock(state->mutex);
  while (!state->joined && !aborted() && std::chrono::steady_clock::now() < until)
    state->changed.wait_for(lock, between_looks);
  if (!state->joined) {
    state->given_up = true;
    lock.unlock();
    made->abort();
    if (aborted()) throw device_error(errc::cancelled, "joining with NCCL was aborted");
    throw device_error(errc::timeout, late(owner, place));
  }
  if (!state->failure.empty())
    throw device_error(errc::unavailable, owner.traits().name + ": NCCL " + state->failure);
  return made;
}

}  // namespace dinfer::kernels::cuda
