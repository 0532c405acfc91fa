// SPDX-License-Identifier: Apache-2.0
// One line of log: `DINFER_LOG_INFO("kv cache: {} blocks", n)`, to stderr. Formatting is fmt's;
// spdlog stays in log.cpp. Any thread; lines are written by a background thread and dropped,
// counted, when it falls behind.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace dinfer::runtime {

enum class log_level : std::uint8_t { trace, debug, info, warn, error, off };

// `node` stands in every line. level: "debug", "info", ...; json: one object a line. Call once,
// before other threads.
void open_log(std::string_view level, bool json, const std::string& node);
void close_log();  // writes what is queued
bool log_enabled(log_level level) noexcept;
void write_log(log_level level, const char* file, int line, std::string text);
std::uint64_t log_lines_dropped() noexcept;

}  // namespace dinfer::runtime

#define DINFER_LOG(level, ...)                                                             \
  do {                                                                                     \
    if (::dinfer::runtime::log_enabled(level))                                             \
      ::dinfer::runtime::write_log(level, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__)); \
  } while (false)
#define DINFER_LOG_DEBUG(...) DINFER_LOG(::dinfer::runtime::log_level::debug, __VA_ARGS__)
#define DINFER_LOG_INFO(...) DINFER_LOG(::dinfer::runtime::log_level::info, __VA_ARGS__)
#define DINFER_LOG_WARN(...) DINFER_LOG(::dinfer::runtime::log_level::warn, __VA_ARGS__)
#define DINFER_LOG_ERROR(...) DINFER_LOG(::dinfer::runtime::log_level::error, __VA_ARGS__)
