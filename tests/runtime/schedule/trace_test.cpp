// SPDX-License-Identifier: Apache-2.0
// Thousands of random traces, each from its own seed.
#include "tests/runtime/schedule/trace.hpp"
#include "tests/support/catch.hpp"

using namespace dinfer::test;

namespace {

trace_figures run_traces(std::uint64_t first, std::uint64_t count, std::uint32_t scale) {
  trace_figures sum;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const trace_figures f = run_trace(seed, scale);
    sum.steps += f.steps;
    sum.preemptions += f.preemptions;
    sum.prefix_hits += f.prefix_hits;
    sum.tokens += f.tokens;
    sum.restarts += f.restarts;
    sum.stopped += f.stopped;
    sum.cut += f.cut;
    sum.cancelled += f.cancelled;
    sum.refused += f.refused;
  }
  return sum;
}

}  // namespace

TEST_CASE("every request gets the tokens it would have got alone, whatever happens around it") {
  const trace_figures f = run_traces(1, 3000, 1);
  INFO("steps " << f.steps << " preemptions " << f.preemptions << " hits " << f.prefix_hits
                << " tokens " << f.tokens << " stopped " << f.stopped << " cut " << f.cut
                << " cancelled " << f.cancelled << " refused " << f.refused << " restarts "
                << f.restarts);
  // The traces must really visit what they are for.
  CHECK(f.preemptions > 1000);
  CHECK(f.prefix_hits > 10'000);
  CHECK(f.stopped > 1000);
  CHECK(f.cut > 1000);
  CHECK(f.cancelled > 100);
  CHECK(f.refused > 100);
  CHECK(f.restarts > 100);
}

TEST_CASE("long traces leak nothing and starve nobody") {
  const trace_figures f = run_traces(1'000'000, 60, 25);
  CHECK(f.tokens > 60 * 25);
}
