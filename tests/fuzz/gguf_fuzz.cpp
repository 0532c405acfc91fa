// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a GGUF file. Not part of the normal build; with clang:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude \
//     tests/fuzz/gguf_fuzz.cpp runtime/weights/{gguf,gguf_metadata,fingerprint}.cpp \
//     runtime/base/mapped_file.cpp runtime/models/model_config.cpp include/dinfer/words.cpp \
//     -DDINFER_VERSION='""' -DDINFER_COMPILER='""' -lfmt -lcrypto -o gguf_fuzz
//   ./gguf_fuzz -max_len=4096 -malloc_limit_mb=8 corpus/
#include "runtime/models/model_config.hpp"
#include "runtime/weights/gguf.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto source = dinfer::runtime::parse_gguf(bytes, "fuzz.gguf");
  if (!source) return 0;
  unsigned sum = 0;
  for (const auto& tensor : (*source)->tensors()) {
    for (const std::byte b : tensor.data) sum += static_cast<unsigned>(b);
    if ((*source)->find(tensor.name) != &tensor) std::abort();
  }
  const auto shape = dinfer::runtime::read_model_shape(**source);
  if (shape && shape->heads % shape->kv_heads != 0) std::abort();
  if ((*source)->fingerprint(sum % 2 == 0).size() != 64) std::abort();
  return 0;
}
