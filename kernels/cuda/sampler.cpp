// SPDX-License-Identifier: Apache-2.0
// The host's side of the sampler: what is known of a slot before it travels, the way there, and
// which kernels a draw needs. Ranks that hold parts of the vocabulary exchange 8 bytes a row when
// no row needs more than its best candidate, else all logits, a few rows at a time; which way is
// taken never changes a token.
#include "kernels/cuda/sampler.hpp"

#include "dinfer/error.hpp"
#include "kernels/cuda/sample.hpp"
#include "kernels/cuda/update_mail.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::kernels::cuda {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// The lowest depth whose weight e^depth is at least min_p, exactly as a comparison of doubles would
// have it.
float least_depth_of(float min_p) {
  if (!(min_p > 0)) return -infinity;
  const auto stays = [&](float depth) {
    return std::exp(static_cast<double>(depth)) >= static_cast<double>(min_p);
  };
  auto depth = static_cast<float>(std::log(static_cast<double>(min_p)));
  while (!stays(depth)) depth = std::nextafter(depth, infinity);
  while (stays(std::nextafter(depth, -infinity))) depth = std::nextafter(depth, -infinity);
  return depth;
}

slot_params params_of(const sampling_params& p) {
  slot_params out;
  out.seed = p.seed;
  out.greedy = p.greedy();
  out.scale = out.greedy ? 1.0F : std::min(1.0F / p.temperature, 1e30F);  // 0 * scale must be 0
  out.top_p = p.top_p;
  out.least_depth = least_depth_of(p.min_p);
  out.top_k = p.top_k;
  out.repetition = p.repetition_penalty;
  out.presence = p.presence_penalty;
  out.frequency = p.frequency_penalty;
  out.min_tokens = p.min_tokens;
  out.logprobs = std::min(p.logprobs, most_top);
  out.prompt_logprobs = std::min(p.prompt_logprobs, most_top);
  out.filtered = p.filtered();
  out.penalised = p.penalised();
  return out;
}

// What the host knows of a slot; all but params and drawn is on its way to the device.
struct seat {
  slot_params params;
  std::uint32_t drawn = 0;
  bool dirty = false, started = false, has_last = false;
  std::int32_t last = 0;
  std::uint32_t more_drawn = 0;
  std::vector<token_bias> biases;
  std::vector<std::int32_t> stops, prompts, outputs;  // tokens are kept when penalised

  void sent() {
    dirty = started = has_last = false;
    more_drawn = 0;
    biases.clear();
    stops.clear();
    prompts.clear();
    outputs.clear();
  }
};

std::size_t counts_width_of(std::int64_t vocabulary) {
  return (static_cast<std::size_t>(vocabulary) + 7) / 8 * 8;
}

constexpr std::int64_t most_whole_rows = 32;  // put together at a time

// What exchanges between ranks need.
struct exchange_room {
  std::vector<std::int64_t> shard_rows;
  std::int64_t widest = 0;
  unsigned long long* own = nullptr;    // [most_draw_rows]
  unsigned long long* found = nullptr;  // [ranks, most_draw_rows]
  float* sent = nullptr;                // [most_whole_rows, widest]
  float* received = nullptr;            // [ranks, most_whole_rows, widest]
  float* whole = nullptr;               // [most_whole_rows, vocabulary]
};

class cuda_sampler final : public sampler {
 public:
  cuda_sampler(device& device, cudaStream_t stream, std::uint32_t slots, std::int64_t vocabulary);

  void reserve_exchange(std::span<const std::int64_t> shard_rows) override;

