// SPDX-License-Identifier: Apache-2.0
// Checkpoints as Hugging Face publishes them: one or more .safetensors files and a config.json in a
// folder. Everything that the files claim is checked on opening; the tensors' bytes are only
// pointed at, mapped read-only. Names are those that models ask for (hf_names.hpp). Written after
// the format's description (huggingface/safetensors, README.md). Thread: any.
#pragma once

#include "dinfer/error.hpp"
#include "kernels/tensor.hpp"
#include "runtime/weights/source.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

// `path` is a folder: its model.safetensors, or the shards that its model.safetensors.index.json
// names, or its only .safetensors file; or one such file. config.json lies beside it. The source
// answers text() to "config.json", "generation_config.json" where there is one, and
// "general.name". Errors as those of open_weights.
result<std::unique_ptr<weight_source>> open_safetensors(const std::string& path);

// For tests and fuzzing, and for the above: what one file holds, under its own names.
struct safetensors_entry {
  std::string name;
  std::string stored_type;             // "BF16"
  std::optional<kernels::dtype> type;  // nullopt: none that this build reads
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;  // into the file
};
struct safetensors_contents {
  std::vector<safetensors_entry> entries;  // in the order of their data
  std::size_t header_bytes = 0;            // the data begin behind them
};
// `file` stands in messages. Errors: bad_file, unsupported (a type that nobody knows).
result<safetensors_contents> parse_safetensors(std::span<const std::byte> bytes,
                                               const std::string& file);

// Bytes of JSON that may stand beside `data_bytes` of tensors. Reading JSON takes some fifteen
// times its length, so this keeps memory below the files' size and 1 MB; real ones are a
// thousandth.
constexpr std::uint64_t most_json_bytes(std::uint64_t data_bytes) noexcept {
  return (std::uint64_t{32} << 10) + data_bytes / 32;
}

}  // namespace dinfer::runtime
