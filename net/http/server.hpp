// SPDX-License-Identifier: Apache-2.0
// The OpenAI-compatible HTTP server: accepts, parses, renders, streams. Limits are in http_limits;
// every wait has a deadline. Threads: it runs its own io threads, each with its own io_context;
// every connection lives on one.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "net/openai/engine_link.hpp"
#include "runtime/base/metrics.hpp"
#include "runtime/tokenizer/chat_template.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::net {

struct http_limits {
  std::uint32_t head_bytes = 16 * 1024;
  std::uint32_t head_fields = 100;
  std::uint64_t body_bytes = 10 * 1024 * 1024;
  std::chrono::milliseconds head_timeout{10'000}, body_timeout{30'000}, write_timeout{30'000},
      idle_timeout{60'000};
  std::uint32_t connections = 4096, connections_per_address = 128;
  std::uint32_t stream_chunks = 256;  // buffered for a slow reader, then the stream is aborted
  std::uint64_t stream_bytes = 1 << 20;
  std::int32_t socket_send_bytes = 128 * 1024;  // in the kernel, which doubles it
};

// What is served. `words` and `chat` may be null while the model loads; they are set once by
// model_ready().
struct served_model {
  std::string name;
  std::string root;  // the model's path or id, as /v1/models shows it
  std::uint32_t max_model_len = 0;
  std::shared_ptr<const runtime::tokenizer> words;
  std::shared_ptr<const runtime::chat_template> chat;  // null: the model has none
  std::vector<token_id> eos_tokens;
  sampling_params sampling;  // for what requests leave out
};

class http_server {
 public:
  struct options {
    gateway_section gateway;
    http_limits limits;
    std::vector<std::string> api_keys;
    std::function<std::int64_t()> now_unix;      // injected clock, for `created` and templates
    std::function<std::uint64_t()> random_seed;  // injected, for requests without a seed
  };

  http_server(options settings, std::shared_ptr<engine_link> engine,
              std::shared_ptr<runtime::metrics_registry> metrics);
  ~http_server();  // stop(0)

  // Binds and starts the threads. Error: io_error, naming address and port. With port 0 see port().
  result<void> start();
  std::uint16_t port() const noexcept;
  void model_ready(served_model model);

  // Any thread: one call per step, one post per io thread.
  void deliver(engine_events events);

  // No new connections or requests; waits for running streams at most `drain`, then closes all.
  // Once.
  void stop(std::chrono::milliseconds drain);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::net
