// SPDX-License-Identifier: Apache-2.0
// The engine inside another program: one device, no actors, no sockets, no threads but the
// device's. open, then submit and step as requests come, or generate to have it all done. Thread:
// one at a time.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "dinfer/export.hpp"
#include "dinfer/request.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer {

struct engine_options {
  std::string model_path;  // a .gguf file, a Hugging Face checkpoint, or a folder that holds one
  load_format format = load_format::automatic;  // random: model_path is a config.json
  std::uint64_t seed = 0;                       // of made-up weights
  std::string tokenizer;  // a .gguf file or folder whose tokeniser serves; empty: the model's own.
                          // Made-up models without it take and give token ids alone
  std::string device = "cpu:0";                  // or "cuda:0"
  dtype_choice dtype = dtype_choice::automatic;  // of activations; automatic: bfloat16 on CUDA;
                                                 // float32 on CPUs, but rounded to 8 bits where
                                                 // they meet quantised weights
  bool batch_invariant = false;     // a request's tokens never depend on others beside it
  bool cuda_graphs = true;          // record decoding steps and replay them
  std::string tuning_directory;     // where CUDA keeps which kernels were fastest; empty: nowhere
  std::uint32_t threads = 0;        // of a CPU device; 0: every core
  std::uint32_t max_model_len = 0;  // prompt and output tokens of a sequence; 0: as trained
  std::uint32_t max_num_seqs = 32;  // that run at once; more wait
  std::uint32_t max_num_batched_tokens = 0;  // prompt and output tokens of one step; 0: 512 on
                                             // CPUs, 8192 on CUDA
  std::uint64_t cache_bytes = 0;             // of KV cache; 0: decided from free memory
  double memory_fraction = 0;                // of a GPU's memory, for everything; 0: decided
  cache_dtype_choice kv_cache_dtype = cache_dtype_choice::automatic;  // fp8: on GPUs, half the size
  bool prefix_caching = true;
  bool dequantize = false;                                       // expand quantised weights at load
  quantization_choice quantization = quantization_choice::none;  // fp8: 8-bit floats, on GPUs
};

class DINFER_EXPORT engine {
 public:
  // Loads the model. Errors: not_found, bad_file, unsupported, invalid_argument, out_of_memory.
  static result<engine> open(const engine_options& options);
  engine(engine&&) noexcept;
  engine& operator=(engine&&) noexcept;
  ~engine();

  // Queues a request; `request.id` is the caller's and unique while the request lives. Errors:
  // invalid_argument, queue_full.
  result<void> submit(generate_request request);
  // Its last event has finish_reason::abort. Unknown ids are ignored.
  void cancel(request_id id);
  bool busy() const;  // some request has not had its last event
  // Computes one step and tells what became known; nothing when idle. After an error the engine can
  // only be destroyed.
  result<std::vector<token_event>> step();

  // Prompts to the end of their outputs, in order; a text's stop token is not part of it. The
  // engine must be idle. Errors: as submit and step.
  result<std::vector<std::vector<token_id>>> generate(
      std::span<const std::vector<token_id>> prompts, const sampling_params& sampling);
  result<std::vector<std::string>> generate(std::span<const std::string> prompts,
                                            const sampling_params& sampling);

  // Plain text: control tokens in it are not recognised. Nothing where the model has no tokeniser
  // (load_format::random).
  std::vector<token_id> encode(std::string_view text) const;
  std::string decode(std::span<const token_id> tokens) const;  // without control tokens

 private:
  struct impl;
  explicit engine(std::unique_ptr<impl> parts);
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer
