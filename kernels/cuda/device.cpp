// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime behind kernels/device.hpp. Calls may come from another thread than the one that
// opened the device (an embedded engine may be moved): each makes its GPU the current one first.
#include "kernels/cuda/device.hpp"

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/nccl.hpp"
#include "kernels/cuda/nccl_communicator.hpp"
#include "kernels/cuda/ops.hpp"
#include "kernels/cuda/peer_memory.hpp"
#include "kernels/device_software.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <thread>

namespace dinfer::kernels::cuda {

namespace {

constexpr int least_major = 8;  // bf16 tensor cores
constexpr std::size_t allocation_alignment = 256;

bool multiplies_fp8(int major, int minor) { return major > 8 || (major == 8 && minor >= 9); }

void use(int index) { check(cudaSetDevice(index), "choosing the GPU"); }

// "580.159.04": of the kernel's module; CUDA itself knows the newest CUDA of a driver only.
std::string driver_version() {
  std::string version = "unknown";
  std::ifstream("/sys/module/nvidia/version") >> version;
  return version;
}

class cuda_event final : public event {
 public:
  cuda_event(int index, cudaStream_t stream) : index_(index), stream_(stream) {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
  }
  ~cuda_event() override { (void)cudaEventDestroy(event_); }
  cuda_event(const cuda_event&) = delete;
  cuda_event& operator=(const cuda_event&) = delete;

  void record() override { check(cudaEventRecord(event_, stream_), "recording an event"); }

  // CUDA's own wait has no deadline. Most waits are a part of a step, some milliseconds: looking
  // every few tens of microseconds costs next to nothing.
  void wait(std::chrono::milliseconds deadline) override {
    using clock = std::chrono::steady_clock;
    constexpr auto busy = std::chrono::microseconds(30);
    constexpr auto nap = std::chrono::microseconds(20);
    use(index_);
    const auto begin = clock::now();
    while (true) {
      const cudaError_t state = cudaEventQuery(event_);
      if (state == cudaSuccess) return expect_all_came();
      if (state != cudaErrorNotReady) check(state, "a step on the GPU");
      const auto waited = clock::now() - begin;
      if (waited > deadline) {
        throw device_error(errc::timeout,
                           "cuda:" + std::to_string(index_) + ": the GPU did not finish within " +
                               std::to_string(deadline.count()) + " ms",
                           missing_peer(index_));
      }
      if (waited > busy) std::this_thread::sleep_for(nap);
    }
  }

 private:
  // A kernel that waited too long for a peer may have gone on without.
  void expect_all_came() const {
    const std::int32_t peer = missing_peer(index_);
    if (peer >= 0)
      throw device_error(errc::timeout, "cuda:" + std::to_string(index_) + ": a peer came too late",
                         peer);
  }

  int index_;
  cudaStream_t stream_;
  cudaEvent_t event_ = nullptr;
};

class cuda_graph final : public graph {
 public:
  cuda_graph(cudaStream_t stream, cudaGraphExec_t recorded)
      : stream_(stream), recorded_(recorded) {}
  ~cuda_graph() override { (void)cudaGraphExecDestroy(recorded_); }
  cuda_graph(const cuda_graph&) = delete;
  cuda_graph& operator=(const cuda_graph&) = delete;
  void replay() override { check(cudaGraphLaunch(recorded_, stream_), "replaying a step"); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t recorded_;
};

class cuda_device final : public device {
 public:
  cuda_device(int index, const device_options& options) : index_(index) {
    use(index);
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, index), "reading the GPU's properties");
    if (p.major < least_major) {
      throw device_error(errc::unavailable, std::string(p.name) + " has compute capability " +
                                                std::to_string(p.major) + "." +
                                                std::to_string(p.minor) +
                                                "; 8.0 or later is needed");
    }
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    const device_memory memory = memory_of(index);
    traits_.name = "cuda:" + std::to_string(index);
    traits_.description = p.name;
    traits_.memory_bytes = memory.total_bytes;
    traits_.free_bytes = memory.free_bytes;
    traits_.default_block_size = 32;
    traits_.asynchronous = traits_.graphs = true;
    traits_.fp8 = multiplies_fp8(p.major, p.minor);
    traits_.activation = options.activation.value_or(dtype::bf16);
    ops_.emplace(*this, stream_, index, p, options);
  }

  ~cuda_device() override {
    (void)cudaSetDevice(index_);
    ops_.reset();
    (void)cudaStreamDestroy(stream_);
  }
  cuda_device(const cuda_device&) = delete;
  cuda_device& operator=(const cuda_device&) = delete;

  const device_traits& traits() const noexcept override { return traits_; }
  device_software software() const override {
    int runtime = 0;
    check(cudaRuntimeGetVersion(&runtime), "asking for CUDA's version");
    const std::string nccl = nccl_version();
    return {driver_version(),
            "CUDA " + std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10),
            nccl.empty() ? "" : "NCCL " + nccl};
  }
  std::uint64_t free_bytes() const override { return memory_of(index_).free_bytes; }

