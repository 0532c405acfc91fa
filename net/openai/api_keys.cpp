// SPDX-License-Identifier: Apache-2.0
// SHA-256 makes all keys equally long, so that comparing tells nothing about lengths either.
#include "net/openai/api_keys.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>

namespace dinfer::net {

api_keys::api_keys(const std::vector<std::string>& keys) {
  for (const auto& key : keys) digests_.push_back(digest_of(key));
}

api_keys::digest api_keys::digest_of(std::string_view text) {
  digest out;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

bool api_keys::allow(std::string_view authorization) const {
  if (digests_.empty()) return true;
  constexpr std::string_view scheme = "bearer ";
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  const bool bearer = authorization.size() > scheme.size() &&
                      std::equal(scheme.begin(), scheme.end(), authorization.begin(),
                                 [&](char expected, char given) { return same(given, expected); });
  const auto given = digest_of(bearer ? authorization.substr(scheme.size()) : std::string_view());
  unsigned matches = 0;
  for (const auto& d : digests_)
    matches |= CRYPTO_memcmp(d.data(), given.data(), d.size()) == 0 ? 1U : 0U;
  return bearer && matches != 0;
}

}  // namespace dinfer::net
