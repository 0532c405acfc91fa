// SPDX-License-Identifier: Apache-2.0
// One compute device as the runner sees it: memory, copies, one stream of work, and the operations
// of ops.hpp. A device belongs to one thread, which calls it in order; other threads touch it only
// where a call says so. Failures of a device or collective throw `device_error`; the runner alone
// catches it, in load, connect, check, execute and where it waits for an event. On an asynchronous
// device (a GPU) calls return once the work is in the stream; what it wrote is known when an event
// that was recorded after it has passed, or after synchronize().
#pragma once

#include "dinfer/error.hpp"
#include "kernels/tensor.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace dinfer::kernels {

class device_error : public std::runtime_error {
 public:
  device_error(errc code, const std::string& what, std::int32_t peer = -1)
      : std::runtime_error(what), code_(code), peer_(peer) {}
  errc code() const noexcept { return code_; }
  std::int32_t peer() const noexcept { return peer_; }  // the rank that was waited for, or -1

 private:
  errc code_;
  std::int32_t peer_;
};

class communicator;
class device;
class ops;
struct device_software;  // device_software.hpp
struct group_place;

enum class memory_kind : std::uint8_t { device, host };

// Owned memory of a device or, pinned, of its host; 64-byte aligned (256 on CUDA). Freed by the
// device that made it; movable, not copyable.
class buffer {
 public:
  buffer() = default;
  buffer(device* owner, void* data, std::size_t bytes,
         memory_kind kind = memory_kind::device) noexcept
      : owner_(owner), data_(data), bytes_(bytes), kind_(kind) {}
  buffer(buffer&& other) noexcept { swap(other); }
  buffer& operator=(buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~buffer();

  void* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  void swap(buffer& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(kind_, other.kind_);
  }
  device* owner_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  memory_kind kind_ = memory_kind::device;
};

// A point in a device's stream of work, recorded again and again.
class event {
 public:
  virtual ~event() = default;
  virtual void record() = 0;  // the device's thread
  // Returns once everything in the stream before record() is done; at once when nothing was
  // recorded. Throws device_error: timeout, or what failed on the device. Any thread, after
  // record().
  virtual void wait(std::chrono::milliseconds deadline) = 0;
};

// A recorded sequence of operations that can be replayed with the same addresses (a CUDA graph).
class graph {
 public:
  virtual ~graph() = default;
  virtual void replay() = 0;
};

struct device_traits {
  std::string name;                       // "cpu:0", "cuda:1"
  std::string description;                // "AMD EPYC, AVX-512, 2 threads"
  std::uint64_t memory_bytes = 0;         // in all
  std::uint64_t free_bytes = 0;           // when opened
  std::uint32_t default_block_size = 16;  // tokens per KV block that its kernels like
  bool host_memory = false;               // device pointers may be read by the host
  bool asynchronous = false;              // calls return before the work is done
  bool graphs = false, fp8 = false;  // begin_capture works; prepare_options::fp8 and f8_e4m3 pages
  dtype activation = dtype::f32;     // of activations, and of KV pages that are not f8_e4m3
};

class device {
 public:
  virtual ~device() = default;
  virtual const device_traits& traits() const noexcept = 0;
  virtual device_software software() const;
  // Of its memory, now.
  virtual std::uint64_t free_bytes() const { return traits().free_bytes; }

  // Throws device_error{out_of_memory}. `zeroed` buffers start as zeros, others as anything.
  virtual buffer allocate(std::size_t bytes, bool zeroed) = 0;
  // Host memory, zeroed, that the device copies from and to by itself.
  virtual buffer allocate_host(std::size_t bytes) = 0;

  // In stream order. Host memory may be reused when the call returns.
  virtual void upload(void* to, const void* from_host, std::size_t bytes) = 0;
  virtual void download(void* to_host, const void* from, std::size_t bytes) = 0;
  // The same between device and allocate_host() memory, which must stay as it is until the copy is
  // done: nothing waits.
  virtual void upload_async(void* to, const void* from_host, std::size_t bytes) = 0;
  virtual void download_async(void* to_host, const void* from, std::size_t bytes) = 0;
  virtual std::unique_ptr<event> make_event() = 0;
  virtual void synchronize() = 0;

  // Between the two, operations are recorded and not run. Only where traits().graphs.
  virtual void begin_capture();
  virtual std::unique_ptr<graph> end_capture();

  virtual kernels::ops& ops() noexcept = 0;

  // The name of a new group whose devices move tensors by themselves (NCCL), 128 bytes at most;
  // empty: this device's ranks are joined by their hosts. Throws device_error{unavailable}.
  virtual std::string make_group_id() { return {}; }
  // Meets all members; each calls it on its own thread. The device must outlive the communicator,
  // and graphs in which it was recorded must not. Throws device_error: timeout, unavailable.
  virtual std::unique_ptr<communicator> join_group(const group_place& place);

 private:
  friend class buffer;
  virtual void release(void* data, std::size_t bytes, memory_kind kind) noexcept = 0;
};

struct device_options {
  // device_traits::activation: CUDA f32, bf16 and f16; the CPU f32. Nothing: bf16 on CUDA; the
  // CPU rounds activations to bytes where they meet quantised weights.
  std::optional<dtype> activation;
  // Every row's bits depend on that row alone in bf16 and f16 too (ops.hpp); slower on CUDA.
  bool batch_invariant = false;
  // A directory where CUDA keeps which GEMM was fastest; empty: it is found out at every start.
  std::string tuning_directory;
  std::uint32_t cpu_threads = 1;
  std::int32_t first_core = -1;  // of the CPU device's threads; -1: not pinned
};

// "cpu:0" opens the CPU backend; "cuda:N" loads the CUDA plugin (libdinfer_cuda.so) and says in one
// line why when it cannot. Errors: not_found for an unknown name, unavailable when the backend is
// not there.
result<std::unique_ptr<device>> open_device(const std::string& name, const device_options& options);

struct device_memory {
  std::uint64_t total_bytes = 0, free_bytes = 0;
  bool fp8 = true;  // as device_traits has it
};

// What a device has of its own, without opening it; zeros for "cpu:N". Errors: as open_device.
result<device_memory> query_memory(const std::string& name);

}  // namespace dinfer::kernels
