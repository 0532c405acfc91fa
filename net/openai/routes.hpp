// SPDX-License-Identifier: Apache-2.0
// Which paths there are, with the methods that each takes. Paths are compared byte for byte: what
// is not spelt exactly so does not exist. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dinfer::net {

enum class endpoint : std::uint8_t {
  chat,
  completions,
  models,
  one_model,
  health,
  ready,
  live,
  ping,
  version,
  metrics,
  cluster,
  tokenize,
  detokenize,
  none  // no such path
};

struct route {
  endpoint to = endpoint::none;
  std::string_view path;  // as metrics call it
  bool get = false, post = false;
  bool open = false;       // answered without a key
  std::string_view allow;  // for the Allow header
};

const route& find_route(std::string_view path) noexcept;
std::span<const std::string_view> handler_names() noexcept;

}  // namespace dinfer::net