  void start(std::uint32_t slot, const sampling_params& params,
             std::span<const token_id> stop_tokens) override;
  void observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) override;
  void set_last(std::uint32_t slot, token_id token) override;
  void commit() override;
  bool simple(std::span<const sample_row> rows) const override;
  void sample(const sample_args& args) override;
  void fill_last(tensor ids, tensor slots) override;

 private:
  template <class T>
  T* take(std::size_t count, bool zeroed) {
    memory_.push_back(device_.allocate(count * sizeof(T), zeroed));
    return static_cast<T*>(memory_.back().data());
  }
  seat& touched(std::uint32_t slot);
  void post(std::uint32_t slot, seat& s);
  bool simple(const sample_row& row) const;
  bool in_vocabulary(token_id token) const { return token >= 0 && token < slots_.vocabulary; }
  void draw_whole(const sample_args& args, float* logits, std::int64_t first, std::int64_t count,
                  bool all_simple);
  void draw_candidates(const sample_args& args, std::int64_t count);
  void draw_shards(const sample_args& args, std::int64_t count);

  device& device_;
  cudaStream_t stream_;
  std::vector<buffer> memory_;
  slot_arrays slots_;
  draw_meeting meeting_;
  exchange_room exchange_;
  update_mail mail_;
  std::vector<seat> seats_;
  std::vector<std::uint32_t> dirty_;
};

cuda_sampler::cuda_sampler(device& device, cudaStream_t stream, std::uint32_t slots,
                           std::int64_t vocabulary)
    : device_(device), stream_(stream), mail_(device, stream), seats_(slots) {
  const std::size_t n = slots, width = counts_width_of(vocabulary);
  slots_.slots = static_cast<std::int32_t>(slots);
  slots_.vocabulary = static_cast<std::int32_t>(vocabulary);
  slots_.counts_width = static_cast<std::int64_t>(width);
  slots_.params = take<slot_params>(n + 1, true);
  slots_.last = take<std::int32_t>(n + 1, true);
  slots_.drawn = take<std::uint32_t>(n + 1, true);
  slots_.biases = take<token_bias>(n * most_biases, false);
  slots_.stops = take<std::int32_t>(n * most_stop_tokens, false);
  slots_.counts = take<std::uint16_t>(n * width, true);
  meeting_.best = take<unsigned long long>(most_draw_rows, true);
  meeting_.tickets = take<std::uint32_t>(most_draw_rows, true);
}

seat& cuda_sampler::touched(std::uint32_t slot) {
  DINFER_ASSERT(slot < seats_.size());
  seat& s = seats_[slot];
  if (!std::exchange(s.dirty, true)) dirty_.push_back(slot);
  return s;
}

void cuda_sampler::start(std::uint32_t slot, const sampling_params& params,
                         std::span<const token_id> stop_tokens) {
  seat& s = touched(slot);
  s.sent();  // what was said of the one before
  s.dirty = s.started = true;
  s.params = params_of(params);
  s.drawn = 0;
  for (const auto& b : params.logit_biases) {
    if (in_vocabulary(b.token)) s.biases.push_back({b.token, b.bias});
  }
  std::stable_sort(s.biases.begin(), s.biases.end(),
                   [](const token_bias& a, const token_bias& b) { return a.token < b.token; });
  std::copy_if(stop_tokens.begin(), stop_tokens.end(), std::back_inserter(s.stops),
               [&](token_id token) { return in_vocabulary(token); });
  if (s.biases.size() > most_biases || s.stops.size() > most_stop_tokens) {
    throw device_error(errc::unsupported, "a request has more than " + std::to_string(most_biases) +
                                              " biases or " + std::to_string(most_stop_tokens) +
                                              " stop tokens");
  }
  s.params.biases = static_cast<std::int32_t>(s.biases.size());
  s.params.stops = static_cast<std::int32_t>(s.stops.size());
}

void cuda_sampler::observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) {
  seat& s = touched(slot);
  if (output) {
    s.drawn += static_cast<std::uint32_t>(tokens.size());
    s.more_drawn += static_cast<std::uint32_t>(tokens.size());
  }
  if (!s.params.penalised) return;
  auto& kept = output ? s.outputs : s.prompts;
  kept.insert(kept.end(), tokens.begin(), tokens.end());
}

void cuda_sampler::set_last(std::uint32_t slot, token_id token) {
  seat& s = touched(slot);
  s.last = token;
  s.has_last = true;
}

