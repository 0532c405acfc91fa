// SPDX-License-Identifier: Apache-2.0
// generation_config.json under the limits of requests. Thread: the caller's.
#include "runtime/models/generation_config.hpp"

#include "runtime/base/limits.hpp"
#include "runtime/models/config_section.hpp"
#include "runtime/weights/source.hpp"

#include <algorithm>
#include <string>

namespace dinfer::runtime {
namespace {

result<void> read_float(const config_section& root, std::string_view key, limit bounds,
                        float& value) {
  DINFER_TRY(const double stated, root.number(key, static_cast<double>(value)));
  const auto used = static_cast<float>(stated);  // 0.99999999999 is 1 there
  if (const auto fits = check_limit(bounds, used); !fits)
    return root.wrong(key, fits.error().message);
  value = used;
  return {};
}

}  // namespace

result<sampling_params> read_sampling_defaults(const weight_source& source) {
  sampling_params out;
  const auto text = source.text(generation_config_key);
  if (!text) return out;
  DINFER_TRY(const auto root, config_section::parse(*text, std::string(generation_config_key)));
  DINFER_CHECK(read_float(root, "temperature", limit::temperature, out.temperature));
  DINFER_CHECK(read_float(root, "top_p", limit::top_p, out.top_p));
  DINFER_CHECK(read_float(root, "min_p", limit::min_p, out.min_p));
  DINFER_CHECK(
      read_float(root, "repetition_penalty", limit::repetition_penalty, out.repetition_penalty));
  const auto most = static_cast<std::int64_t>(limit_of(limit::top_k).max);
  DINFER_TRY(const std::int32_t top_k, root.integer("top_k", -1, most, 0));
  out.top_k = std::max(top_k, 0);
  return out;
}

}  // namespace dinfer::runtime
