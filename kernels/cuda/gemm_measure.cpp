// SPDX-License-Identifier: Apache-2.0
// gemm: the measurements that choose who computes a product, and the file that keeps them.
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/gemm.hpp"
#include "kernels/cuda/read_through.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace dinfer::kernels::cuda {

namespace {

constexpr int most_suggestions = 16, most_suggestions_large = 8, most_suggestions_padded = 8;
constexpr std::int64_t large_rows = 512;
constexpr float budget_ms = 12, budget_large_ms = 50;  // of one measure()
constexpr std::size_t finalists = 4, most_samples = 7;

void say(const std::string& problem) { std::fprintf(stderr, "%s\n", problem.c_str()); }

}  // namespace

struct gemm::candidate {
  gemm_choice choice;
  std::vector<float> ms;

  std::string name() const {
    switch (choice.way) {
      case gemm_way::library:
        return "library";
      case gemm_way::padded:
        return "library, padded";
      case gemm_way::skinny:
        return "skinny";
      case gemm_way::swapped:
        return "swapped, height " + std::to_string(choice.algorithm[0]) + ", blocks " +
               std::to_string(choice.algorithm[1]);
    }
    return {};
  }
  float median() const {
    auto sorted = ms;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
  }
};

// Milliseconds of one run in which w comes from memory and x from the cache, as in a step; nothing
// when the algorithm does not run.
std::optional<float> gemm::time_once(const product& p, const gemm_choice& choice) {
  const auto x_elements = (p.rows - 1) * p.ldx + p.k;
  read_through(space_, space_bytes_, space_, stream_);
  read_through(p.x, static_cast<std::size_t>(row_bytes(p.type, x_elements)), space_, stream_);
  check(cudaEventRecord(start_, stream_), "cudaEventRecord");
  const int status = try_run(p, choice);
  check(cudaEventRecord(stop_, stream_), "cudaEventRecord");
  check(cudaEventSynchronize(stop_), "measuring a matrix product");
  if (status != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  float ms = 0;
  check(cudaEventElapsedTime(&ms, start_, stop_), "cudaEventElapsedTime");
  return ms;
}

// Every candidate once, as long as the time allows (the library's favourites come first), and the
// best of them again. A candidate's first run may load its kernel and does not count.
void gemm::time_all(const product& p, std::vector<candidate>& candidates) {
  const float budget = p.rows > large_rows ? budget_large_ms : budget_ms;
  float spent = 0;
  std::vector<candidate> timed;
  for (auto& c : candidates) {
    if (spent > budget * 0.6F) break;
    if (!time_once(p, c.choice)) continue;
    const auto ms = time_once(p, c.choice);
    if (!ms) continue;
    spent += 2 * *ms;
    c.ms.push_back(*ms);
    timed.push_back(std::move(c));
  }
  std::stable_sort(timed.begin(), timed.end(), [](const candidate& a, const candidate& b) {
    return a.ms.front() < b.ms.front();
  });
  if (std::getenv("DINFER_TUNING_LOG") != nullptr) {
    for (const auto& c : timed) {
      std::fprintf(stderr, "%s, rows %lld, n %lld, k %lld: %.2f us, %s\n",
                   std::string(info(p.type).name).c_str(), static_cast<long long>(p.rows),
                   static_cast<long long>(p.n), static_cast<long long>(p.k),
                   1000.0 * static_cast<double>(c.ms.front()), c.name().c_str());
    }
  }
  if (timed.size() > finalists) timed.resize(finalists);
  for (std::size_t sample = 1; sample < most_samples && spent < budget; ++sample) {
    for (auto& c : timed) {
      const auto ms = time_once(p, c.choice);
      if (!ms) continue;
      spent += *ms;
      c.ms.push_back(*ms);
    }
  }
  candidates = std::move(timed);
}

// Null: nothing runs.
const gemm_choice* gemm::measure(const product& p) {
  if (start_ == nullptr) check(cudaEventCreate(&start_), "cudaEventCreate");
  if (stop_ == nullptr) check(cudaEventCreate(&stop_), "cudaEventCreate");
  std::vector<candidate> candidates;
  const int most = p.rows > large_rows ? most_suggestions_large : most_suggestions;
  if (skinny_races(p)) candidates.push_back({choice_of(p, gemm_way::skinny), {}});
  if (swapped_races(p)) {
    for (const auto& plan : swapped_plans(p, options_.hopper_multiprocessors)) {
      gemm_choice choice = choice_of(p, gemm_way::swapped);
      choice.algorithm[0] = static_cast<std::uint64_t>(plan.height);
      choice.algorithm[1] = static_cast<std::uint64_t>(plan.blocks);
      if (fits(p, choice)) candidates.push_back({choice, {}});
    }
  }
  for (auto& choice : suggestions(p, gemm_way::library, most)) candidates.push_back({choice, {}});
  if (p.spare_rows && p.rows < padded_rows) {
    for (auto& choice : suggestions(p, gemm_way::padded, most_suggestions_padded)) {
      candidates.push_back({choice, {}});
    }
  }
  if (candidates.empty() && skinny_plays(p))
    candidates.push_back({choice_of(p, gemm_way::skinny), {}});
  time_all(p, candidates);
  if (candidates.empty()) return nullptr;
  const auto& best = *std::min_element(
      candidates.begin(), candidates.end(),
      [](const candidate& a, const candidate& b) { return a.median() < b.median(); });
  auto& kept = table_[shape_of(p, tuning_bucket(p.rows))];
  kept = best.choice;
  kept.microseconds = 1000.0 * static_cast<double>(best.median());
  save();
  return &kept;
}

void gemm::load() {
  std::string problem;
  const auto found = read_tunings(path_, problem);
  if (!found) return say(problem + "; it is ignored");
  for (const auto& [shape, choice] : *found) {
    product p;
    p.rows = choice.measured_rows;
    p.n = shape.n;
    p.k = shape.k;
    p.ldx = shape.ldx;
    p.ldw = shape.ldw;
    p.ldo = shape.ldo;
    p.type = shape.type;
    p.out_type = shape.out_type;
    p.spare_rows = shape.spare_rows;
    p.x_scales = p.w_scales = static_cast<const float*>(space_);  // some: it asks whether they are
    if (fits(p, choice)) table_.emplace(shape, choice);
  }
}

void gemm::save() {
  if (path_.empty()) return;
  std::string problem;
  auto all = table_;  // and what other devices of this kind have measured meanwhile
  if (const auto found = read_tunings(path_, problem)) all.insert(found->begin(), found->end());
  if (!write_tunings(path_, all, problem)) say(problem);
}

}  // namespace dinfer::kernels::cuda
