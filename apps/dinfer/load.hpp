// SPDX-License-Identifier: Apache-2.0
// Streams of completions against a gateway, all on the calling thread: what `dinfer bench` measures
// a server with. Any OpenAI server that takes prompts of token ids will do.
#pragma once

#include "dinfer/error.hpp"
#include "net/http/client.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dinfer::apps {

struct load_plan {
  net::http_client::options server;  // `silence`: between two pieces of a stream
  std::string model;                 // its name in the API
  std::uint32_t requests = 1;
  std::uint32_t streams = 0;  // at once; more wait here. 0: no limit
  double rate = 0;            // requests a second, at random (Poisson); 0: all at the beginning
  std::uint32_t prompt_tokens = 0, output_tokens = 0;
  std::uint32_t vocabulary = 0;  // prompts are drawn from the token ids 10 to this
  std::uint64_t seed = 0;        // of prompts and arrivals
};

// One request; seconds from the beginning of the run.
struct stream_times {
  double arrived = 0, ended = 0;
  std::vector<double> pieces;  // when each part of the answer came
  std::uint64_t tokens = 0;    // of the answer, as the server counted them
  std::string failure;         // empty: it had all its tokens
};

struct load_progress {
  std::uint32_t ended = 0;
  std::uint64_t pieces = 0;
};

// In order of arrival. A request that fails says so and stops no other. Error: io_error, the host's
// name is not known.
result<std::vector<stream_times>> run_load(
    const load_plan& plan, const std::function<void(const load_progress&)>& on_progress);

}  // namespace dinfer::apps
