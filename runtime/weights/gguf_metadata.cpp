// SPDX-License-Identifier: Apache-2.0
// Parsing of GGUF metadata and conversion of its numbers. Element types are checked on every
// access: a key that holds strings never answers as numbers.
#include "runtime/weights/gguf_metadata.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace dinfer::runtime {
namespace {

constexpr std::size_t longest_key = 65535;      // the format's own limit
constexpr int deepest_array = 4;                // levels of arrays in arrays
constexpr std::uint64_t least_pair_bytes = 14;  // length, one letter, type, one byte of value
constexpr std::uint64_t most_pairs = 4096;      // models have some dozens
constexpr std::size_t reserve_at_most = 1024;   // grow by what is there, not by what is claimed
constexpr std::uint64_t free_text_bytes = 1 << 19;

// 0: not a type of fixed size.
std::uint64_t bytes_of(gguf_type type) noexcept {
  switch (type) {
    case gguf_type::u8:
    case gguf_type::i8:
    case gguf_type::boolean:
      return 1;
    case gguf_type::u16:
    case gguf_type::i16:
      return 2;
    case gguf_type::u32:
    case gguf_type::i32:
    case gguf_type::f32:
      return 4;
    case gguf_type::u64:
    case gguf_type::i64:
    case gguf_type::f64:
      return 8;
    case gguf_type::text:
    case gguf_type::array:
      break;
  }
  return 0;
}

template <class T>
T element(std::span<const std::byte> data, std::size_t index) noexcept {
  T value;
  std::memcpy(&value, data.data() + index * sizeof value, sizeof value);
  return value;
}

std::optional<std::int64_t> integer_at(const gguf_value& value, std::size_t index) noexcept {
  switch (value.type) {
    case gguf_type::u8:
      return element<std::uint8_t>(value.data, index);
    case gguf_type::i8:
      return element<std::int8_t>(value.data, index);
    case gguf_type::u16:
      return element<std::uint16_t>(value.data, index);
    case gguf_type::i16:
      return element<std::int16_t>(value.data, index);
    case gguf_type::u32:
      return element<std::uint32_t>(value.data, index);
    case gguf_type::i32:
      return element<std::int32_t>(value.data, index);
    case gguf_type::i64:
      return element<std::int64_t>(value.data, index);
    case gguf_type::u64: {
      const auto wide = element<std::uint64_t>(value.data, index);
      if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return std::nullopt;
      return static_cast<std::int64_t>(wide);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(const gguf_value& value, std::size_t index) noexcept {
  if (value.type == gguf_type::f32) return element<float>(value.data, index);
  if (value.type == gguf_type::f64) return element<double>(value.data, index);
  if (const auto whole = integer_at(value, index)) return static_cast<double>(*whole);
  return std::nullopt;
}

// All elements of an array through `at`; nullopt when one of them has no answer.
template <class T, class At>
std::optional<std::vector<T>> all_elements(const gguf_value* value, At at) {
  if (value == nullptr || !value->is_array || bytes_of(value->type) == 0) return std::nullopt;
  const std::size_t count = value->data.size() / bytes_of(value->type);
  std::vector<T> out;
  out.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto one = at(*value, i);
    if (!one) return std::nullopt;
    out.push_back(*one);
  }
  return out;
}

result<gguf_type> read_type(gguf_cursor& cursor, std::string_view what) {
  DINFER_TRY(const auto number, cursor.number<std::uint32_t>(what));
  if (number > static_cast<std::uint32_t>(gguf_type::f64))
    return cursor.damaged(fmt::format("{}: there is no value type {}", what, number));
  return static_cast<gguf_type>(number);
}

result<void> check_booleans(const gguf_cursor& cursor, const gguf_value& value,
                            std::string_view what) {
  if (value.type != gguf_type::boolean) return {};
  for (const std::byte b : value.data)
    if (b > std::byte{1}) return cursor.damaged(fmt::format("{}: a boolean is 0 or 1", what));
  return {};
}

result<gguf_value> read_array(gguf_cursor& cursor, std::string_view what, int depth) {
  if (depth > deepest_array)
    return cursor.damaged(fmt::format("{}: arrays lie deeper than {}", what, deepest_array));
  gguf_value value;
  value.is_array = true;
  DINFER_TRY(value.type, read_type(cursor, what));
  const std::uint64_t each = bytes_of(value.type);
  // A string takes 8 bytes at least, an array 12.
  const std::uint64_t least = each != 0 ? each : value.type == gguf_type::text ? 8 : 12;
  DINFER_TRY(const auto count, cursor.count(least, what));
  // A view of a string takes twice what an empty one has in the file.
  if (value.type == gguf_type::text &&
      count * sizeof(std::string_view) > cursor.offset() + cursor.remaining() + free_text_bytes)
    return cursor.damaged(fmt::format("{}: {} strings are more than such a file has", what, count));
  if (each != 0) {
    DINFER_TRY(value.data, cursor.take(count * each, what));
    DINFER_CHECK(check_booleans(cursor, value, what));
    return value;
  }
  if (value.type == gguf_type::text) value.texts.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    if (value.type == gguf_type::text) {
      DINFER_TRY(const auto text, cursor.text(what));
      value.texts.push_back(text);
    } else {
      DINFER_CHECK(read_array(cursor, what, depth + 1));
    }
  }
  return value;
}

result<gguf_value> read_value(gguf_cursor& cursor, std::string_view what) {
  gguf_value value;
  DINFER_TRY(value.type, read_type(cursor, what));
  if (value.type == gguf_type::array) return read_array(cursor, what, 1);
  if (value.type == gguf_type::text) {
    DINFER_TRY(const auto text, cursor.text(what));
    value.texts.push_back(text);
    return value;
  }
  DINFER_TRY(value.data, cursor.take(bytes_of(value.type), what));
  DINFER_CHECK(check_booleans(cursor, value, what));
  return value;
}

}  // namespace

bool printable_name(std::string_view name, std::size_t limit) noexcept {
  if (name.empty() || name.size() > limit) return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u < 0x20 || u == 0x7F;
  });
}

