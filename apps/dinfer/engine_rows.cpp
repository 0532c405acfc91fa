// SPDX-License-Identifier: Apache-2.0
// See engine_rows.hpp.
#include "apps/dinfer/engine_rows.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>

namespace dinfer::apps {

namespace {

constexpr std::uint32_t most = 1 << 20;  // requests or tokens of a row

struct row_shape {
  enum { step, first_token, throughput } kind = step;
  std::uint32_t first = 0, second = 0;
};

// "8" or "256_128", all of it.
bool read_numbers(std::string_view text, std::uint32_t* first, std::uint32_t* second) {
  const auto bar = text.find('_');
  if ((bar != std::string_view::npos) != (second != nullptr)) return false;
  const auto number = [](std::string_view part, std::uint32_t& out) {
    const auto end = part.data() + part.size();
    const auto read = std::from_chars(part.data(), end, out);
    return read.ec == std::errc{} && read.ptr == end && out > 0 && out <= most;
  };
  if (!number(text.substr(0, bar), *first)) return false;
  return second == nullptr || number(text.substr(bar + 1), *second);
}

std::optional<row_shape> shape_of(std::string_view row) {
  constexpr std::string_view step = "step_ms_b", first_token = "ttft_ms_", throughput = "thr_";
  row_shape out;
  const auto reads = [&](std::string_view prefix, std::uint32_t* second) {
    return row.starts_with(prefix) && read_numbers(row.substr(prefix.size()), &out.first, second);
  };
  if (reads(step, nullptr) || reads(step, &out.second)) return out;
  out.kind = row_shape::first_token;
  if (reads(first_token, nullptr)) return out;
  out.kind = row_shape::throughput;
  if (reads(throughput, &out.second)) return out;
  return std::nullopt;
}

// Since the process was started, by the kernel's clock (10 ms ticks).
double process_age() {
  std::ifstream stat("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(stat), {}};
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) -
         std::stod(field) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

result<void> engine_rows::check(const std::string& row) {
  if (shape_of(row)) return {};
  return fail(errc::invalid_argument,
              "no row \"" + row +
                  "\": step_ms_b1, step_ms_b8_4096, ttft_ms_512, thr_256_256 and their like");
}

result<double> engine_rows::run(std::size_t requests, std::size_t in, std::uint32_t out) {
  prompt_list prompts(requests);
  std::uniform_int_distribution<token_id> draw(10, vocabulary_ - 1);
  for (auto& p : prompts) {
    for (std::size_t i = 0; i < in; ++i) p.push_back(draw(random_));
  }
  sampling_params sampling;
  sampling.temperature = 0;
  sampling.max_tokens = out;
  sampling.ignore_eos = true;
  const auto begin = std::chrono::steady_clock::now();
  DINFER_CHECK(generate_(prompts, sampling));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

result<figure> engine_rows::start() {
  DINFER_CHECK(run(1, 32, 1));
  return figure{"start_s", process_age(), "s"};
}

result<double> engine_rows::median(const std::function<result<double>()>& measure) const {
  std::vector<double> values(repetitions_);
  for (double& v : values) {
    DINFER_TRY(v, measure());
  }
  std::ranges::sort(values);
  return values[values.size() / 2];
}

result<figure> engine_rows::measure(const std::string& row) {
  DINFER_CHECK(check(row));
  const auto shape = *shape_of(row);
  figure out{row, 0, shape.kind == row_shape::throughput ? "tok/s" : "ms"};
  if (shape.kind == row_shape::step) {
    DINFER_TRY(out.value, step_ms(shape.first, shape.second == 0 ? 32 : shape.second));
  } else if (shape.kind == row_shape::first_token) {
    DINFER_TRY(out.value, ttft_ms(shape.first));
  } else {
    DINFER_TRY(out.value, throughput(shape.first == 256 ? 1024 : 512, shape.first, shape.second));
  }
  return out;
}

result<double> engine_rows::step_ms(std::size_t sequences, std::size_t prompt) {
  if (repetitions_ > 1) DINFER_CHECK(run(sequences, prompt, 129));
  return median([&]() -> result<double> {
    DINFER_TRY(const double all, run(sequences, prompt, 129));
    DINFER_TRY(const double first, run(sequences, prompt, 1));
    return 1e3 * (all - first) / 128;
  });
}

result<double> engine_rows::ttft_ms(std::size_t prompt) {
  for (int i = 0; repetitions_ > 1 && i < 2; ++i) DINFER_CHECK(run(1, prompt, 1));
  return median([&]() -> result<double> {
    DINFER_TRY(const double seconds, run(1, prompt, 1));
    return 1e3 * seconds;
  });
}

result<double> engine_rows::throughput(std::size_t requests, std::size_t in, std::uint32_t out) {
  if (repetitions_ > 1) DINFER_CHECK(run(requests, in, 16));
  DINFER_TRY(const double seconds, run(requests, in, out));
  return static_cast<double>(requests) * out / seconds;
}

result<void> measure_offline(const offline_run& run) {
  for (const auto& row : run.rows) DINFER_CHECK(engine_rows::check(row));
  run.on_begin("start_s");
  DINFER_TRY(auto opened, engine::open(run.options));
  engine_rows measured(
      [&](const engine_rows::prompt_list& prompts,
          const sampling_params& sampling) -> result<void> {
        DINFER_TRY(const auto outputs, opened.generate(prompts, sampling));
        for (const auto& o : outputs)
          if (o.size() != sampling.max_tokens)
            return fail(errc::internal, "an output of " + std::to_string(o.size()) + " tokens");
        return {};
      },
      run.vocabulary);
  DINFER_TRY(const auto started, measured.start());
  run.on_figure(started);
  for (const auto& row : run.rows) {
    run.on_begin(row);
    DINFER_TRY(const auto value, measured.measure(row));
    run.on_figure(value);
  }
  return {};
}

}  // namespace dinfer::apps
