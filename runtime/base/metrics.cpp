// SPDX-License-Identifier: Apache-2.0
// Lock-free bumping, and the Prometheus text format for reading.
#include "runtime/base/metrics.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dinfer::runtime {
namespace {

std::string escaped(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out;
}

std::string label_text(const metrics_registry::labels& labels, const std::string& extra = {}) {
  std::string out;
  for (const auto& [key, value] : labels)
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", key, escaped(value));
  if (!extra.empty()) out += (out.empty() ? "" : ",") + extra;
  return out.empty() ? out : "{" + out + "}";
}

}  // namespace

histogram::histogram(std::span<const double> edges)
    : edges_(edges.begin(), edges.end()), counts_(edges.size() + 1) {}

void histogram::observe(double v) noexcept {
  const auto at = std::lower_bound(edges_.begin(), edges_.end(), v) - edges_.begin();
  counts_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(v, std::memory_order_relaxed);
}

counter& metrics_registry::make_counter(const std::string& name, const std::string& help,
                                        const labels& l) {
  const std::lock_guard lock(mutex_);
  auto& made = counters_.emplace_back();
  entries_.push_back({name, help, l, &made, nullptr, nullptr});
  return made;
}

gauge& metrics_registry::make_gauge(const std::string& name, const std::string& help,
                                    const labels& l) {
  const std::lock_guard lock(mutex_);
  auto& made = gauges_.emplace_back();
  entries_.push_back({name, help, l, nullptr, &made, nullptr});
  return made;
}

histogram& metrics_registry::make_histogram(const std::string& name, const std::string& help,
                                            std::span<const double> edges, const labels& l) {
  const std::lock_guard lock(mutex_);
  auto& made = histograms_.emplace_back(edges);
  entries_.push_back({name, help, l, nullptr, nullptr, &made});
  return made;
}

std::string metrics_registry::text() const {
  const std::lock_guard lock(mutex_);
  // The format wants all samples of one name together, under one HELP and TYPE.
  std::vector<const entry*> sorted;
  for (const auto& e : entries_) sorted.push_back(&e);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](auto* a, auto* b) { return a->name < b->name; });
  std::string out, previous;
  for (const auto* e : sorted) {
    if (e->name != previous) {
      const char* type = e->c != nullptr ? "counter" : e->g != nullptr ? "gauge" : "histogram";
      out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", e->name, e->help, e->name, type);
      previous = e->name;
    }
    if (e->c != nullptr)
      out += fmt::format("{}{} {}\n", e->name, label_text(e->label), e->c->value());
    if (e->g != nullptr)
      out += fmt::format("{}{} {}\n", e->name, label_text(e->label), e->g->value());
    if (e->h != nullptr) {
      std::uint64_t total = 0;
      for (std::size_t i = 0; i <= e->h->edges().size(); ++i) {
        total += e->h->bucket(i);
        const auto edge =
            i < e->h->edges().size() ? fmt::format("{}", e->h->edges()[i]) : std::string("+Inf");
        out += fmt::format("{}_bucket{} {}\n", e->name, label_text(e->label, "le=\"" + edge + "\""),
                           total);
      }
      out += fmt::format("{}_sum{} {}\n{}_count{} {}\n", e->name, label_text(e->label), e->h->sum(),
                         e->name, label_text(e->label), total);
    }
  }
  return out;
}

}  // namespace dinfer::runtime
