// SPDX-License-Identifier: Apache-2.0
// How the benchmarks whose rows are kept print them, and end: one JSON object a row on stdout;
// bench/rows.py adds bounds and peers. Any thread.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace dinfer::bench {

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "bench: %s\n", why.c_str());
  std::exit(1);
}

inline void print(const std::string& row, double value, const std::string& unit) {
  std::printf("{\"workload\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"}\n", row.c_str(), value,
              unit.c_str());
  std::fflush(stdout);
}

}  // namespace dinfer::bench
