// SPDX-License-Identifier: Apache-2.0
// GGUF files, versions 2 and 3, little-endian: header, metadata, tensor directory, data. Everything
// that the file claims is checked on opening; the tensors' bytes are only pointed at. Written after
// the format's specification (ggml-org/ggml, docs/gguf.md).
#pragma once

#include "dinfer/error.hpp"
#include "runtime/base/mapped_file.hpp"
#include "runtime/weights/source.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace dinfer::runtime {

// Errors as those of open_weights; each says the file, the byte and what is wrong.
result<std::unique_ptr<weight_source>> open_gguf(mapped_file file);

// The same over bytes that outlive the source: for tests and fuzzing. `name` stands in messages.
result<std::unique_ptr<weight_source>> parse_gguf(std::span<const std::byte> bytes,
                                                  std::string name);

}  // namespace dinfer::runtime
