// SPDX-License-Identifier: Apache-2.0
// One put and one get per struct, field by field in the order of declaration. The number given to
// count() is the least that one element takes when all of its lists are empty.
#include "runtime/schedule/step_codec.hpp"

#include "dinfer/version.hpp"
#include "runtime/base/packed.hpp"

#include <fmt/core.h>

namespace dinfer::runtime {

namespace {

enum class blob_kind : std::uint8_t { plan = 1, result, request, batch };

void put(packed_writer& w, const sampling_params& s) {
  w.real(s.temperature);
  w.number(s.top_k);
  w.real(s.top_p);
  w.real(s.min_p);
  w.real(s.repetition_penalty);
  w.real(s.presence_penalty);
  w.real(s.frequency_penalty);
  w.count(s.logit_biases.size());
  for (const logit_bias& b : s.logit_biases) {
    w.number(b.token);
    w.real(b.bias);
  }
  w.number(s.seed);
  w.number(s.max_tokens);
  w.number(s.min_tokens);
  w.flag(s.ignore_eos);
  w.numbers(s.stop_token_ids);
  w.number(s.logprobs);
  w.number(s.prompt_logprobs);
}

sampling_params get_sampling(packed_reader& r) {
  sampling_params s;
  s.temperature = r.real();
  s.top_k = r.number<std::int32_t>();
  s.top_p = r.real();
  s.min_p = r.real();
  s.repetition_penalty = r.real();
  s.presence_penalty = r.real();
  s.frequency_penalty = r.real();
  s.logit_biases.resize(r.count(8));
  for (logit_bias& b : s.logit_biases) {
    b.token = r.number<token_id>();
    b.bias = r.real();
  }
  s.seed = r.number<std::uint64_t>();
  s.max_tokens = r.number<std::uint32_t>();
  s.min_tokens = r.number<std::uint32_t>();
  s.ignore_eos = r.flag();
  s.stop_token_ids = r.numbers<token_id>();
  s.logprobs = r.number<std::int32_t>();
  s.prompt_logprobs = r.number<std::int32_t>();
  return s;
}

constexpr std::size_t least_sampling = 61;

void put(packed_writer& w, const std::vector<sampled_token>& tokens) {
  w.count(tokens.size());
  for (const sampled_token& t : tokens) {
    w.number(t.token);
    w.real(t.logprob);
    w.count(t.top.size());
    for (const token_logprob& p : t.top) {
      w.number(p.token);
      w.real(p.logprob);
    }
  }
}

std::vector<sampled_token> get_tokens(packed_reader& r) {
  std::vector<sampled_token> tokens(r.count(12));
  for (sampled_token& t : tokens) {
    t.token = r.number<token_id>();
    t.logprob = r.real();
    t.top.resize(r.count(8));
    for (token_logprob& p : t.top) {
      p.token = r.number<token_id>();
      p.logprob = r.real();
    }
  }
  return tokens;
}

void put(packed_writer& w, const sequence_start& s) {
  w.number(s.slot);
  w.number(s.request);
  put(w, s.sampling);
  w.number(s.prompt_tokens);
  w.number(s.adapter);
  w.numbers(s.stop_tokens);
  w.numbers(s.history);
}

sequence_start get_start(packed_reader& r) {
  sequence_start s;
  s.slot = r.number<slot_id>();
  s.request = r.number<request_id>();
  s.sampling = get_sampling(r);
  s.prompt_tokens = r.number<std::uint32_t>();
  s.adapter = r.number<std::uint32_t>();
  s.stop_tokens = r.numbers<token_id>();
  s.history = r.numbers<token_id>();
  return s;
}

// Most steps decode one token: its count, rows and draw fit one byte of flags.
enum step_flag : std::uint8_t {
  one_query = 1,
  one_row = 2,
  draws = 4,
  has_tokens = 8,
  has_targets = 16
};

void put(packed_writer& w, const sequence_step& s) {
  const auto flags = static_cast<std::uint8_t>(
      (s.query_count == 1 ? one_query : 0) | (s.logit_rows == 1 ? one_row : 0) |
      (s.sample ? draws : 0) | (s.tokens.empty() ? 0 : has_tokens) |
      (s.targets.empty() ? 0 : has_targets));
  w.number(flags);
  w.number(s.slot);
  w.number(s.first_position);
  if (s.query_count != 1) w.number(s.query_count);
  if (s.logit_rows != 1) w.number(s.logit_rows);
  if (!s.tokens.empty()) w.numbers(s.tokens);
  if (!s.targets.empty()) w.numbers(s.targets);
}

sequence_step get_step(packed_reader& r) {
  sequence_step s;
  const auto flags = r.number<std::uint8_t>();
  if (flags >= 32) r.spoil();
  s.slot = r.number<slot_id>();
  s.first_position = r.number<std::uint32_t>();
  s.query_count = (flags & one_query) != 0 ? 1 : r.number<std::uint32_t>();
  s.logit_rows = (flags & one_row) != 0 ? 1 : r.number<std::uint32_t>();
  s.sample = (flags & draws) != 0;
  if ((flags & has_tokens) != 0) s.tokens = r.numbers<token_id>();
  if ((flags & has_targets) != 0) s.targets = r.numbers<token_id>();
  return s;
}

void put(packed_writer& w, const token_event& e) {
  w.number(e.id);
  put(w, e.tokens);
  put(w, e.prompt_logprobs);
  w.number(e.finish);
  w.flag(e.stop_token.has_value());
  w.number(e.stop_token.value_or(0));
  w.number(e.used.prompt_tokens);
  w.number(e.used.cached_tokens);
  w.number(e.used.completion_tokens);
  w.text(e.message);
}

token_event get_event(packed_reader& r) {
  token_event e;
  e.id = r.number<request_id>();
  e.tokens = get_tokens(r);
  e.prompt_logprobs = get_tokens(r);
  e.finish = r.choice(finish_reason::error);
  const bool stopped = r.flag();
  const auto stop_token = r.number<token_id>();
  if (stopped) e.stop_token = stop_token;
  e.used.prompt_tokens = r.number<std::uint32_t>();
  e.used.cached_tokens = r.number<std::uint32_t>();
  e.used.completion_tokens = r.number<std::uint32_t>();
  e.message = r.text();
  return e;
}

packed_writer begin(blob_kind kind) {
  packed_writer w;
  w.number(kind);
  w.number(protocol_version);
  return w;
}

const char* name(blob_kind kind) {
  switch (kind) {
    case blob_kind::plan:
      return "step plan";
    case blob_kind::result:
      return "step result";
    case blob_kind::request:
      return "request";
    case blob_kind::batch:
      return "token batch";
  }
  return "blob";
}

template <class T>
result<T> decode(std::string_view bytes, blob_kind kind, T (*get)(packed_reader&)) {
  packed_reader r(bytes);
  const auto came = r.number<blob_kind>();
  const auto version = r.number<std::uint32_t>();
  if (!r.ok() || came != kind)
    return fail(errc::mismatch, fmt::format("not a packed {}", name(kind)));
  if (version != protocol_version)
    return fail(errc::mismatch, fmt::format("a {} of protocol {} came, this is protocol {}",
                                            name(kind), version, protocol_version));
  T value = get(r);
  if (!r.done())
    return fail(errc::mismatch, fmt::format("a damaged {} of {} bytes", name(kind), bytes.size()));
  return value;
}

template <class T, class Get>
void get_list(packed_reader& r, std::vector<T>& list, std::size_t least_bytes, Get get) {
  const std::size_t n = r.count(least_bytes);
  list.reserve(n);
  for (std::size_t i = 0; i < n && r.ok(); ++i) list.push_back(get(r));
}

step_plan get_plan(packed_reader& r) {
  step_plan p;
  p.epoch = r.number<epoch_id>();
  p.step = r.number<step_id>();
  p.releases = r.numbers<slot_id>();
  get_list(r, p.starts, least_sampling + 28, get_start);
  get_list(r, p.blocks, 12, [](packed_reader& in) {
    const auto slot = in.number<slot_id>();
    const auto group = in.number<std::uint32_t>();
    return block_append{slot, group, in.numbers<block_id>()};
  });
  get_list(r, p.sequences, 9, get_step);
  return p;
}

step_result get_result(packed_reader& r) {
  step_result out;
  out.epoch = r.number<epoch_id>();
  out.step = r.number<step_id>();
  get_list(r, out.sequences, 12, [](packed_reader& in) {
    sequence_result s;
    s.slot = in.number<slot_id>();
    s.tokens = get_tokens(in);
    s.prompt = get_tokens(in);
    return s;
  });
  out.compute_us = r.number<std::uint32_t>();
  return out;
}

generate_request get_request(packed_reader& r) {
  generate_request out;
  out.id = r.number<request_id>();
  out.prompt = r.numbers<token_id>();
  out.sampling = get_sampling(r);
  out.priority = r.number<std::int32_t>();
  out.cache_salt = r.text();
  out.adapter = r.number<std::uint32_t>();
  return out;
}

token_batch get_batch(packed_reader& r) {
  token_batch b;
  get_list(r, b.tokens, 38, get_event);
  get_list(r, b.rejected, 17, [](packed_reader& in) {
    const auto id = in.number<request_id>();
    error e;
    e.code = in.choice(errc::internal);
    e.message = in.text();
    e.subject = in.text();
    return std::pair(id, std::move(e));
  });
  return b;
}

}  // namespace

std::string encode(const step_plan& plan) {
  packed_writer w = begin(blob_kind::plan);
  std::size_t tokens = 0;
  for (const sequence_step& s : plan.sequences) tokens += s.tokens.size() + s.targets.size();
  w.reserve(64 + plan.sequences.size() * 24 + tokens * 4);
  w.number(plan.epoch);
  w.number(plan.step);
  w.numbers(plan.releases);
  w.count(plan.starts.size());
  for (const sequence_start& s : plan.starts) put(w, s);
  w.count(plan.blocks.size());
  for (const block_append& b : plan.blocks) {
    w.number(b.slot);
    w.number(b.group);
    w.numbers(b.blocks);
  }
  w.count(plan.sequences.size());
  for (const sequence_step& s : plan.sequences) put(w, s);
  return w.take();
}

std::string encode(const step_result& result) {
  packed_writer w = begin(blob_kind::result);
  w.number(result.epoch);
  w.number(result.step);
  w.count(result.sequences.size());
  for (const sequence_result& s : result.sequences) {
    w.number(s.slot);
    put(w, s.tokens);
    put(w, s.prompt);
  }
  w.number(result.compute_us);
  return w.take();
}

std::string encode(const generate_request& request) {
  packed_writer w = begin(blob_kind::request);
  w.number(request.id);
  w.numbers(request.prompt);
  put(w, request.sampling);
  w.number(request.priority);
  w.text(request.cache_salt);
  w.number(request.adapter);
  return w.take();
}

std::string encode(const token_batch& batch) {
  packed_writer w = begin(blob_kind::batch);
  w.count(batch.tokens.size());
  for (const token_event& e : batch.tokens) put(w, e);
  w.count(batch.rejected.size());
  for (const auto& [id, e] : batch.rejected) {
    w.number(id);
    w.number(e.code);
    w.text(e.message);
    w.text(e.subject);
  }
  return w.take();
}

result<step_plan> decode_plan(std::string_view bytes) {
  return decode(bytes, blob_kind::plan, get_plan);
}
result<step_result> decode_result(std::string_view bytes) {
  return decode(bytes, blob_kind::result, get_result);
}
result<generate_request> decode_request(std::string_view bytes) {
  return decode(bytes, blob_kind::request, get_request);
}
result<token_batch> decode_batch(std::string_view bytes) {
  return decode(bytes, blob_kind::batch, get_batch);
}

}  // namespace dinfer::runtime
