// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a .safetensors file. Not part of the normal build; with clang:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude \
//     tests/fuzz/safetensors_fuzz.cpp runtime/weights/{safetensors_header,gguf_metadata}.cpp \
//     include/dinfer/words.cpp -DDINFER_VERSION='""' -DDINFER_COMPILER='""' \
//     -lfmt -lsimdjson -o safetensors_fuzz
//   ./safetensors_fuzz -max_len=4096 -malloc_limit_mb=8 corpus/
#include "runtime/weights/safetensors.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto contents = dinfer::runtime::parse_safetensors(bytes, "fuzz");
  if (!contents) return 0;
  std::size_t covered = contents->header_bytes;
  unsigned sum = 0;
  for (const auto& entry : contents->entries) {
    for (const std::byte b : entry.data) sum += static_cast<unsigned>(b);
    covered += entry.data.size();
  }
  if (covered != size || sum == 0xFFFFFFFFU) std::abort();  // every byte belongs to one part
  return 0;
}
