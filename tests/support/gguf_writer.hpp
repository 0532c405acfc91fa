// SPDX-License-Identifier: Apache-2.0
// Writes small GGUF files (version 3) for tests: metadata and tensors in the order in which they
// were added. It shares nothing with the reader, so that the two check each other; what it writes
// was compared with the gguf package's writer (tests/reference/gguf_golden.py).
#pragma once

#include "kernels/tensor.hpp"
#include "tests/support/catch.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dinfer::tests {

class gguf_writer {
 public:
  explicit gguf_writer(std::uint32_t alignment = 32) : alignment_(alignment) {
    if (alignment != 32) set("general.alignment", alignment);
  }

  // One value: bool, any integer or float type, or a string.
  template <class T>
  gguf_writer& set(const std::string& key, const T& value) {
    begin_pair(key);
    put(pairs_, type_number<T>());
    put_value(pairs_, value);
    return *this;
  }
  gguf_writer& set(const std::string& key, const char* value) {
    return set(key, std::string(value));
  }
  // An array of them.
  template <class T>
  gguf_writer& set(const std::string& key, const std::vector<T>& values) {
    begin_pair(key);
    put(pairs_, std::uint32_t{9});
    put(pairs_, type_number<T>());
    put(pairs_, static_cast<std::uint64_t>(values.size()));
    for (const auto& value : values) put_value<T>(pairs_, value);
    return *this;
  }

  // `shape` is row-major, [rows, columns]; `data` has exactly the bytes of `type` and `shape`.
  gguf_writer& tensor(const std::string& name, kernels::dtype type,
                      const std::vector<std::int64_t>& shape, std::span<const std::byte> data) {
    put_value(directory_, name);
    put(directory_, static_cast<std::uint32_t>(shape.size()));
    for (auto it = shape.rbegin(); it != shape.rend(); ++it)
      put(directory_, static_cast<std::uint64_t>(*it));
    put(directory_, tensor_number(type));
    pad(data_);
    put(directory_, static_cast<std::uint64_t>(data_.size()));
    data_.append(reinterpret_cast<const char*>(data.data()), data.size());
    ++tensor_count_;
    return *this;
  }
  gguf_writer& tensor(const std::string& name, const std::vector<std::int64_t>& shape,
                      std::span<const float> values) {
    return tensor(name, kernels::dtype::f32, shape, std::as_bytes(values));
  }

  std::string file() const {
    std::string out = head();
    pad(out);
    out += data_;
    pad(out);
    return out;
  }
  // Header, metadata and directory, without padding.
  std::string head() const {
    std::string out = "GGUF";
    put(out, std::uint32_t{3});
    put(out, tensor_count_);
    put(out, pair_count_);
    return out + pairs_ + directory_;
  }
  void write(const std::string& path) const {
    std::ofstream stream(path, std::ios::binary | std::ios::trunc);
    stream << file();
    REQUIRE(stream.flush().good());
  }

 private:
  template <class T>
  static void put(std::string& to, T value) {
    static_assert(std::is_arithmetic_v<T>);
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    to.append(raw, sizeof raw);
  }
  template <class T>
  static void put_value(std::string& to, const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      put(to, static_cast<std::uint64_t>(value.size()));
      to += value;
    } else {
      put(to, value);
    }
  }
  template <class T>
  static std::uint32_t type_number() {
    if constexpr (std::is_same_v<T, std::string>) return 8;
    else if constexpr (std::is_same_v<T, bool>) return 7;
    else if constexpr (std::is_same_v<T, float>) return 6;
    else if constexpr (std::is_same_v<T, double>) return 12;
    else {
      static_assert(std::is_integral_v<T>);
      constexpr std::uint32_t unsigned_types[] = {0, 0, 2, 0, 4, 0, 0, 0, 10};
      return unsigned_types[sizeof(T)] + (std::is_signed_v<T> ? 1U : 0U);
    }
  }
  static std::uint32_t tensor_number(kernels::dtype type) {
    switch (type) {
      case kernels::dtype::f32:
        return 0;
      case kernels::dtype::f16:
        return 1;
      case kernels::dtype::q4_0:
        return 2;
      case kernels::dtype::q4_1:
        return 3;
      case kernels::dtype::q5_0:
        return 6;
      case kernels::dtype::q5_1:
        return 7;
      case kernels::dtype::q8_0:
        return 8;
      case kernels::dtype::q4_k:
        return 12;
      case kernels::dtype::q5_k:
        return 13;
      case kernels::dtype::q6_k:
        return 14;
      case kernels::dtype::bf16:
        return 30;
      case kernels::dtype::i32:
        return 26;
      case kernels::dtype::u8:
      case kernels::dtype::f8_e4m3:
        break;
    }
    FAIL("GGUF has no such tensor type");
    return 0;
  }
  void begin_pair(const std::string& key) {
    put_value(pairs_, key);
    ++pair_count_;
  }
  void pad(std::string& to) const {
    to.append((alignment_ - to.size() % alignment_) % alignment_, '\0');
  }

  std::uint32_t alignment_;
  std::uint64_t tensor_count_ = 0, pair_count_ = 0;
  std::string pairs_, directory_, data_;
};

}  // namespace dinfer::tests
