// SPDX-License-Identifier: Apache-2.0
// Names and numbers of the vocabulary headers beside this file.
#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "dinfer/version.hpp"

#include <cstdio>
#include <cstdlib>

namespace dinfer {

std::string_view to_string(errc code) noexcept {
  switch (code) {
    case errc::none:
      return "none";
    case errc::invalid_argument:
      return "invalid_argument";
    case errc::not_found:
      return "not_found";
    case errc::bad_file:
      return "bad_file";
    case errc::unsupported:
      return "unsupported";
    case errc::out_of_memory:
      return "out_of_memory";
    case errc::queue_full:
      return "queue_full";
    case errc::timeout:
      return "timeout";
    case errc::cancelled:
      return "cancelled";
    case errc::peer_lost:
      return "peer_lost";
    case errc::device_lost:
      return "device_lost";
    case errc::mismatch:
      return "mismatch";
    case errc::unavailable:
      return "unavailable";
    case errc::io_error:
      return "io_error";
    case errc::internal:
      return "internal";
  }
  return "unknown";
}

std::string_view to_string(finish_reason reason) noexcept {
  switch (reason) {
    case finish_reason::none:
      return "none";
    case finish_reason::stop:
      return "stop";
    case finish_reason::length:
      return "length";
    case finish_reason::abort:
      return "abort";
    case finish_reason::error:
      return "error";
  }
  return "unknown";
}

void assertion_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "dinfer: bug: %s does not hold (%s:%d)\n", condition, file, line);
  std::abort();
}

std::string_view version() noexcept { return DINFER_VERSION; }

std::string_view build_id() noexcept { return DINFER_VERSION " " DINFER_COMPILER; }

}  // namespace dinfer
