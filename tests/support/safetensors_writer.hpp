// SPDX-License-Identifier: Apache-2.0
// Writes small .safetensors files for tests: tensors in the order in which they were added, or a
// header word by word. It shares nothing with the reader, so that the two check each other; what it
// writes was compared with the safetensors package's writer
// (tests/reference/safetensors_golden.py).
#pragma once

#include "tests/support/catch.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace dinfer::tests {

// The header's length, the header, the data.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string out(sizeof length, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out + header + data;
}

class safetensors_writer {
 public:
  safetensors_writer& metadata(const std::string& key, const std::string& value) {
    add(R"("__metadata__":{")" + key + R"(":")" + value + R"("})");
    return *this;
  }
  // `name` needs no escapes; `type` is the format's ("BF16").
  safetensors_writer& tensor(const std::string& name, const std::string& type,
                             const std::vector<std::int64_t>& shape,
                             std::span<const std::byte> data) {
    const std::size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(data.data()), data.size());
    std::string extents;
    for (const auto extent : shape)
      extents += (extents.empty() ? "" : ",") + std::to_string(extent);
    add('"' + name + R"(":{"dtype":")" + type + R"(","shape":[)" + extents +
        R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(data_.size()) +
        "]}");
    return *this;
  }
  safetensors_writer& tensor(const std::string& name, const std::vector<std::int64_t>& shape,
                             std::span<const float> values) {
    return tensor(name, "F32", shape, std::as_bytes(values));
  }
  std::string file() const {
    std::string header = "{" + header_ + "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    return safetensors_file(header, data_);
  }

 private:
  void add(const std::string& field) { header_ += (header_.empty() ? "" : ",") + field; }
  std::string header_, data_;
};

}  // namespace dinfer::tests
