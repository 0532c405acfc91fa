// SPDX-License-Identifier: Apache-2.0
// The table of targets, and what each may hold for a byte of input. Where that is more than 1 byte
// the reason stands beside it.
#include "tests/fuzz/target.hpp"

#include "tests/fuzz/memory_bound.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace dinfer::fuzz {
namespace {

constexpr std::uint64_t small_input = 64 << 10, single_beside = 1 << 20;

// simdjson keeps 8 bytes on its tape, 4 of structure and 5/3 of text for a byte of a document.
constexpr std::uint64_t of_json = 16;

constexpr std::array table{
    // tables of a tokenizer: 13; of weights see tests/runtime/weights/gguf_hostile_test.cpp
    target{"gguf", fuzz_gguf, 16},
    // a header has at most 32 KB and a part of the tensors
    target{"safetensors", fuzz_safetensors, 1},
    target{"safetensors_index", fuzz_safetensors_index, 1},
    target{"tokenizer_json", fuzz_tokenizer_json, of_json},
    target{"vocab_merges", fuzz_vocab_merges, of_json},
    target{"tokenizer_config", fuzz_tokenizer_config, of_json},
    // a program, which its evaluator cuts at 2.5 MB of values; its tree: 12
    target{"chat_template", fuzz_chat_template, 12, 4 << 20},
    target{"config_json", fuzz_config_json, of_json},
    target{"generation_config", fuzz_generation_config, of_json},
    // toml++ keeps 70 bytes of a value of two or three, and its place; a file has at most 1 MB
    target{"cluster_conf", fuzz_cluster_conf, 96},
    // requests handed over and answers of 100 bytes, which the target collects
    target{"http", fuzz_http, 32},
    // 16 bytes of a value of two, in a stack that doubles, then in a list; at most a million values
    target{"openai", fuzz_openai, 48},
    // 40 bytes of a token of 12
    target{"peer_blobs", fuzz_peer_blobs, 16},
    target{"peer_cards", fuzz_peer_cards},
    target{"peer_frames", fuzz_peer_frames},
};

}  // namespace

std::span<const target> targets() noexcept { return table; }

const target* find_target(std::string_view name) noexcept {
  for (const auto& each : table)
    if (each.name == name) return &each;
  return nullptr;
}

void run_bounded(const target& which, bytes input) {
  // A reader that goes one byte too far is seen only at the end of an allocation.
  const auto exact = std::make_unique<std::uint8_t[]>(input.size());
  if (!input.empty()) std::memcpy(exact.get(), input.data(), input.size());
  const auto held = which.held_per_byte * input.size() + which.held_beside;
  const memory_bound bound(input.size() <= small_input ? input.size() + single_beside : held, held);
  which.run({exact.get(), input.size()});
}

void require(bool fine, const char* what) noexcept {
  if (fine) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

}  // namespace dinfer::fuzz
