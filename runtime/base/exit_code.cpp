// SPDX-License-Identifier: Apache-2.0
// See exit_code.hpp.
#include "runtime/base/exit_code.hpp"

namespace dinfer::runtime {

int exit_code_of(errc code) noexcept {
  switch (code) {
    case errc::none:
      return exit_ok;
    case errc::invalid_argument:
    case errc::unsupported:
      return exit_bad_config;
    case errc::bad_file:
    case errc::not_found:
      return exit_bad_file;
    case errc::mismatch:
    case errc::peer_lost:
    case errc::timeout:
    case errc::unavailable:
      return exit_cluster;
    default:
      return exit_failure;
  }
}

}  // namespace dinfer::runtime
