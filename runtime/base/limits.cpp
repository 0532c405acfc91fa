// SPDX-License-Identifier: Apache-2.0
// The table of bounds, its messages, and the check of a whole request.
#include "runtime/base/limits.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace dinfer::runtime {
namespace {

constexpr double token_count_max = 1 << 30;

// In the order of `limit`.
constexpr std::array<limit_row, static_cast<std::size_t>(limit::count_)> table{{
    {"temperature", 0, 2, false, false, {}},
    {"top_p", 0, 1, true, false, {}},
    {"top_k", -1, 1 << 24, false, false, {}},
    {"min_p", 0, 1, false, true, {}},
    {"repetition_penalty", 0, 2, true, false, {}},
    {"presence_penalty", -2, 2, false, false, {}},
    {"frequency_penalty", -2, 2, false, false, {}},
    {"logit_bias", -100, 100, false, false, {}},
    {"logit_bias", 0, 1024, false, false, "entries"},
    {"n", 1, 16, false, false, {}},
    {"max_tokens", 0, token_count_max, false, false, {}},
    {"min_tokens", 0, token_count_max, false, false, {}},
    {"logprobs", 0, 20, false, false, {}},
    {"stop", 0, 16, false, false, "entries"},
    {"stop", 1, 256, false, false, "bytes"},
    {"stop_token_ids", 0, 128, false, false, "entries"},
    {"priority", -1'000'000, 1'000'000, false, false, {}},
    {"prompt", 1, 64, false, false, "entries"},
    {"messages", 1, 1024, false, false, "entries"},
    {"content", 0, 1024, false, false, "entries"},
    {"cache_salt", 0, 256, false, false, "bytes"},
    {"name", 0, 256, false, false, "bytes"},
}};

// "be from 0 to 2", "have from 1 to 64 entries".
std::string range_text(const limit_row& row) {
  if (!row.unit.empty()) return fmt::format("have from {} to {} {}", row.min, row.max, row.unit);
  if (row.min_excluded) return fmt::format("be above {} and at most {}", row.min, row.max);
  if (row.max_excluded) return fmt::format("be at least {} and below {}", row.min, row.max);
  return fmt::format("be from {} to {}", row.min, row.max);
}

result<void> check_tokens(const std::vector<token_id>& tokens, std::int32_t vocabulary,
                          const char* field) {
  for (const auto token : tokens)
    if (token < 0 || token >= vocabulary)
      return fail(errc::invalid_argument,
                  fmt::format("{} holds token id {}, but the vocabulary has ids from 0 to {}",
                              field, token, vocabulary - 1),
                  field);
  return {};
}

result<void> check_sampling(const sampling_params& s) {
  DINFER_CHECK(check_limit(limit::temperature, s.temperature));
  DINFER_CHECK(check_limit(limit::top_p, s.top_p));
  DINFER_CHECK(check_limit(limit::top_k, s.top_k));
  DINFER_CHECK(check_limit(limit::min_p, s.min_p));
  DINFER_CHECK(check_limit(limit::repetition_penalty, s.repetition_penalty));
  DINFER_CHECK(check_limit(limit::presence_penalty, s.presence_penalty));
  DINFER_CHECK(check_limit(limit::frequency_penalty, s.frequency_penalty));
  DINFER_CHECK(check_limit(limit::logit_bias_entries, static_cast<double>(s.logit_biases.size())));
  for (const auto& b : s.logit_biases) DINFER_CHECK(check_limit(limit::logit_bias, b.bias));
  DINFER_CHECK(check_limit(limit::max_tokens, s.max_tokens));
  DINFER_CHECK(check_limit(limit::min_tokens, s.min_tokens));
  if (s.logprobs != -1) DINFER_CHECK(check_limit(limit::logprobs, s.logprobs));
  if (s.prompt_logprobs != -1) DINFER_CHECK(check_limit(limit::logprobs, s.prompt_logprobs));
  return check_limit(limit::stop_token_ids, static_cast<double>(s.stop_token_ids.size()));
}

}  // namespace

const limit_row& limit_of(limit which) noexcept { return table[static_cast<std::size_t>(which)]; }

std::span<const limit_row> limits() noexcept { return table; }

result<void> check_limit(limit which, double value) {
  const auto& row = limit_of(which);
  const bool low = row.min_excluded ? value <= row.min : value < row.min;
  const bool high = row.max_excluded ? value >= row.max : value > row.max;
  // Not a number compares false with everything, so it is asked for by name.
  if (std::isfinite(value) && !low && !high) return {};
  return fail(errc::invalid_argument,
              fmt::format("{} must {}, but {} {}", row.field, range_text(row),
                          row.unit.empty() ? "is" : "has", value),
              std::string(row.field));
}

result<void> validate(const generate_request& request, const request_bounds& bounds) {
  const auto& s = request.sampling;
  DINFER_CHECK(check_sampling(s));
  DINFER_CHECK(check_limit(limit::priority, request.priority));
  DINFER_CHECK(check_limit(limit::cache_salt_size, static_cast<double>(request.cache_salt.size())));
  if (request.prompt.empty())
    return fail(errc::invalid_argument, "the prompt has no tokens", "prompt");
  if (s.max_tokens == 0)
    return fail(errc::invalid_argument, "max_tokens must be at least 1", "max_tokens");
  if (s.min_tokens > s.max_tokens)
    return fail(
        errc::invalid_argument,
        fmt::format("min_tokens is {}, more than max_tokens, {}", s.min_tokens, s.max_tokens),
        "min_tokens");
  const auto wanted = std::uint64_t{request.prompt.size()} + s.max_tokens;
  if (wanted > bounds.max_model_len)
    return fail(errc::invalid_argument,
                fmt::format("This model's maximum context length is {} tokens, but {} were asked "
                            "for: {} in the prompt and {} to generate",
                            bounds.max_model_len, wanted, request.prompt.size(), s.max_tokens),
                request.prompt.size() >= bounds.max_model_len ? "prompt" : "max_tokens");
  DINFER_CHECK(check_tokens(request.prompt, bounds.vocabulary, "prompt"));
  DINFER_CHECK(check_tokens(s.stop_token_ids, bounds.vocabulary, "stop_token_ids"));
  for (const auto& b : s.logit_biases)
    DINFER_CHECK(check_tokens({b.token}, bounds.vocabulary, "logit_bias"));
  return {};
}

}  // namespace dinfer::runtime