result<gguf_metadata> gguf_metadata::read(gguf_cursor& cursor, std::uint64_t pairs) {
  if (pairs > cursor.remaining() / least_pair_bytes)
    return cursor.damaged(fmt::format("{} metadata pairs cannot fit into the {} bytes left", pairs,
                                      cursor.remaining()));
  if (pairs > most_pairs)
    return cursor.damaged(fmt::format("{} metadata pairs; at most {} fit", pairs, most_pairs));
  gguf_metadata out;
  out.entries_.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(pairs, reserve_at_most)));
  for (std::uint64_t i = 0; i < pairs; ++i) {
    DINFER_TRY(const auto key, cursor.text("a metadata key"));
    if (!printable_name(key, longest_key))
      return cursor.damaged("a metadata key is empty, too long or not printable");
    DINFER_TRY(auto value, read_value(cursor, key));
    out.entries_.push_back({key, std::move(value)});
  }
  std::sort(out.entries_.begin(), out.entries_.end(),
            [](const entry& a, const entry& b) { return a.key < b.key; });
  const auto twice =
      std::adjacent_find(out.entries_.begin(), out.entries_.end(),
                         [](const entry& a, const entry& b) { return a.key == b.key; });
  if (twice != out.entries_.end())
    return cursor.damaged(fmt::format("metadata key {} stands twice", twice->key));
  return out;
}

const gguf_value* gguf_metadata::find(std::string_view key) const noexcept {
  const auto it = std::lower_bound(entries_.begin(), entries_.end(), key,
                                   [](const entry& e, std::string_view k) { return e.key < k; });
  return it != entries_.end() && it->key == key ? &it->value : nullptr;
}

std::optional<std::int64_t> gguf_metadata::integer(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr || value->is_array) return std::nullopt;
  return integer_at(*value, 0);
}

std::optional<double> gguf_metadata::number(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr || value->is_array) return std::nullopt;
  return number_at(*value, 0);
}

std::optional<bool> gguf_metadata::boolean(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr || value->is_array || value->type != gguf_type::boolean) return std::nullopt;
  return value->data[0] != std::byte{0};
}

std::optional<std::string_view> gguf_metadata::text(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr || value->is_array || value->type != gguf_type::text) return std::nullopt;
  return value->texts[0];
}

std::optional<std::span<const std::string_view>> gguf_metadata::texts(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr || !value->is_array || value->type != gguf_type::text) return std::nullopt;
  return std::span<const std::string_view>(value->texts);
}

std::optional<std::vector<std::int64_t>> gguf_metadata::integers(std::string_view key) const {
  return all_elements<std::int64_t>(find(key), integer_at);
}

std::optional<std::vector<double>> gguf_metadata::numbers(std::string_view key) const {
  return all_elements<double>(find(key), number_at);
}

}  // namespace dinfer::runtime
