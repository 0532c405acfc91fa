// SPDX-License-Identifier: Apache-2.0
// The embedding API: scheduler and one runner in a plain loop, plan, execute, apply.
#include "dinfer/engine.hpp"

#include "runtime/base/config_defaults.hpp"
#include "runtime/base/limits.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/runner.hpp"
#include "runtime/schedule/scheduler.hpp"
#include "runtime/tokenizer/model_words.hpp"
#include "runtime/weights/source.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace dinfer {

// Results in the order of their plans, from whichever thread brings them.
class result_queue {
 public:
  void put(result<runtime::step_result> done) {
    const std::lock_guard lock(mutex_);
    results_.push_back(std::move(done));
    changed_.notify_one();
  }
  result<runtime::step_result> take(std::chrono::milliseconds deadline) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, deadline, [this] { return !results_.empty(); }))
      return fail(errc::timeout,
                  "no result of a step within " + std::to_string(deadline.count()) + " ms");
    auto first = std::move(results_.front());
    results_.pop_front();
    return first;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<result<runtime::step_result>> results_;
};

struct engine::impl {
  std::unique_ptr<runtime::weight_source> source;  // the vocabulary's bytes
  std::unique_ptr<runtime::tokenizer> words;
  result_queue results;  // the runner's thread may still write to it: it outlives the runner
  std::unique_ptr<runtime::runner> runner;
  std::optional<runtime::scheduler> scheduler;
  runtime::request_bounds bounds;
  bool failed = false;  // a plan has no result, and never will

  result<void> run(engine& self, std::span<const std::vector<token_id>> prompts,
                   const sampling_params& sampling, std::vector<std::vector<token_id>>& outputs);
  bool busy() const {
    const runtime::scheduler_stats s = scheduler->stats();
    return s.running + s.waiting + s.in_flight > 0;
  }
};

namespace {

constexpr runtime::epoch_id first_epoch = 1;
constexpr std::chrono::minutes step_deadline{10};  // a CPU may take its time

bool on_cuda(const engine_options& options) { return options.device.starts_with("cuda:"); }

std::uint32_t tokens_of_step(const engine_options& options) {
  return runtime::batched_tokens(options.max_num_batched_tokens, on_cuda(options));
}

runtime::runner_options runner_options_of(const engine_options& options) {
  runtime::runner_options r;
  r.device = options.device;
  r.device_options.cpu_threads =
      options.threads != 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
  r.device_options.activation = runtime::device_activation(options.dtype, on_cuda(options));
  r.device_options.batch_invariant = options.batch_invariant;
  r.device_options.tuning_directory = options.tuning_directory;
  r.model_path = options.model_path;
  r.format = options.format;
  r.seed = options.seed;
  r.dequantize = options.dequantize;
  r.quantization = options.quantization;
  r.max_model_len = options.max_model_len;
  r.max_num_seqs = options.max_num_seqs;
  r.max_num_batched_tokens = tokens_of_step(options);
  r.cache_bytes = options.cache_bytes;
  r.memory_fraction = options.memory_fraction;
  r.kv_cache_dtype = options.kv_cache_dtype;
  r.graphs = options.cuda_graphs;
  return r;
}

// Loads, sizes and starts a rank that is alone.
result<runtime::cache_size> start(runtime::runner& runner) {
  DINFER_CHECK(runner.load({}));
  DINFER_TRY(runtime::cache_size size, runner.size_cache());
  DINFER_TRY(const std::string card, runner.card());
  DINFER_CHECK(runner.connect(std::span(&card, 1), std::chrono::milliseconds(0)));
  DINFER_CHECK(runner.start_cache(size.blocks, first_epoch));
  return size;
}

runtime::scheduler_config schedule_of(const engine_options& options,
                                      const runtime::model_shape& shape,
                                      const runtime::cache_size& size) {
  runtime::scheduler_config c;
  c.max_num_seqs = options.max_num_seqs;
  c.max_num_batched_tokens = c.max_num_mixed_tokens = tokens_of_step(options);
  c.max_model_len = options.max_model_len != 0 ? options.max_model_len
                                               : static_cast<std::uint32_t>(shape.max_positions);
  c.block_size = size.block_size;
  for (const std::uint32_t blocks : size.blocks) c.groups.push_back({blocks, 0});
  c.prefix_caching = options.prefix_caching;
  c.max_in_flight = on_cuda(options) ? 2 : 1;  // one step ahead
  c.eos_tokens = shape.eos_tokens;
  c.epoch = first_epoch;
  return c;
}

}  // namespace

