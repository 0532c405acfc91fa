// SPDX-License-Identifier: Apache-2.0
// What `dinfer bench` measured: figures of a load, the table's lines, and the result as
// bench/rows.py and bench/results have it. Pure, but for write_result; any thread.
#pragma once

#include "apps/dinfer/engine_rows.hpp"
#include "apps/dinfer/load.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::apps {

// The repetitions of one load. A rate is the median of theirs; times are over all of their streams.
class load_summary {
 public:
  void add(const std::vector<stream_times>& repetition);

  // "serve_c8" before their names: _tok_s, _req_s, _ttft_p50_ms, _itl_p99_ms, _failed...
  std::vector<figure> figures(const std::string& prefix) const;
  static std::string table_head();
  std::string table_line(const std::string& load) const;

  std::uint64_t failed() const noexcept { return failed_; }
  const std::string& first_failure() const noexcept { return first_failure_; }

 private:
  std::vector<double> token_rates_, request_rates_;
  std::vector<double> first_ms_, between_ms_;
  std::uint64_t failed_ = 0;
  std::string first_failure_;
};

struct bench_result {
  std::string commit, device, command;
  std::string config;  // what the rows are of: model, devices
  std::vector<figure> rows;
};

// An object with the date (UTC), a row a line; bounds and peers are null.
std::string result_json(const bench_result& of);
// Errors: io_error. The first leaves what the file holds.
result<void> check_writable(const std::string& file);
result<void> write_result(const std::string& file, const std::string& text);

}  // namespace dinfer::apps
