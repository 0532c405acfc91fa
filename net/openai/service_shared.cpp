// SPDX-License-Identifier: Apache-2.0
// What all services of one server share.
#include "net/openai/routes.hpp"
#include "net/openai/service.hpp"

#include <algorithm>

namespace dinfer::net {

namespace {
constexpr std::size_t names_logged_max = 64;
}

std::string_view state_text(engine_state state) noexcept {
  switch (state) {
    case engine_state::loading:
      return "loading";
    case engine_state::ready:
      return "ready";
    case engine_state::draining:
      return "draining";
    case engine_state::dead:
      return "dead";
  }
  return "unknown";
}

service_shared::service_shared(settings s, std::shared_ptr<engine_link> engine,
                               std::shared_ptr<runtime::metrics_registry> metrics)
    : settings_(std::move(s)),
      engine_(std::move(engine)),
      metrics_(std::move(metrics)),
      keys_(settings_.api_keys),
      http_(*metrics_, handler_names()) {}

void service_shared::model_ready(served_model model) {
  auto made = std::make_shared<loaded_model>(std::move(model), *metrics_);
  made->created = settings_.now_unix();
  const std::lock_guard lock(mutex_);
  model_ = std::move(made);
}

std::shared_ptr<const loaded_model> service_shared::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

engine_status service_shared::status() const {
  auto out = engine_->status();
  if (draining_ && out.state != engine_state::dead) {
    out.state = engine_state::draining;
    out.reason = "this server is shutting down";
  } else if (out.state == engine_state::ready && !model()) {
    out.state = engine_state::loading;
    out.reason = "the model is not loaded yet";
  }
  return out;
}

bool service_shared::origin_allowed(std::string_view origin) const {
  const auto& known = settings_.cors_origins;
  return !origin.empty() && std::any_of(known.begin(), known.end(),
                                        [&](const auto& o) { return o == "*" || o == origin; });
}

std::uint64_t service_shared::random() const {
  const std::lock_guard lock(mutex_);
  return settings_.random_seed();
}

bool service_shared::first_sight(const std::string& field) const {
  const std::lock_guard lock(mutex_);
  return seen_.size() < names_logged_max && seen_.insert(field).second;
}

}  // namespace dinfer::net
