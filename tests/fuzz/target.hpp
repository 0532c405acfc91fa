// SPDX-License-Identifier: Apache-2.0
// What is fuzzed: a function per parser that takes any bytes, and ends the process when what it
// found breaks a promise. fuzz_main.cpp lets libFuzzer make the bytes, replay_main.cpp takes those
// of tests/fuzz/corpus. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dinfer::fuzz {

using bytes = std::span<const std::uint8_t>;

struct target {
  std::string_view name;  // of its folder in tests/fuzz/corpus
  void (*run)(bytes input);
  // What it may hold at a time: so many bytes for each of the input's, and these beside.
  std::uint64_t held_per_byte = 1, held_beside = 1 << 20;
};

std::span<const target> targets() noexcept;
const target* find_target(std::string_view name) noexcept;

// Runs a target under its bounds of memory, on a copy of the input in memory of just its size. Of
// inputs as small as a fuzzer's no single allocation may be larger than the input and 1 MB; of
// large ones what is held at a time alone is bounded.
void run_bounded(const target& which, bytes input);

// Ends the process, with `what`, unless `fine`.
void require(bool fine, const char* what) noexcept;

inline std::string_view text_of(bytes input) noexcept {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

// weights_targets.cpp
void fuzz_gguf(bytes input);
void fuzz_safetensors(bytes input);
void fuzz_safetensors_index(bytes input);
// words_targets.cpp
void fuzz_tokenizer_json(bytes input);
void fuzz_vocab_merges(bytes input);
void fuzz_tokenizer_config(bytes input);
void fuzz_chat_template(bytes input);
// config_targets.cpp
void fuzz_config_json(bytes input);
void fuzz_generation_config(bytes input);
void fuzz_cluster_conf(bytes input);
// http_target.cpp, openai_target.cpp
void fuzz_http(bytes input);
void fuzz_openai(bytes input);
// peer_targets.cpp
void fuzz_peer_blobs(bytes input);
void fuzz_peer_cards(bytes input);
void fuzz_peer_frames(bytes input);

}  // namespace dinfer::fuzz
