// SPDX-License-Identifier: Apache-2.0
// Every rank of a model as a thread of the test, each with its own runner and queue of plans,
// joined by the CPU transport, GPUs by NCCL beside it. Plans may be queued far ahead of their
// results.
#pragma once

#include "runtime/models/model_config.hpp"
#include "runtime/runner.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::tests {

class rank_cluster {
 public:
  // `base`: everything but the layout; of GPUs rank i gets "cuda:i". Fails the test when a rank
  // does not start.
  rank_cluster(const runtime::runner_options& base, std::uint32_t tp,
               const std::vector<std::uint32_t>& layers_per_stage);
  ~rank_cluster();

  void push(runtime::step_plan plan);  // to every rank
  void push_to(std::size_t index, runtime::step_plan plan);
  // The next results of the last stage, in step order; errors of any rank come here too. Fails the
  // test after a minute.
  result<runtime::step_result> pop();
  void restart();    // a new epoch on the same connections
  void reconnect();  // a new epoch on new ones
  runtime::epoch_id epoch() const { return epoch_; }

  const runtime::model_shape& shape() const { return shape_; }
  const runtime::cache_size& cache() const { return cache_; }
  std::size_t size() const { return ranks_.size(); }
  runtime::runner& runner(std::size_t index) { return *ranks_[index]->runner; }

 private:
  struct rank {
    std::unique_ptr<runtime::runner> runner;
    std::deque<std::function<void()>> work;
    bool stop = false;
    std::thread thread;
  };
  rank_cluster() = default;  // so that the destructor runs when the other constructor throws
  void serve(rank& r);
  void post(rank& r, std::function<void()> work);
  void everywhere(const std::function<result<void>(runtime::runner&)>& work);
  void connect();

  runtime::model_shape shape_;
  runtime::cache_size cache_;
  runtime::epoch_id epoch_ = 0;
  std::vector<std::unique_ptr<rank>> ranks_;
  std::vector<std::string> cards_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<result<runtime::step_result>> results_;
};

// What one sequence of a script wants, and what it got.
struct scripted_sequence {
  std::vector<token_id> prompt;
  std::vector<token_id> outputs;  // drawn before it left; it comes back with them
  std::uint32_t cached = 0;       // leading tokens whose keys are in the pages from the run before
  std::vector<token_id> stop_tokens;
  sampling_params sampling;
  std::uint32_t tokens = 8;  // to draw
  bool score_prompt = false;

  std::vector<sampled_token> drawn;
  std::vector<sampled_token> scores;  // of prompt tokens 1..
};

// Runs the sequences together from slot 0 on, prompts in chunks of `chunk` tokens (0: whole), every
// plan queued before the first result is read: the ranks live on their own tokens. Blocks are dealt
// out in a scattered order. Fails the test on an error.
void run_script(rank_cluster& cluster, std::vector<scripted_sequence>& sequences,
                std::uint32_t chunk);

}  // namespace dinfer::tests
