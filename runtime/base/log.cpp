// SPDX-License-Identifier: Apache-2.0
// spdlog behind two functions: an asynchronous stderr logger that never blocks its callers.
#include "runtime/base/log.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

namespace dinfer::runtime {
namespace {

constexpr std::size_t queue_lines = 8192;
std::atomic<int> threshold{spdlog::level::info};
std::atomic<bool> as_json{false};

spdlog::level::level_enum native(log_level level) {
  return static_cast<spdlog::level::level_enum>(level);
}

std::string json_escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    else out += c;
  }
  return out;
}

const char* base_name(const char* path) {
  const std::string_view view(path);
  const auto slash = view.rfind('/');
  return slash == std::string_view::npos ? path : path + slash + 1;
}

}  // namespace

void open_log(std::string_view level, bool json, const std::string& node) {
  spdlog::init_thread_pool(queue_lines, 1);
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::async_logger>(
      "dinfer", sink, spdlog::thread_pool(), spdlog::async_overflow_policy::overrun_oldest);
  const auto wanted = spdlog::level::from_str(std::string(level));
  logger->set_level(wanted);
  logger->flush_on(spdlog::level::warn);
  if (json)
    logger->set_pattern(R"({"ts":"%Y-%m-%dT%H:%M:%S.%f%z","level":"%l","node":")" + node +
                        R"(",%v})");
  else logger->set_pattern("%L %m-%d %H:%M:%S.%e " + node + " %v");
  spdlog::set_default_logger(logger);
  threshold = wanted;
  as_json = json;
}

void close_log() { spdlog::shutdown(); }

bool log_enabled(log_level level) noexcept {
  return static_cast<int>(native(level)) >= threshold.load(std::memory_order_relaxed);
}

void write_log(log_level level, const char* file, int line, std::string text) {
  auto* logger = spdlog::default_logger_raw();
  if (logger == nullptr) return;
  if (as_json)
    logger->log(native(level), "\"at\":\"{}:{}\",\"msg\":\"{}\"", base_name(file), line,
                json_escaped(text));
  else logger->log(native(level), "{}:{}] {}", base_name(file), line, text);
}

std::uint64_t log_lines_dropped() noexcept {
  const auto pool = spdlog::thread_pool();
  return pool ? pool->overrun_counter() : 0;
}

}  // namespace dinfer::runtime
