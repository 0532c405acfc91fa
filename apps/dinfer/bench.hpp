// SPDX-License-Identifier: Apache-2.0
// `dinfer bench`: how fast a gateway serves streams, one that runs or one of this command's own; or
// how fast the engine is by itself (--offline). Blocking, one thread.
#pragma once

#include "apps/dinfer/server.hpp"
#include "apps/setting_flags.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::apps {

struct bench_options {
  server_options server{{}, {}};  // no url: nodes of its own, where a model or a file is given
  std::string config;
  setting_flags settings;

  std::vector<std::uint32_t> streams;  // one load after another; none: 1, 4 and 16, or no limit
  double rate = 0;                     // requests a second; 0: as many as there are streams, again
                                       // and again
  std::uint32_t requests = 100;        // of a rate
  std::uint32_t repetitions = 3;       // of streams
  std::uint32_t warm_up = 1;           // repetitions before, not measured
  std::uint32_t prompt_tokens = 98, output_tokens = 128;
  std::uint32_t silence_seconds = 120;

  std::vector<std::string> offline;  // rows of engine_rows.hpp
  std::uint32_t vocabulary = 10'000;

  bool json = false;
  std::string out;                    // the result, as a file
  std::string label, device, commit;  // words of the result; empty: found
  std::string command;                // how it was called
};

// The exit code: 0, 1 (a request failed), 2 (flags, configuration), 3 (files), 5 (no server).
int bench(const bench_options& options);

}  // namespace dinfer::apps