// One update, or more when the tokens are too many for a page.
void cuda_sampler::post(std::uint32_t slot, seat& s) {
  std::span<const std::int32_t> prompts(s.prompts), outputs(s.outputs);
  bool first = true;
  do {
    mail_.make_room(2 * s.biases.size() + s.stops.size() + 1, slots_);
    slot_update& update = mail_.add();
    update.slot = slot;
    if (std::exchange(first, false)) {
      update.params = s.params;
      update.started = s.started;
      update.drawn = s.more_drawn;
      update.last = s.last;
      update.has_last = s.has_last;
      mail_.append(s.biases.data(), s.biases.size());
      mail_.append(s.stops.data(), s.stops.size());
    }
    const auto part = [&](std::span<const std::int32_t>& tokens) {
      const auto count = std::min(tokens.size(), mail_.room());
      mail_.append(tokens.data(), count);
      tokens = tokens.subspan(count);
      return static_cast<std::uint32_t>(count);
    };
    update.prompts = part(prompts);
    update.outputs = part(outputs);
    if (!prompts.empty() || !outputs.empty()) mail_.send(slots_);  // one update a slot in a page
  } while (!prompts.empty() || !outputs.empty());
}

void cuda_sampler::commit() {
  for (const auto slot : dirty_) {
    post(slot, seats_[slot]);
    seats_[slot].sent();
  }
  dirty_.clear();
  mail_.send(slots_);
}

bool cuda_sampler::simple(const sample_row& row) const {
  if (row.slot == seats_.size()) return true;  // padding
  DINFER_ASSERT(row.slot < seats_.size());
  const seat& s = seats_[row.slot];
  return simple_row(s.params, s.drawn, row.target);
}

bool cuda_sampler::simple(std::span<const sample_row> rows) const {
  return std::all_of(rows.begin(), rows.end(), [&](const sample_row& row) { return simple(row); });
}

void cuda_sampler::reserve_exchange(std::span<const std::int64_t> shard_rows) {
  exchange_room& e = exchange_;
  const std::size_t ranks = shard_rows.size();
  e.shard_rows.assign(shard_rows.begin(), shard_rows.end());
  e.widest = *std::max_element(shard_rows.begin(), shard_rows.end());
  const auto columns = static_cast<std::size_t>(most_whole_rows * e.widest);
  e.own = take<unsigned long long>(most_draw_rows, true);
  e.found = take<unsigned long long>(ranks * most_draw_rows, true);
  e.sent = take<float>(columns, true);
  e.received = take<float>(ranks * columns, false);
  e.whole = take<float>(static_cast<std::size_t>(most_whole_rows * slots_.vocabulary), false);
}

// `count` rows of the arguments from `first` on, without their logits.
draw_rows part_of(const sample_args& args, std::int64_t first, std::int64_t count) {
  draw_rows rows;
  rows.rows = static_cast<std::int32_t>(count);
  rows.slots = args.arrays.slots.as<std::int32_t>() + first;
  rows.positions = args.arrays.positions.as<std::int32_t>() + first;
  rows.tokens = args.drawn.tokens.as<std::int32_t>() + first;
  if (args.arrays.targets) rows.targets = args.arrays.targets.as<std::int32_t>() + first;
  return rows;
}

// Rows of the whole vocabulary: `logits` holds `count` of them, the first is row `first`.
void cuda_sampler::draw_whole(const sample_args& args, float* logits, std::int64_t first,
                              std::int64_t count, bool all_simple) {
  const bool some = all_simple || std::any_of(args.rows.begin(), args.rows.end(),
                                              [&](const sample_row& row) { return simple(row); });
  DINFER_ASSERT(all_simple || (args.arrays.targets && args.drawn.logprobs &&
                               args.drawn.top_tokens && args.drawn.top_logprobs));
  for (std::int64_t done = 0; done < count; done += most_draw_rows) {
    const std::int64_t at = first + done;
    draw_rows rows = part_of(args, at, std::min<std::int64_t>(most_draw_rows, count - done));
    rows.logits = logits + done * slots_.vocabulary;
    if (some) draw_simple(slots_, rows, meeting_, stream_);
    if (all_simple) continue;
    rows.logprobs = args.drawn.logprobs.as<float>() + at;
    rows.top_tokens = args.drawn.top_tokens.as<std::int32_t>() + at * most_top;
    rows.top_logprobs = args.drawn.top_logprobs.as<float>() + at * most_top;
    draw_others(slots_, rows, stream_);
  }
}

