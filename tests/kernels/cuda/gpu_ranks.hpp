// SPDX-License-Identifier: Apache-2.0
// Several GPUs of this host as the ranks of a group, each on a thread of its own while it works.
#pragma once

#include "tests/kernels/cuda/gpu_support.hpp"

#include "kernels/communicator.hpp"

#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <thread>

namespace dinfer::tests {

// How many ranks a group may have here: of 2, 3, 4 and 8.
inline std::vector<std::int32_t> group_sizes() {
  std::vector<std::int32_t> sizes;
  for (const std::int32_t ranks : {2, 3, 4, 8})
    if (kernels::query_memory("cuda:" + std::to_string(ranks - 1))) sizes.push_back(ranks);
  return sizes;
}

// An environment variable for as long as this lives.
class variable {
 public:
  variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~variable() { ::unsetenv(name_); }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;

 private:
  const char* name_;
};

class gpu_ranks {
 public:
  gpu_ranks(std::int32_t ranks, kernels::dtype type,
            std::chrono::milliseconds deadline = std::chrono::seconds(60), bool neighbours = false)
      : deadline_(deadline), neighbours_(neighbours) {
    for (std::int32_t i = 0; i < ranks; ++i) {
      kernels::device_options options;
      options.activation = type;
      auto opened = kernels::open_device("cuda:" + std::to_string(i), options);
      if (!opened) FAIL(opened.error().message);
      devices_.push_back(std::move(*opened));
    }
    join();
  }
  void join() {
    groups_.clear();
    groups_.resize(devices_.size());
    const std::string id = devices_[0]->make_group_id();
    run([&](kernels::device& d, std::int32_t rank) {
      groups_[static_cast<std::size_t>(rank)] =
          d.join_group({id, rank, size(), neighbours_, deadline_});
    });
  }
  void leave() { groups_.clear(); }

  std::int32_t size() const { return static_cast<std::int32_t>(devices_.size()); }
  kernels::device& device(std::int32_t i) { return *devices_[static_cast<std::size_t>(i)]; }
  kernels::communicator& rank(std::int32_t i) { return *groups_[static_cast<std::size_t>(i)]; }

  void run(const std::function<void(kernels::device&, std::int32_t)>& work) {
    std::vector<std::string> failures(devices_.size());
    std::vector<std::thread> threads;
    for (std::int32_t i = 0; i < size(); ++i)
      threads.emplace_back([&, i] {
        try {
          work(device(i), i);
        } catch (const std::exception& e) {
          failures[static_cast<std::size_t>(i)] = e.what();
        }
      });
    for (auto& t : threads) t.join();
    for (const auto& failure : failures) {
      INFO(failure);
      REQUIRE(failure.empty());
    }
  }

  // Enqueues `work` on every rank; fails the test when it is not done within the deadline.
  void run_and_wait(const std::function<void(kernels::device&, std::int32_t)>& work) {
    run([&](kernels::device& d, std::int32_t i) {
      const auto done = d.make_event();
      work(d, i);
      done->record();
      done->wait(deadline_);
    });
  }

 private:
  std::chrono::milliseconds deadline_;
  bool neighbours_;  // they will pass on to each other
  std::vector<std::unique_ptr<kernels::device>> devices_;
  std::vector<std::unique_ptr<kernels::communicator>> groups_;
};

}  // namespace dinfer::tests
