// SPDX-License-Identifier: Apache-2.0
// See bench_report.hpp.
#include "apps/dinfer/bench_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <fstream>
#include <utility>

namespace dinfer::apps {

namespace {

constexpr int percentiles[] = {50, 90, 99};

// The nearest of the sorted values; 0 when there are none.
double percentile(std::vector<double> values, int p) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double at = static_cast<double>(p) / 100 * static_cast<double>(values.size() - 1);
  return values[static_cast<std::size_t>(std::lround(at))];
}

double median(const std::vector<double>& values) {
  if (values.empty()) return 0;
  auto sorted = values;
  std::ranges::sort(sorted);
  const auto half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

std::string utc_now() {
  const auto now = std::time(nullptr);
  std::tm parts{};
  char text[32] = {};
  ::gmtime_r(&now, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string quoted(const std::string& text) {
  return boost::json::serialize(boost::json::string(text));
}

std::string row_json(const figure& row, const std::string& config) {
  return fmt::format(
      R"({{"workload": {}, "config": {}, "value": {:.4f}, "unit": {}, "bound": null, )"
      R"("peer": null, "peer_name": null, "ratio_to_bound": null, "ratio_to_peer": null}})",
      quoted(row.workload), quoted(config), row.value, quoted(row.unit));
}

}  // namespace

void load_summary::add(const std::vector<stream_times>& repetition) {
  double begin = 0, end = 0, tokens = 0, whole = 0;
  bool any = false;
  for (const auto& one : repetition) {
    if (!one.failure.empty()) {
      ++failed_;
      if (first_failure_.empty()) first_failure_ = one.failure;
      continue;
    }
    begin = any ? std::min(begin, one.arrived) : one.arrived;
    end = std::max(end, one.ended);
    any = true;
    ++whole;
    tokens += static_cast<double>(one.tokens);
    for (std::size_t i = 0; i < one.pieces.size(); ++i)
      (i == 0 ? first_ms_ : between_ms_)
          .push_back(1e3 * (one.pieces[i] - (i == 0 ? one.arrived : one.pieces[i - 1])));
  }
  if (end <= begin) return;
  token_rates_.push_back(tokens / (end - begin));
  request_rates_.push_back(whole / (end - begin));
}

std::vector<figure> load_summary::figures(const std::string& prefix) const {
  std::vector<figure> out{{prefix + "_tok_s", median(token_rates_), "tok/s"},
                          {prefix + "_req_s", median(request_rates_), "req/s"}};
  for (const auto& [name, values] : {std::pair{"ttft", &first_ms_}, {"itl", &between_ms_}})
    for (const int p : percentiles)
      out.push_back({fmt::format("{}_{}_p{}_ms", prefix, name, p), percentile(*values, p), "ms"});
  out.push_back({prefix + "_failed", static_cast<double>(failed_), "requests"});
  return out;
}

std::string load_summary::table_head() {
  return fmt::format(
      "{:>8} {:>9} {:>7}  {:>25}  {:>23} {:>7}\n{:>8} {:>9} {:>7}  {:>9} {:>7} {:>7}  "
      "{:>7} {:>7} {:>7} {:>7}\n",
      "", "tokens", "answers", "first token, ms", "between tokens, ms", "", "streams", "/s", "/s",
      "p50", "p90", "p99", "p50", "p90", "p99", "failed");
}

std::string load_summary::table_line(const std::string& load) const {
  const auto f = figures({});
  return fmt::format(
      "{:>8} {:>9.1f} {:>7.2f}  {:>9.1f} {:>7.1f} {:>7.1f}  {:>7.2f} {:>7.2f} {:>7.2f} {:>7.0f}\n",
      load, f[0].value, f[1].value, f[2].value, f[3].value, f[4].value, f[5].value, f[6].value,
      f[7].value, f[8].value);
}

std::string result_json(const bench_result& of) {
  std::string out = fmt::format(
      "{{\n \"date\": {},\n \"commit\": {},\n \"device\": {},\n \"command\": {},\n \"rows\": [",
      quoted(utc_now()), quoted(of.commit), quoted(of.device), quoted(of.command));
  const char* before = "\n  ";
  for (const auto& row : of.rows) {
    out += before + row_json(row, of.config);
    before = ",\n  ";
  }
  return out + "\n ]\n}\n";
}

result<void> check_writable(const std::string& file) {
  if (std::ofstream(file, std::ios::binary | std::ios::app)) return {};
  return fail(errc::io_error, file + ": " + std::strerror(errno), file);
}

result<void> write_result(const std::string& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out) return {};
  return fail(errc::io_error, file + ": " + std::strerror(errno), file);
}

}  // namespace dinfer::apps
