// SPDX-License-Identifier: Apache-2.0
// See clients.hpp.
#include "tests/sim/clients.hpp"

#include "runtime/fake_runner.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::sim {

void clients::submitted(const generate_request& asked, process_id at) {
  auto& r = requests_[asked.id];
  r.at = at;
  auto tokens = asked.prompt;
  const auto seed = runtime::fake_seed(0, asked.sampling.seed);
  const auto& stops = asked.sampling.stop_token_ids;
  while (r.expected.size() < asked.sampling.max_tokens) {
    tokens.push_back(runtime::fake_next_token(tokens, seed, vocabulary));
    r.expected.push_back(tokens.back());
    if (std::find(stops.begin(), stops.end(), tokens.back()) == stops.end()) continue;
    r.expected_end = finish_reason::stop;
    break;
  }
  ++open_;
  world_.note(packed(20, asked.id), "request {:x} of {} + {} tokens goes to process {}", asked.id,
              asked.prompt.size(), r.expected.size(), at);
}

clients::request* clients::find(process_id from, request_id id) {
  const auto found = requests_.find(id);
  if (found != requests_.end() && found->second.at == from) return &found->second;
  wrong(id, "nobody asked for it there");
  return nullptr;
}

void clients::take(process_id from, const net::engine_events& events) {
  for (const auto& event : events.tokens)
    if (auto* r = find(from, event.id)) take(event.id, *r, event);
  for (const auto& [id, why] : events.rejected) {
    auto* r = find(from, id);
    if (r == nullptr) continue;
    if (r->got > 0) wrong(id, "was refused after its first token");
    if (why.code != errc::unavailable && why.code != errc::queue_full)
      wrong(id, "was refused: " + why.message);
    ++tally_.refused;
    end(id, *r, "refused: " + why.message);
  }
}

void clients::take(request_id id, request& r, const token_event& event) {
  if (r.ended) return wrong(id, "got something after its end, which was: " + r.how);
  for (const auto& token : event.tokens) {
    world_.note(packed(21, id, static_cast<std::uint64_t>(token.token)), "request {:x} gets {}", id,
                token.token);
    ++tally_.tokens;
    if (r.got >= r.expected.size()) return wrong(id, "got more tokens than it asked for");
    if (token.token != r.expected[r.got])
      return wrong(id, fmt::format("got {} as token {}, which is {}", token.token, r.got,
                                   r.expected[r.got]));
    ++r.got;
  }
  switch (event.finish) {
    case finish_reason::none:
      return;
    case finish_reason::length:
    case finish_reason::stop:
      if (event.finish != r.expected_end || r.got != r.expected.size())
        wrong(id, fmt::format("ended with {} after {} of {} tokens", to_string(event.finish), r.got,
                              r.expected.size()));
      r.served = true;
      ++tally_.finished;
      break;
    case finish_reason::abort:
      if (!r.cancelled) wrong(id, "was aborted, and its client did not ask for it");
      ++tally_.aborted;
      break;
    case finish_reason::error:
      if (!errors_expected_) wrong(id, "failed before anything was broken: " + event.message);
      ++tally_.failed;
      r.failed = true;
      break;
  }
  end(id, r, fmt::format("{} {}", to_string(event.finish), event.message));
}

void clients::end(request_id id, request& r, std::string how) {
  if (r.ended) return wrong(id, "ended twice: " + r.how + ", " + how);
  r.ended = true;
  r.how = std::move(how);
  --open_;
  world_.note(packed(22, id, r.got), "request {:x} ends after {} tokens: {}", id, r.got, r.how);
}

void clients::check_told(process_id left) {
  for (const auto& [id, r] : requests_)
    if (r.at == left && !r.ended) wrong(id, "was left without an end by a process that ended");
}

void clients::disconnect(process_id died) {
  for (auto& [id, r] : requests_) {
    if (r.at != died || r.ended) continue;
    ++tally_.disconnected;
    end(id, r, "disconnected");
  }
}

std::uint64_t clients::failures(std::uint32_t gateway) const {
  return static_cast<std::uint64_t>(
      std::count_if(requests_.begin(), requests_.end(), [gateway](const auto& entry) {
        return entry.first >> 48 == gateway && entry.second.failed;
      }));
}

std::string clients::open_words() const {
  std::string words;
  for (const auto& [id, r] : requests_)
    if (!r.ended)
      words += fmt::format("{}{:x} (process {}, {} of {} tokens)", words.empty() ? "" : ", ", id,
                           r.at, r.got, r.expected.size());
  return words;
}

void clients::wrong(request_id id, const std::string& what) {
  world_.broken(fmt::format("request {:x} {}", id, what));
}

}  // namespace dinfer::sim
