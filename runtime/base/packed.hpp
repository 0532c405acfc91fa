// SPDX-License-Identifier: Apache-2.0
// Packed little-endian bytes: what crosses nodes inside one string. The reader trusts nothing:
// every read is checked against what is left, and a count is believed only as far as the bytes
// behind it reach, so hostile input costs no more memory than its own size times a small factor.
// After the first bad read everything reads as zero; ask ok() at the end. Any thread, one object
// each.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dinfer::runtime {

static_assert(std::endian::native == std::endian::little, "packed bytes are copied as they are");

template <class T>
concept packed_number = std::integral<T> || std::is_enum_v<T>;

class packed_writer {
 public:
  template <packed_number T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void real(float value) { number(std::bit_cast<std::uint32_t>(value)); }  // NaN and -0 survive
  void flag(bool value) { number<std::uint8_t>(value ? 1 : 0); }
  void count(std::size_t n) { number(static_cast<std::uint32_t>(n)); }
  void text(std::string_view s) {
    count(s.size());
    bytes_.append(s);
  }
  template <packed_number T>
  void numbers(const std::vector<T>& values) {
    count(values.size());
    if (!values.empty())
      bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  void reserve(std::size_t bytes) { bytes_.reserve(bytes); }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class packed_reader {
 public:
  explicit packed_reader(std::string_view bytes) : rest_(bytes) {}

  template <packed_number T>
  T number() {
    T value{};
    if (!need(sizeof value)) return value;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return value;
  }
  float real() { return std::bit_cast<float>(number<std::uint32_t>()); }
  bool flag() {
    const auto value = number<std::uint8_t>();
    if (value > 1) spoil();
    return value == 1;
  }
  // An enum whose last enumerator is `last`.
  template <class E>
  E choice(E last) {
    const auto value = number<std::underlying_type_t<E>>();
    if (value > static_cast<std::underlying_type_t<E>>(last)) spoil();
    return ok_ ? static_cast<E>(value) : E{};
  }
  // How many elements follow, each of which takes at least `least_bytes`.
  std::size_t count(std::size_t least_bytes) {
    const std::size_t n = number<std::uint32_t>();
    if (n > rest_.size() / least_bytes) spoil();
    return ok_ ? n : 0;
  }
  std::string text() {
    const std::size_t n = count(1);
    std::string s(rest_.substr(0, n));
    rest_.remove_prefix(n);
    return s;
  }
  template <packed_number T>
  std::vector<T> numbers() {
    std::vector<T> values(count(sizeof(T)));
    if (!values.empty()) std::memcpy(values.data(), rest_.data(), values.size() * sizeof(T));
    rest_.remove_prefix(values.size() * sizeof(T));
    return values;
  }
  void spoil() noexcept { ok_ = false; }  // the caller found something wrong
  bool ok() const noexcept { return ok_; }
  bool done() const noexcept { return ok_ && rest_.empty(); }

 private:
  bool need(std::size_t n) {
    if (n > rest_.size()) ok_ = false;
    return ok_;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace dinfer::runtime
