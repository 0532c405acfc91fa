// SPDX-License-Identifier: Apache-2.0
// The OpenAI-compatible API over exchanges: one check of the key, routing, endpoints, and the calls
// that generate. There is one service per io thread, used on that thread alone; what they have in
// common is service_shared, which any thread may use.
#pragma once

#include "net/http/exchange.hpp"
#include "net/http/server.hpp"
#include "net/openai/api_keys.hpp"
#include "net/openai/request_metrics.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace dinfer::net {

// A model with what is measured of its requests.
struct loaded_model {
  loaded_model(served_model m, runtime::metrics_registry& registry)
      : served(std::make_shared<const served_model>(std::move(m))), metrics(registry, *served) {}
  std::shared_ptr<const served_model> served;
  request_metrics metrics;
  std::int64_t created = 0;
};

class service_shared {
 public:
  struct settings {
    std::vector<std::string> api_keys, cors_origins;
    std::function<std::int64_t()> now_unix;
    std::function<std::uint64_t()> random_seed;
  };
  service_shared(settings s, std::shared_ptr<engine_link> engine,
                 std::shared_ptr<runtime::metrics_registry> metrics);

  void model_ready(served_model model);
  std::shared_ptr<const loaded_model> model() const;
  void start_draining() { draining_ = true; }
  bool draining() const { return draining_; }
  // The engine's state, with draining and a missing model taken into account.
  engine_status status() const;
  bool allow(std::string_view authorization) const { return keys_.allow(authorization); }
  bool origin_allowed(std::string_view origin) const;
  std::int64_t now_unix() const { return settings_.now_unix(); }
  std::uint64_t random() const;
  // True once for each name, for the first few.
  bool first_sight(const std::string& field) const;

  engine_link& engine() const { return *engine_; }
  runtime::metrics_registry& registry() const { return *metrics_; }
  const http_metrics& http() const { return http_; }

 private:
  settings settings_;
  std::shared_ptr<engine_link> engine_;
  std::shared_ptr<runtime::metrics_registry> metrics_;
  api_keys keys_;
  http_metrics http_;
  std::atomic<bool> draining_{false};
  mutable std::mutex mutex_;  // model_, seen_ and calls of random_seed
  std::shared_ptr<const loaded_model> model_;
  mutable std::set<std::string> seen_;
};

class service {
 public:
  service(service_shared& shared, offload_function offload);
  ~service();
  void handle(http_request request, std::shared_ptr<exchange> to);
  // Takes the events of its own calls; several services may be given the same object.
  void deliver(const engine_events& events);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::net
