// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a tokenizer.json, then a text through what was read. Not part of
// the normal build; with clang:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude
//     tests/fuzz/tokenizer_json_fuzz.cpp runtime/tokenizer/*.cpp runtime/base/mapped_file.cpp
//     include/dinfer/words.cpp (without chat_template, model_words, checkpoint_words.cpp)
//     -DDINFER_VERSION='""' -DDINFER_COMPILER='""' -lfmt -lsimdjson -lpcre2-8 -lutf8proc -o fuzz
//   ./fuzz -max_len=65536 -malloc_limit_mb=64 corpus/ tests/golden/tokenizers/
#include "runtime/tokenizer/tokenizer_json.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dinfer::runtime;
  const auto file = json_file::parse({reinterpret_cast<const char*>(data), size}, "tokenizer.json");
  if (!file) return 0;
  auto parts = read_tokenizer_json(*file, {});
  if (!parts) return 0;
  const auto words = make_tokenizer(std::move(*parts));
  const auto tokens = words->encode("A don't <s> 12  \xC3\xA9\xFF</s>", true, true);
  for (const dinfer::token_id t : tokens)
    if (t < 0 || t >= words->size()) std::abort();
  (void)words->decode(tokens, size % 2 == 0);
  return 0;
}
