// SPDX-License-Identifier: Apache-2.0
// Host time of one scheduler step, plan and apply, with every sequence decoding, against the budget
// of 100 us. Also the time to pack the plan and to read it back.
#include "runtime/schedule/scheduler.hpp"
#include "runtime/schedule/step_codec.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <vector>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

using clock_type = std::chrono::steady_clock;

// The median: other work on the machine should not count.
double middle(std::vector<clock_type::duration>& times) {
  const auto m = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), m, times.end());
  return std::chrono::duration<double, std::micro>(*m).count();
}

step_result answer(const step_plan& p) {
  step_result r{p.epoch, p.step, {}, 0};
  for (const sequence_step& s : p.sequences)
    if (s.sample) r.sequences.push_back({s.slot, {{7, 0, {}}}, {}});
  return r;
}

void measure(std::uint32_t sequences, std::uint32_t stages) {
  scheduler_config c;
  c.max_num_seqs = sequences;
  c.groups = {{sequences * 80, 0}};
  c.stages = stages;
  c.max_in_flight = stages + 1;
  scheduler s(c);
  for (request_id id = 1; id <= sequences; ++id) {
    generate_request r;
    r.id = id;
    r.prompt.assign(64, static_cast<token_id>(id));
    r.sampling.max_tokens = 1000;
    if (!s.add(std::move(r))) return;
  }
  std::deque<step_result> results;
  std::vector<clock_type::duration> planning, applying, packing;
  std::size_t bytes = 0;
  for (std::uint32_t turn = 0; turn < 700; ++turn) {
    const auto a = clock_type::now();
    const auto p = s.plan();
    const auto b = clock_type::now();
    if (p) results.push_back(answer(*p));
    if (p && results.size() < c.max_in_flight) continue;
    const auto d = clock_type::now();
    if (!s.apply(results.front())) return;
    const auto e = clock_type::now();
    results.pop_front();
    if (turn < 100 || !p) continue;
    const auto f = clock_type::now();
    const std::string packed = encode(*p);
    if (!decode_plan(packed)) return;
    packing.push_back(clock_type::now() - f);
    bytes += packed.size();
    planning.push_back(b - a);
    applying.push_back(e - d);
  }
  if (planning.empty()) return;
  const std::size_t mean_bytes = bytes / planning.size();
  const double plan = middle(planning), apply = middle(applying);
  std::printf("%9u %6u %9.1f %9.1f %9.1f %8.2f %9.1f %7zu\n", sequences, stages, plan, apply,
              plan + apply, (plan + apply) / 100, middle(packing), mean_bytes);
}

}  // namespace

int main() {
  std::printf("sequences stages   plan_us  apply_us  total_us  of_100us  codec_us   bytes\n");
  for (const std::uint32_t stages : {1U, 4U})
    for (const std::uint32_t sequences : {1U, 64U, 256U}) measure(sequences, stages);
  return 0;
}
