// SPDX-License-Identifier: Apache-2.0
// One compute device as the runner sees it: memory, copies, one stream of work, and the operations
// of ops.hpp. A device belongs to one thread, which calls it in order; other threads touch it only
// where a call says so. Failures of a device or collective throw `device_error`; the runner catches
// it, in load, connect and execute, and nothing else does.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/tensor.hpp"

#include <cstdint>
#include <memory>
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

class device;
class ops;

// Owned device memory, 64-byte aligned. Freed by the device that made it; movable, not copyable.
class buffer {
 public:
  buffer() = default;
  buffer(device* owner, void* data, std::size_t bytes) noexcept
      : owner_(owner), data_(data), bytes_(bytes) {}
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
  }
  device* owner_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
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
  bool graphs = false;                    // begin_capture works
  dtype default_activation = dtype::f32;
};

class device {
 public:
  virtual ~device() = default;
  virtual const device_traits& traits() const noexcept = 0;

  // Throws device_error{out_of_memory}. `zeroed` buffers start as zeros, others as anything.
  virtual buffer allocate(std::size_t bytes, bool zeroed) = 0;

  // In stream order. Host memory may be reused when the call returns.
  virtual void upload(void* to, const void* from_host, std::size_t bytes) = 0;
  virtual void download(void* to_host, const void* from, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  // Between the two, operations are recorded and not run. Only where traits().graphs.
  virtual void begin_capture();
  virtual std::unique_ptr<graph> end_capture();

  virtual kernels::ops& ops() noexcept = 0;

 private:
  friend class buffer;
  virtual void release(void* data, std::size_t bytes) noexcept = 0;
};

struct device_options {
  std::uint32_t cpu_threads = 1;
  // First core for the CPU device's threads, -1: not pinned.
  std::int32_t first_core = -1;
};

// "cpu:0" opens the CPU backend; "cuda:N" loads the CUDA plugin (libdinfer_cuda.so) and says in one
// line why when it cannot. Errors: not_found for an unknown name, unavailable when the backend is
// not there.
result<std::unique_ptr<device>> open_device(const std::string& name, const device_options& options);

}  // namespace dinfer::kernels
