// SPDX-License-Identifier: Apache-2.0
// The generating calls of one io thread: from a request's body over the engine to its answer, and
// to a cancellation when the client leaves. One thread, that of its service.
#pragma once

#include "net/openai/request_context.hpp"
#include "net/openai/service.hpp"

#include <memory>
#include <unordered_map>
#include <vector>

namespace dinfer::net {

class generating_calls {
 public:
  generating_calls(service_shared& shared, const offload_function& offload)
      : shared_(shared), offload_(offload) {}

  void start(call_kind kind, std::string body, std::shared_ptr<request_context> context);
  void deliver(const engine_events& events);

 private:
  struct job;   // a call that is being read and tokenised
  struct call;  // a call that the engine works on

  void submit(std::shared_ptr<job> prepared);
  void touch(const std::shared_ptr<call>& c);
  void flush(const std::shared_ptr<call>& c);
  void fail(const std::shared_ptr<call>& c, const error& why);
  void lost(const std::shared_ptr<call>& c, lost_reason reason);
  void abandon(const std::shared_ptr<call>& c);
  void finish(const std::shared_ptr<call>& c, std::string_view outcome);

  service_shared& shared_;
  const offload_function& offload_;
  std::unordered_map<request_id, std::shared_ptr<call>> by_id_;
  std::vector<std::shared_ptr<call>> touched_;  // by the events being delivered
};

}  // namespace dinfer::net
