// SPDX-License-Identifier: Apache-2.0
// How the benchmarks of apps/dinfer/engine_rows.hpp end and print: one JSON object a row on stdout;
// bench/rows.py adds bounds and peers.
#pragma once

#include "apps/dinfer/engine_rows.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace dinfer::bench {

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "bench: %s\n", why.c_str());
  std::exit(1);
}

inline void print(const apps::figure& row) {
  std::printf("{\"workload\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"}\n", row.workload.c_str(),
              row.value, row.unit.c_str());
  std::fflush(stdout);
}

}  // namespace dinfer::bench
