// SPDX-License-Identifier: Apache-2.0
// Reads little-endian numbers and counted strings from hostile bytes. It never goes past the end,
// allocates nothing by what it read, and says at which byte of which file something is wrong. Used
// by the GGUF reader alone.
#pragma once

#include "dinfer/error.hpp"

#include <fmt/core.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace dinfer::runtime {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

class gguf_cursor {
 public:
  gguf_cursor(std::span<const std::byte> bytes, std::string_view file) noexcept
      : bytes_(bytes), file_(file) {}

  std::uint64_t offset() const noexcept { return offset_; }
  std::uint64_t remaining() const noexcept { return bytes_.size() - offset_; }

  // The next `size` bytes. `what` is for the message: "the header", "value of general.name".
  result<std::span<const std::byte>> take(std::uint64_t size, std::string_view what) {
    if (size > remaining())
      return damaged(fmt::format("{} needs {} bytes and {} are left", what, size, remaining()));
    const auto taken =
        bytes_.subspan(static_cast<std::size_t>(offset_), static_cast<std::size_t>(size));
    offset_ += size;
    return taken;
  }

  template <class T>
  result<T> number(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    DINFER_TRY(const auto raw, take(sizeof(T), what));
    T value;
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }

  // A 64-bit length, then as many bytes; a view into the file.
  result<std::string_view> text(std::string_view what) {
    DINFER_TRY(const auto length, number<std::uint64_t>(what));
    DINFER_TRY(const auto raw, take(length, what));
    return std::string_view(reinterpret_cast<const char*>(raw.data()), raw.size());
  }

  // A count of things that take `least_bytes` each; refused when they cannot all be there.
  result<std::uint64_t> count(std::uint64_t least_bytes, std::string_view what) {
    DINFER_TRY(const auto value, number<std::uint64_t>(what));
    if (value > remaining() / least_bytes)
      return damaged(fmt::format("{}: {} cannot fit into the {} bytes that are left", what, value,
                                 remaining()));
    return value;
  }

  tl::unexpected<error> damaged(std::string_view why, errc code = errc::bad_file) const {
    return fail(code, fmt::format("{}: at byte {}: {}", file_, offset_, why), std::string(file_));
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view file_;
  std::uint64_t offset_ = 0;
};

}  // namespace dinfer::runtime