void cuda_sampler::draw_candidates(const sample_args& args, std::int64_t count) {
  const std::int32_t ranks = args.tp->size();
  const auto* shards = exchange_.shard_rows.data();
  const std::int64_t begin = std::accumulate(shards, shards + args.tp->rank(), std::int64_t{0});
  const vocabulary_shard shard{static_cast<std::int32_t>(begin),
                               static_cast<std::int32_t>(shards[args.tp->rank()])};
  for (std::int64_t first = 0; first < count; first += most_draw_rows) {
    draw_rows rows = part_of(args, first, std::min<std::int64_t>(most_draw_rows, count - first));
    rows.logits = args.logits.as<float>() + first * shard.width;
    best_of_shard(slots_, rows, meeting_, shard, exchange_.own, stream_);
    args.tp->all_gather(view(exchange_.own, dtype::i32, rows.rows, 2),
                        view(exchange_.found, dtype::i32, ranks, rows.rows, 2));
    draw_best(slots_, rows, exchange_.found, ranks, stream_);
  }
}

// Shards may differ in width: they travel padded to the widest.
void cuda_sampler::draw_shards(const sample_args& args, std::int64_t count) {
  const std::int64_t ranks = args.tp->size(), widest = exchange_.widest;
  const std::int64_t own = args.logits.columns();
  for (std::int64_t first = 0; first < count; first += most_whole_rows) {
    const std::int64_t n = std::min(most_whole_rows, count - first);
    const auto rows = static_cast<std::int32_t>(n);
    float* mine = args.logits.as<float>() + first * own;
    if (own < widest) {
      copy_columns(mine, own, exchange_.sent, widest, rows, static_cast<std::int32_t>(own),
                   stream_);
      mine = exchange_.sent;
    }
    args.tp->all_gather(view(mine, dtype::f32, n, widest),
                        view(exchange_.received, dtype::f32, ranks, n, widest));
    std::int64_t column = 0;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const std::int64_t width = exchange_.shard_rows[static_cast<std::size_t>(rank)];
      copy_columns(exchange_.received + rank * n * widest, widest, exchange_.whole + column,
                   slots_.vocabulary, rows, static_cast<std::int32_t>(width), stream_);
      column += width;
    }
    draw_whole(args, exchange_.whole, first, n, false);
  }
}

void cuda_sampler::sample(const sample_args& args) {
  if (args.rows.empty()) return;
  const std::int64_t count = args.logits.shape[0];  // with padding, which `rows` does not name
  DINFER_ASSERT(args.logits.type == dtype::f32 && args.logits.rank == 2 && dirty_.empty());
  DINFER_ASSERT(static_cast<std::int64_t>(args.rows.size()) <= count);
  DINFER_ASSERT(args.arrays.slots.elements() >= count && args.arrays.positions.elements() >= count);
  DINFER_ASSERT(args.drawn.tokens.elements() >= count);
  const bool all = simple(args.rows);
  if (args.tp == nullptr || args.tp->size() == 1) {
    DINFER_ASSERT(args.logits.columns() == slots_.vocabulary);
    draw_whole(args, args.logits.as<float>(), 0, count, all);
  } else {
    const auto rank = static_cast<std::size_t>(args.tp->rank());
    DINFER_ASSERT(exchange_.shard_rows.size() == static_cast<std::size_t>(args.tp->size()) &&
                  args.logits.columns() == exchange_.shard_rows[rank]);
    if (all) draw_candidates(args, count);
    else draw_shards(args, count);
  }
  for (const sample_row& row : args.rows) {
    if (row.target < 0 && row.slot < seats_.size()) ++seats_[row.slot].drawn;
  }
}

void cuda_sampler::fill_last(tensor ids, tensor slots) {
  DINFER_ASSERT(ids.elements() == slots.elements() && dirty_.empty());
  cuda::fill_last(slots_, ids.as<std::int32_t>(), slots.as<std::int32_t>(), ids.elements(),
                  stream_);
}

}  // namespace

std::unique_ptr<sampler> make_cuda_sampler(device& device, cudaStream_t stream, std::uint32_t slots,
                                           std::int64_t vocabulary) {
  DINFER_ASSERT(slots < (1U << 20) && vocabulary > 0 && vocabulary <= most_vocabulary);
  return std::make_unique<cuda_sampler>(device, stream, slots, vocabulary);
}

}  // namespace dinfer::kernels::cuda