  buffer allocate(std::size_t bytes, bool zeroed) override {
    if (bytes == 0) return {};
    use(index_);
    void* data = nullptr;
    if (cudaMalloc(&data, bytes) != cudaSuccess) {
      (void)cudaGetLastError();
      throw device_error(errc::out_of_memory,
                         traits_.name + ": " + std::to_string(bytes) + " bytes were asked for, " +
                             std::to_string(memory_of(index_).free_bytes) + " are free");
    }
    buffer made(this, data, bytes);
    if (zeroed) check(cudaMemsetAsync(data, 0, bytes, stream_), "clearing memory");
    return made;
  }

  buffer allocate_host(std::size_t bytes) override {
    use(index_);
    void* data = nullptr;
    const std::size_t least = bytes > 0 ? bytes : allocation_alignment;
    check(cudaHostAlloc(&data, least, cudaHostAllocDefault), "pinning host memory");
    buffer made(this, data, bytes, memory_kind::host);
    std::fill_n(static_cast<std::byte*>(data), least, std::byte{0});
    return made;
  }

  void upload(void* to, const void* from_host, std::size_t bytes) override {
    upload_async(to, from_host, bytes);
    wait();
  }
  void download(void* to_host, const void* from, std::size_t bytes) override {
    download_async(to_host, from, bytes);
    wait();
  }
  void upload_async(void* to, const void* from_host, std::size_t bytes) override {
    copy(to, from_host, bytes, cudaMemcpyHostToDevice);
  }
  void download_async(void* to_host, const void* from, std::size_t bytes) override {
    copy(to_host, from, bytes, cudaMemcpyDeviceToHost);
  }

  std::unique_ptr<event> make_event() override {
    use(index_);
    return std::make_unique<cuda_event>(index_, stream_);
  }

  void synchronize() override {
    use(index_);
    ops_->finish_weights();
    wait();
  }

  void begin_capture() override {
    use(index_);
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a step");
  }

  std::unique_ptr<graph> end_capture() override {
    cudaGraph_t steps = nullptr;
    check(cudaStreamEndCapture(stream_, &steps), "recording a step");
    cudaGraphExec_t recorded = nullptr;
    const cudaError_t made = cudaGraphInstantiate(&recorded, steps, 0);
    (void)cudaGraphDestroy(steps);
    check(made, "preparing a recorded step");
    return std::make_unique<cuda_graph>(stream_, recorded);
  }

  kernels::ops& ops() noexcept override { return *ops_; }

  std::string make_group_id() override {
    use(index_);
    return make_nccl_id();
  }
  std::unique_ptr<communicator> join_group(const group_place& place) override {
    use(index_);
    return join_nccl_group(*this, stream_, index_, place);
  }

 private:
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    use(index_);
    check(cudaMemcpyAsync(to, from, bytes, kind, stream_), "copying");
  }
  void wait() { check(cudaStreamSynchronize(stream_), "waiting for the GPU"); }

  void release(void* data, std::size_t, memory_kind kind) noexcept override {
    (void)cudaSetDevice(index_);
    (void)(kind == memory_kind::host ? cudaFreeHost(data) : cudaFree(data));
  }

  int index_;
  device_traits traits_;
  cudaStream_t stream_ = nullptr;
  std::optional<cuda_ops> ops_;
};

// The GPU is there, and the driver is not older than this build.
void check_present(std::int32_t index) {
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  int driver = 0;
  if (found == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess &&
      driver == 0) {
    throw device_error(errc::unavailable, "this machine has no NVIDIA driver");
  }
  if (found != cudaSuccess) {
    throw device_error(errc::unavailable,
                       std::string("no GPU can be used: ") + cudaGetErrorString(found));
  }
  if (index >= count) {
    throw device_error(errc::unavailable, "there are " + std::to_string(count) +
                                              " GPUs: cuda:0 to cuda:" + std::to_string(count - 1));
  }
}

// Leaves a failure's reason in `message` and returns false.
template <class Work>
bool told(char* message, std::size_t size, Work work) {
  try {
    work();
    return true;
  } catch (const std::exception& e) {
    std::snprintf(message, size, "%s", e.what());
    return false;
  }
}

}  // namespace

std::unique_ptr<device> open(std::int32_t index, const device_options& options) {
  check_present(index);
  return std::make_unique<cuda_device>(index, options);
}

device_memory memory_of(std::int32_t index) {
  check_present(index);
  use(index);
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
        "asking for the compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
        "asking for the compute capability");
  return {total, free, multiplies_fp8(major, minor)};
}

}  // namespace dinfer::kernels::cuda

// The plugin's two entry points; kernels/open_device.cpp calls them.
extern "C" {

__attribute__((visibility("default"))) dinfer::kernels::device* dinfer_cuda_open(
    std::int32_t index, const dinfer::kernels::device_options* options, char* message,
    std::size_t size) {
  dinfer::kernels::device* opened = nullptr;
  dinfer::kernels::cuda::told(
      message, size, [&] { opened = dinfer::kernels::cuda::open(index, *options).release(); });
  return opened;
}

__attribute__((visibility("default"))) bool dinfer_cuda_memory(
    std::int32_t index, dinfer::kernels::device_memory* memory, char* message, std::size_t size) {
  return dinfer::kernels::cuda::told(message, size,
                                     [&] { *memory = dinfer::kernels::cuda::memory_of(index); });
}
}
