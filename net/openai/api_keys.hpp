// SPDX-License-Identifier: Apache-2.0
// The bearer keys of a gateway. Only digests are kept, and every comparison takes the same time
// whatever was sent. Immutable; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::net {

class api_keys {
 public:
  explicit api_keys(const std::vector<std::string>& keys);
  // `authorization`: the header's value, "Bearer <key>". No keys at all: everyone may.
  bool allow(std::string_view authorization) const;

 private:
  using digest = std::array<unsigned char, 32>;
  static digest digest_of(std::string_view text);
  std::vector<digest> digests_;
};

}  // namespace dinfer::net
