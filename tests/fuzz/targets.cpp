// SPDX-License-Identifier: Apache-2.0
// The table of targets, and what each may hold for a byte of input. Where that is more than 1 the
// reason stands beside it.
#include "tests/fuzz/target.hpp"

#include "tests/fuzz/memory_bound.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace dinfer::fuzz {
namespace {

constexpr std::array table{
    target{"gguf", fuzz_gguf},
    target{"safetensors", fuzz_safetensors},
    target{"safetensors_index", fuzz_safetensors_index},
    target{"tokenizer_json", fuzz_tokenizer_json},
    target{"vocab_merges", fuzz_vocab_merges},
    target{"tokenizer_config", fuzz_tokenizer_config},
    // a program, which its evaluator cuts at 2.5 MB of values
    target{"chat_template", fuzz_chat_template, 1, 4 << 20},
    target{"config_json", fuzz_config_json},
    target{"generation_config", fuzz_generation_config},
    target{"cluster_conf", fuzz_cluster_conf},
    target{"http", fuzz_http},
    target{"openai", fuzz_openai},
    target{"peer_blobs", fuzz_peer_blobs},
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
  constexpr std::uint64_t single_beside = 1 << 20;
  // A reader that goes one byte too far is seen only at the end of an allocation.
  const auto exact = std::make_unique<std::uint8_t[]>(input.size());
  if (!input.empty()) std::memcpy(exact.get(), input.data(), input.size());
  const memory_bound bound(input.size() + single_beside,
                           which.held_per_byte * input.size() + which.held_beside);
  which.run({exact.get(), input.size()});
}

void require(bool fine, const char* what) noexcept {
  if (fine) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

}  // namespace dinfer::fuzz
