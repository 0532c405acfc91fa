// SPDX-License-Identifier: Apache-2.0
// The key-value section of a GGUF file: read once, checked, then asked by key and type. Numbers and
// arrays of numbers stay in the file; of strings only views are kept. Thread: const calls from any.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/weights/gguf_cursor.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// The numbers are the format's.
enum class gguf_type : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  text = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

struct gguf_value {
  gguf_type type = gguf_type::u8;       // of a scalar, or of an array's elements
  bool is_array = false;                // arrays of arrays are checked and cannot be asked for
  std::span<const std::byte> data;      // numbers and booleans, in file order
  std::vector<std::string_view> texts;  // strings
};

class gguf_metadata {
 public:
  // Reads `pairs` pairs. Errors: bad_file (not as the format says, or a key stands twice).
  static result<gguf_metadata> read(gguf_cursor& cursor, std::uint64_t pairs);

  // nullopt: absent or of another type. number and numbers take integers as well.
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<std::span<const std::string_view>> texts(std::string_view key) const;
  std::optional<std::vector<std::int64_t>> integers(std::string_view key) const;
  std::optional<std::vector<double>> numbers(std::string_view key) const;

  bool contains(std::string_view key) const noexcept { return find(key) != nullptr; }
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct entry {
    std::string_view key;
    gguf_value value;
  };
  const gguf_value* find(std::string_view key) const noexcept;

  std::vector<entry> entries_;  // by key
};

// A name that may stand in a log line: 1 to `limit` bytes, no control characters.
bool printable_name(std::string_view name, std::size_t limit) noexcept;

}  // namespace dinfer::runtime
