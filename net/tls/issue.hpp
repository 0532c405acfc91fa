// SPDX-License-Identifier: Apache-2.0
// Makes certificates: a CA for one cluster, and what it signs for each node. ECDSA on P-256, which
// everything reads. Pure but for the system's random numbers; any thread.
#pragma once

#include "dinfer/error.hpp"

#include <ctime>
#include <string>
#include <vector>

namespace dinfer::net {

struct validity {
  std::time_t from = 0, until = 0;  // unix seconds
};

// Both as PEM.
struct issued_certificate {
  std::string certificate, key;
};

result<issued_certificate> make_authority(const validity& when);

// For both ends of TLS. `addresses`: IPs and host names that the certificate names besides `node`;
// nothing checks them, they are for people. Error: bad_file, `authority` is no such pair.
result<issued_certificate> issue_certificate(const issued_certificate& authority,
                                             const std::string& node,
                                             const std::vector<std::string>& addresses,
                                             const validity& when);

// When the first certificate of a PEM text ends; 0: there is none.
std::time_t valid_until(const std::string& certificate);

}  // namespace dinfer::net
