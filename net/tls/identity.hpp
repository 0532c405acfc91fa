// SPDX-License-Identifier: Apache-2.0
// Who this node is to the others: its certificate and key, and the cluster's CA. Read and checked
// once, at start, so that what is wrong is said there and files that are replaced later cannot end
// a process that serves. Immutable afterwards; any thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <chrono>
#include <memory>
#include <string>

struct ssl_ctx_st;

namespace dinfer::net {

class tls_identity {
 public:
  // `node` takes the place of "{node}" in file names. Null when `from` names no files. Errors:
  // invalid_argument with key, file, what is wrong and what would help: unreadable, no PEM, a key
  // of another certificate, expired, not of this CA, not made for TLS.
  static result<std::shared_ptr<const tls_identity>> load(const security_section& from,
                                                          const std::string& node);
  ~tls_identity();

  // For both sides of a connection: TLS 1.3 alone, each side shows a certificate of the CA, no
  // session outlasts its connection.
  ssl_ctx_st* context() const noexcept { return context_; }

  // "certificate /etc/dinfer/b.crt, valid until 2028-02-29 12:00 UTC"
  const std::string& description() const noexcept { return description_; }
  std::chrono::system_clock::time_point valid_until() const noexcept { return valid_until_; }

 private:
  tls_identity() = default;

  ssl_ctx_st* context_ = nullptr;
  std::string description_;
  std::chrono::system_clock::time_point valid_until_;
};

}  // namespace dinfer::net
