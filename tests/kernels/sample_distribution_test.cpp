// SPDX-License-Identifier: Apache-2.0
// How the CPU's draws are distributed: distribution.hpp.
#include "tests/kernels/distribution.hpp"

using namespace dinfer;
using namespace dinfer::tests;

TEST_CASE("draws follow the softmax at several temperatures") {
  const auto d = open_cpu(1);
  check_draws(*d, "temperature 1", filters(1, 0, 1, 0), 50, 50);
  check_draws(*d, "temperature 0.3", filters(0.3F, 0, 1, 0), 50, 50);
  check_draws(*d, "temperature 2", filters(2, 0, 1, 0), 129, 50);
}

TEST_CASE("draws follow top_k, top_p and min_p, alone and together") {
  const auto d = open_cpu(1);
  check_draws(*d, "top_k", filters(1, 10, 1, 0), 100, 50);
  check_draws(*d, "top_k of all", filters(1, 100, 1, 0), 100, 50);
  check_draws(*d, "top_p", filters(1, 0, 0.7F, 0), 100, 50);
  check_draws(*d, "top_p of nearly all", filters(1.5F, 0, 0.999F, 0), 100, 50);
  check_draws(*d, "min_p", filters(1, 0, 1, 0.2F), 100, 50);
  check_draws(*d, "top_k and top_p", filters(0.8F, 20, 0.9F, 0), 100, 50);
  check_draws(*d, "all three", filters(1.2F, 30, 0.95F, 0.1F), 100, 50);
}

TEST_CASE("draws follow bias and penalties") {
  const auto d = open_cpu(1);
  auto p = filters(1, 0, 1, 0);
  p.logit_biases = {{3, 2}, {10, -5}};
  check_draws(*d, "bias", p, 40, 50);
  p.repetition_penalty = 1.3F;
  p.presence_penalty = 0.5F;
  p.frequency_penalty = 0.7F;
  check_draws(*d, "penalties", p, 40, 50);
  p.top_k = 25;
  p.top_p = 0.9F;
  p.min_p = 0.02F;
  p.temperature = 0.9F;
  check_draws(*d, "everything", p, 40, 50);
}
