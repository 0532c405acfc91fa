// SPDX-License-Identifier: Apache-2.0
// Hopper's prefill attention on the host: its indices, masks, barriers and descriptors, against a
// plain loop in double.
#include "kernels/cuda/sm90.cuh"
#include "tests/kernels/cuda/prefill_case.hpp"
#include "tests/support/catch.hpp"

#include <cstdio>

namespace dinfer::tests {
namespace {

using kernels::cuda::attend_prefill_sm90;
using kernels::cuda::f8;

template <class T, class Stored>
void attend(prefill_step<T, Stored>& step) {
  const kernels::cuda::attention_types types(dtype_of<T>, dtype_of<Stored>);
  REQUIRE(kernels::cuda::prefill_sm90_fits(step.shape, types));
  attend_prefill_sm90(step.shape, step.of.skipped, step.tokens - step.skipped_tokens, types,
                      nullptr);
}

// The worst error over rows, relative to the row's largest value.
template <class T, class Stored>
double worst_error(const prefill_step<T, Stored>& step) {
  double worst = 0;
  for (int s = step.of.skipped; s < step.shape.sequences; ++s) {
    for (int q = 0; q < step.of.sequences[static_cast<std::size_t>(s)].queries; ++q) {
      for (int h = 0; h < step.query_heads; ++h) {
        const auto right = step.expected(s, q, h);
        const T* row = step.row_of(step.out, s, q, h);
        double most = 0, error = 0;
        for (std::size_t c = 0; c < right.size(); ++c) {
          const double off = std::abs(float_of(row[c]) - right[c]);
          error = off <= error ? error : off;  // NaN stays
          most = std::max(most, std::abs(right[c]));
        }
        error = most > 0 ? error / most : error;
        worst = error <= worst ? worst : error;
      }
    }
  }
  return worst;
}

template <class T, class Stored = T>
void check(const prefill_case& of, std::uint64_t seed) {
  prefill_step<T, Stored> step(of, seed);
  tests::cuda_on_cpu::set_order(seed);
  attend(step);
  const double bound = std::is_same_v<T, __half> ? 2e-3 : 1.5e-2, worst = worst_error(step);
  INFO("seed " << seed << ", head_dim " << of.head_dim << ", block " << of.block_size << ", window "
               << of.window << ", error " << worst);
  CHECK(worst <= bound);
  for (int i = 0; i < step.skipped_tokens * step.query_heads * of.head_dim; ++i)
    REQUIRE(std::isnan(float_of(step.out[static_cast<std::size_t>(i)])));
}

TEST_CASE("Hopper's prefill attention, one sequence") {
  for (const int head_dim : {64, 128}) {
    for (const int queries : {1, 33, 130}) {
      prefill_case of{{4}, head_dim, 32, 0, {{7, queries, queries}}};
      check<__nv_bfloat16>(of, static_cast<std::uint64_t>(queries));
      check<__half>(of, static_cast<std::uint64_t>(queries));
      check<__nv_bfloat16, f8>(of, static_cast<std::uint64_t>(queries));
      check<__half, f8>(of, static_cast<std::uint64_t>(queries));
    }
  }
}

TEST_CASE("Hopper's prefill attention over keys of earlier steps, ragged") {
  for (const int block : {16, 32, 128}) {
    for (const int window : {0, 1, 130}) {
      prefill_case of;
      of.groups = {3, 1, 8};
      of.head_dim = block % 64 == 0 ? 64 : 128;
      of.block_size = block;
      of.window = window;
      of.sequences = {{0, 5, 1},    {1, 0, 1}, {2, 400, 3}, {3, 384, 20},
                      {4, 257, 30}, {5, 0, 2}, {6, 1, 1},   {7, 129, 1}};
      of.skipped = 2;
      check<__nv_bfloat16>(of, static_cast<std::uint64_t>(block + window));
      check<__nv_bfloat16, f8>(of, static_cast<std::uint64_t>(block + window));
    }
  }
}

TEST_CASE("Hopper's prefill attention finds its tiles among many sequences") {
  prefill_case of{{2}, 64, 16, 0, {}};
  for (int s = 0; s < 70; ++s)
    of.sequences.push_back({s, s % 7 == 3 ? 0 : 1 + s, s % 5 + s / 60 * 60});
  for (auto& s : of.sequences)
    s.queries = s.context == 0 ? s.queries : std::min(s.queries, s.context);
  check<__half>(of, 3);
}

template <class T, class Stored = T>
void check_chunks(int head_dim, int window) {
  const int length = 300;
  prefill_case whole{{2, 1}, head_dim, 32, window, {{9, length, length}}};
  prefill_step<T, Stored> all(whole, 5);
  attend(all);
  int begin = 0;
  for (const int chunk : {1, 63, 100, 130, 6}) {
    begin += chunk;
    prefill_case of = whole;
    of.block_size = 64;
    of.sequences = {{1, 70, 9}, {9, begin, chunk}, {2, 200, 65}};
    prefill_step<T, Stored> part(of, 5);
    cuda_on_cpu::set_order(static_cast<std::uint64_t>(begin));
    attend(part);
    for (int q = 0; q < chunk; ++q) {
      INFO("position " << begin - chunk + q << ", window " << window);
      REQUIRE(std::memcmp(part.row_of(part.out, 1, q, 0),
                          all.row_of(all.out, 0, begin - chunk + q, 0),
                          sizeof(T) * static_cast<std::size_t>(3 * head_dim)) == 0);
    }
  }
  REQUIRE(begin == length);
}

TEST_CASE("Hopper's prefill attention does not depend on how a prompt is cut") {
  for (const int window : {0, 77}) {
    check_chunks<__nv_bfloat16>(128, window);
    check_chunks<__half>(64, window);
    check_chunks<__nv_bfloat16, f8>(128, window);
  }
}

}  // namespace
}  // namespace dinfer::tests
