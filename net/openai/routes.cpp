// SPDX-License-Identifier: Apache-2.0
// The table of paths.
#include "net/openai/routes.hpp"

#include <array>

namespace dinfer::net {
namespace {

constexpr std::string_view reads = "GET, HEAD, OPTIONS";
constexpr std::string_view writes = "POST, OPTIONS";
constexpr std::string_view model_prefix = "/v1/models/";

constexpr std::array<route, 14> table{{
    {endpoint::chat, "/v1/chat/completions", false, true, false, writes},
    {endpoint::completions, "/v1/completions", false, true, false, writes},
    {endpoint::models, "/v1/models", true, false, false, reads},
    {endpoint::one_model, "/v1/models/{id}", true, false, false, reads},
    {endpoint::health, "/health", true, false, true, reads},
    {endpoint::ready, "/ready", true, false, true, reads},
    {endpoint::live, "/live", true, false, true, reads},
    {endpoint::ping, "/ping", true, true, false, "GET, HEAD, POST, OPTIONS"},
    {endpoint::version, "/version", true, false, false, reads},
    {endpoint::metrics, "/metrics", true, false, false, reads},
    {endpoint::cluster, "/cluster", true, false, false, reads},
    {endpoint::tokenize, "/tokenize", false, true, false, writes},
    {endpoint::detokenize, "/detokenize", false, true, false, writes},
    {endpoint::none, "other", false, false, false, ""},
}};

constexpr auto names = [] {
  std::array<std::string_view, table.size()> out{};
  for (std::size_t i = 0; i < table.size(); ++i) out[i] = table[i].path;
  return out;
}();

}  // namespace

const route& find_route(std::string_view path) noexcept {
  for (const auto& r : table)
    if (r.path == path && r.to != endpoint::none && r.to != endpoint::one_model) return r;
  if (path.starts_with(model_prefix) && path.size() > model_prefix.size())
    return table[static_cast<std::size_t>(endpoint::one_model)];
  return table.back();
}

std::span<const std::string_view> handler_names() noexcept { return names; }

}  // namespace dinfer::net