engine::engine(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
engine::engine(engine&&) noexcept = default;
engine& engine::operator=(engine&&) noexcept = default;
engine::~engine() = default;

result<engine> engine::open(const engine_options& options) {
  auto parts = std::make_unique<impl>();
  DINFER_TRY(parts->source,
             runtime::open_weights(options.model_path, options.format, options.seed));
  DINFER_TRY(const runtime::model_shape shape, runtime::read_model_shape(*parts->source));
  DINFER_TRY(auto words, runtime::open_words(*parts->source, options.model_path, options.tokenizer,
                                             shape.vocabulary));
  parts->words = std::move(words.words);
  const auto layers = static_cast<std::uint32_t>(shape.layers);
  DINFER_TRY(auto layouts, runtime::lay_out(shape, 1, std::span(&layers, 1)));
  runtime::runner_options r = runner_options_of(options);
  r.layout = std::move(layouts.front());
  DINFER_TRY(parts->runner, runtime::make_model_runner(r, nullptr));
  DINFER_TRY(const runtime::cache_size size, start(*parts->runner));
  parts->scheduler.emplace(schedule_of(options, shape, size));
  parts->bounds = {parts->scheduler->config().max_model_len, shape.vocabulary};
  return engine(std::move(parts));
}

result<void> engine::submit(generate_request request) {
  DINFER_CHECK(runtime::validate(request, impl_->bounds));
  return impl_->scheduler->add(std::move(request));
}

void engine::cancel(request_id id) { impl_->scheduler->cancel(id, finish_reason::abort); }

bool engine::busy() const { return impl_->busy(); }

// Hands out plans as long as the scheduler has any, so that a device that runs behind its host
// always has the next one, then takes the oldest result.
result<std::vector<token_event>> engine::step() {
  if (impl_->failed) return fail(errc::unavailable, "an earlier step failed");
  while (const auto plan = impl_->scheduler->plan()) {
    impl_->runner->execute(*plan, [this_impl = impl_.get()](result<runtime::step_result> done) {
      this_impl->results.put(std::move(done));
    });
  }
  result<std::vector<token_event>> events;
  if (impl_->scheduler->stats().in_flight > 0) {
    impl_->failed = true;
    DINFER_TRY(const runtime::step_result done, impl_->results.take(step_deadline));
    events = impl_->scheduler->apply(done);
    if (!events) return events;
    impl_->failed = false;
  }
  auto ended = impl_->scheduler->take_events();
  std::ranges::move(ended, std::back_inserter(*events));
  return events;
}

std::vector<token_id> engine::encode(std::string_view text) const {
  return impl_->words->encode(text, false, true);
}

std::string engine::decode(std::span<const token_id> tokens) const {
  return impl_->words->decode(tokens, true);
}

// Runs prompts[next..] as requests of those ids, as many as the queue takes at a time.
result<void> engine::impl::run(engine& self, std::span<const std::vector<token_id>> prompts,
                               const sampling_params& sampling,
                               std::vector<std::vector<token_id>>& outputs) {
  std::size_t next = 0;
  const auto fill_queue = [&]() -> result<void> {
    for (; next < prompts.size(); ++next) {
      generate_request request;
      request.id = next;
      request.prompt = prompts[next];
      request.sampling = sampling;
      auto queued = self.submit(std::move(request));
      if (!queued && queued.error().code == errc::queue_full && busy()) break;
      DINFER_CHECK(std::move(queued));
    }
    return {};
  };
  DINFER_CHECK(fill_queue());
  while (busy()) {
    DINFER_TRY(const auto events, self.step());
    for (const token_event& e : events) {
      if (e.finish == finish_reason::error) return fail(errc::internal, e.message);
      for (const sampled_token& t : e.tokens) outputs[e.id].push_back(t.token);
    }
    DINFER_CHECK(fill_queue());
  }
  return {};
}

result<std::vector<std::vector<token_id>>> engine::generate(
    std::span<const std::vector<token_id>> prompts, const sampling_params& sampling) {
  if (busy()) return fail(errc::unavailable, "generate() needs an idle engine");
  std::vector<std::vector<token_id>> outputs(prompts.size());
  auto done = impl_->run(*this, prompts, sampling, outputs);
  if (done) return outputs;
  for (request_id id = 0; id < prompts.size(); ++id) cancel(id);
  while (busy() && step()) continue;
  return tl::unexpected(std::move(done).error());
}

result<std::vector<std::string>> engine::generate(std::span<const std::string> prompts,
                                                  const sampling_params& sampling) {
  if (!impl_->words->has_words())
    return fail(
        errc::unsupported,
        "the model has no tokeniser and takes prompts as token ids; engine_options::tokenizer "
        "names one",
        "tokenizer");
  std::vector<std::vector<token_id>> tokens;
  for (const std::string& p : prompts) tokens.push_back(encode(p));
  DINFER_TRY(const auto outputs, generate(tokens, sampling));
  std::vector<std::string> texts;
  for (const auto& o : outputs) texts.push_back(decode(o));
  return texts;
}

}  // namespace dinfer
