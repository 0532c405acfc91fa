// SPDX-License-Identifier: Apache-2.0
// The one error vocabulary of dinfer. Expected failures (bad input, missing file, lost peer, full
// queue) travel as `result<T>`; a bug stops the process through DINFER_ASSERT. Device failures are
// the third kind: kernels/device.hpp.
#pragma once

#include "dinfer/export.hpp"

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace dinfer {

// What went wrong, for code that must decide. The numbers cross nodes: append, never reorder.
enum class errc : std::uint8_t {
  none = 0,
  invalid_argument,  // a field, flag or key holds something that cannot be used: HTTP 400, exit
                     // code 2
  not_found,         // a file, model, node or request that does not exist
  bad_file,          // a model file that is damaged or not what it says: exit code 3
  unsupported,       // well formed, but this build cannot do it
  out_of_memory,     // a plan that does not fit the device
  queue_full,        // admission limit reached: HTTP 429
  timeout,           // a deadline passed; the message says who was waited for
  cancelled,         // the caller gave up or the node drains
  peer_lost,         // another process or host is gone
  device_lost,       // a device or collective failed; the shard is unusable
  mismatch,          // another build, protocol, model or config: join refused, exit code 5
  unavailable,       // loading, draining or dead: HTTP 503
  io_error,          // the operating system refused a read, write or socket
  internal,          // a bug that was contained
};

// The name of a code as it appears in logs: "invalid_argument".
DINFER_EXPORT std::string_view to_string(errc code) noexcept;

struct error {
  errc code = errc::internal;
  std::string message;  // one sentence for a person: what, where, and what would fit
  std::string subject;  // the field, flag, key or file at fault; empty when none
};

template <class T>
using result = tl::expected<T, error>;

// Shorthand for `return fail(errc::bad_file, "...");`
inline tl::unexpected<error> fail(errc code, std::string message, std::string subject = {}) {
  return tl::unexpected<error>(error{code, std::move(message), std::move(subject)});
}

// Prints the failed condition with file and line to stderr and aborts.
[[noreturn]] DINFER_EXPORT void assertion_failed(const char* condition, const char* file,
                                                 int line) noexcept;

}  // namespace dinfer

#define DINFER_CONCAT_INNER(a, b) a##b
#define DINFER_CONCAT(a, b) DINFER_CONCAT_INNER(a, b)

// DINFER_TRY(auto x, f()): x = *f(), or return f()'s error.
#define DINFER_TRY(declaration, expression) \
  DINFER_TRY_INNER(DINFER_CONCAT(dinfer_try_, __LINE__), declaration, expression)
#define DINFER_TRY_INNER(name, declaration, expression)      \
  auto name = (expression);                                  \
  if (!name) return tl::unexpected(std::move(name).error()); \
  declaration = std::move(*name)

// DINFER_CHECK(f()): return f()'s error; the value, if any, is dropped.
#define DINFER_CHECK(expression)                              \
  do {                                                        \
    if (auto dinfer_check = (expression); !dinfer_check)      \
      return tl::unexpected(std::move(dinfer_check).error()); \
  } while (false)

// A condition that only a bug can break. Stays on in release builds.
#define DINFER_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::dinfer::assertion_failed(#condition, __FILE__, __LINE__))
