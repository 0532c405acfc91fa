// SPDX-License-Identifier: Apache-2.0
// Counters, gauges and histograms that any thread may bump without a lock. Names and labels are
// fixed when a metric is made; making one takes a lock, so keep the reference.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

class counter {
 public:
  void add(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  // For totals kept elsewhere and copied here; never goes back.
  void set_total(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class gauge {
 public:
  void set(double v) noexcept { value_.store(v, std::memory_order_relaxed); }
  double value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class histogram {
 public:
  explicit histogram(std::span<const double> edges);
  void observe(double v) noexcept;
  const std::vector<double>& edges() const noexcept { return edges_; }
  std::uint64_t bucket(std::size_t i) const noexcept {
    return counts_[i].load(std::memory_order_relaxed);
  }  // not cumulative
  double sum() const noexcept { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> edges_;
  std::vector<std::atomic<std::uint64_t>> counts_;  // edges + 1
  std::atomic<double> sum_{0};
};

// Owns metrics and writes the Prometheus text format (0.0.4).
class metrics_registry {
 public:
  using labels = std::vector<std::pair<std::string, std::string>>;
  counter& make_counter(const std::string& name, const std::string& help, const labels& l = {});
  gauge& make_gauge(const std::string& name, const std::string& help, const labels& l = {});
  histogram& make_histogram(const std::string& name, const std::string& help,
                            std::span<const double> edges, const labels& l = {});
  std::string text() const;

 private:
  struct entry {
    std::string name, help;
    labels label;
    const counter* c = nullptr;
    const gauge* g = nullptr;
    const histogram* h = nullptr;
  };
  mutable std::mutex mutex_;
  std::deque<counter> counters_;
  std::deque<gauge> gauges_;
  std::deque<histogram> histograms_;
  std::vector<entry> entries_;
};

}  // namespace dinfer::runtime
