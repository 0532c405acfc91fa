// SPDX-License-Identifier: Apache-2.0
// One .safetensors file: eight bytes that say the header's length, the header in JSON, and data
// that the tensors share out among themselves without gaps.
#include "runtime/weights/gguf_metadata.hpp"
#include "runtime/weights/safetensors.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

namespace dinfer::runtime {
namespace {

namespace dom = simdjson::dom;
using kernels::dtype;

static_assert(std::endian::native == std::endian::little, "safetensors are read in place");

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t longest_header = 100'000'000;  // the format's own limit
constexpr std::size_t longest_name = 256;
constexpr std::size_t most_dimensions = 8;

struct stored_type {
  std::string_view name;
  std::int64_t bytes;
  std::optional<dtype> type = {};
};
constexpr std::array<stored_type, 15> types{{{"F32", 4, dtype::f32},
                                             {"F16", 2, dtype::f16},
                                             {"BF16", 2, dtype::bf16},
                                             {"F64", 8},
                                             {"I64", 8},
                                             {"U64", 8},
                                             {"I32", 4},
                                             {"U32", 4},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"I8", 1},
                                             {"U8", 1},
                                             {"BOOL", 1},
                                             {"F8_E4M3", 1},
                                             {"F8_E5M2", 1}}};

tl::unexpected<error> damaged(const std::string& file, const std::string& why,
                              errc code = errc::bad_file) {
  return fail(code, fmt::format("{}: {}", file, why), file);
}

// One tensor's description, with what is needed to say what is wrong in it.
class description {
 public:
  description(std::string_view file, std::string_view name) : file_(file), name_(name) {}

  result<safetensors_entry> read(dom::element value, std::span<const std::byte> data) {
    dom::object fields;
    if (value.get(fields) != simdjson::SUCCESS) return wrong("is not an object");
    DINFER_TRY(const dom::element type_name, field(fields, "dtype"));
    DINFER_TRY(const dom::element shape, field(fields, "shape"));
    DINFER_TRY(const dom::element offsets, field(fields, "data_offsets"));
    safetensors_entry out;
    out.name = name_;
    DINFER_TRY(const stored_type type, read_type(type_name));
    out.stored_type = type.name;
    out.type = type.type;
    DINFER_TRY(out.shape, read_numbers("shape", shape, most_dimensions));
    DINFER_TRY(const std::int64_t bytes, bytes_of(out.shape, type));
    DINFER_TRY(const auto range, read_numbers("data_offsets", offsets, 2));
    if (range.size() != 2) return wrong(fmt::format("data_offsets: {} numbers", range.size()));
    if (range[0] > range[1] || static_cast<std::uint64_t>(range[1]) > data.size())
      return wrong(fmt::format("data_offsets [{}, {}]: the file holds {} bytes of data", range[0],
                               range[1], data.size()));
    if (range[1] - range[0] != bytes)
      return wrong(fmt::format("shape [{}] of {} has {} bytes; data_offsets [{}, {}] span {}",
                               fmt::join(out.shape, ", "), type.name, bytes, range[0], range[1],
                               range[1] - range[0]));
    out.data = data.subspan(static_cast<std::size_t>(range[0]), static_cast<std::size_t>(bytes));
    return out;
  }

 private:
  tl::unexpected<error> wrong(const std::string& why, errc code = errc::bad_file) const {
    return damaged(std::string(file_), fmt::format("tensor {}: {}", name_, why), code);
  }

  // The one field of this name.
  result<dom::element> field(dom::object fields, std::string_view key) const {
    std::optional<dom::element> found;
    for (const auto [name, value] : fields) {
      if (name != key) continue;
      if (found) return wrong(fmt::format("{} stands twice", key));
      found = value;
    }
    if (!found) return wrong(fmt::format("{} is missing", key));
    return *found;
  }

  result<stored_type> read_type(dom::element value) const {
    std::string_view name;
    if (value.get(name) != simdjson::SUCCESS) return wrong("dtype is not a string");
    for (const stored_type& known : types)
      if (known.name == name) return known;
    const bool shown = printable_name(name, 32);
    return wrong(fmt::format("dtype {}: F32, F16, BF16 and what quantised checkpoints have "
                             "(F8_E4M3, I32) can be read",
                             shown ? name : "unknown"),
                 errc::unsupported);
  }

  result<std::vector<std::int64_t>> read_numbers(std::string_view what, dom::element value,
                                                 std::size_t most) const {
    dom::array numbers;
    if (value.get(numbers) != simdjson::SUCCESS) return wrong(fmt::format("{} is no array", what));
    std::vector<std::int64_t> out;
    for (const dom::element one : numbers) {
      std::int64_t number = 0;
      if (out.size() == most) return wrong(fmt::format("{}: more than {} numbers", what, most));
      if (one.get(number) != simdjson::SUCCESS || number < 0)
        return wrong(fmt::format("{}: number {} is not a whole one from 0 to 2^63 - 1", what,
                                 out.size() + 1));
      out.push_back(number);
    }
    return out;
  }

  result<std::int64_t> bytes_of(const std::vector<std::int64_t>& shape,
                                const stored_type& type) const {
    std::int64_t bytes = type.bytes;
    for (const std::int64_t extent : shape) {
      if (extent == 0 || __builtin_mul_overflow(bytes, extent, &bytes))
        return wrong(fmt::format("shape [{}]: {}", fmt::join(shape, ", "),
                                 extent == 0 ? "a dimension is 0" : "larger than any file"));
    }
    return bytes;
  }

  std::string_view file_, name_;
};

result<std::string_view> find_header(std::span<const std::byte> bytes, const std::string& file) {
  std::uint64_t length = 0;
  if (bytes.size() < length_bytes)
    return damaged(file, fmt::format("has {} bytes; the header's length takes 8", bytes.size()));
  std::memcpy(&length, bytes.data(), sizeof length);
  const std::uint64_t left = bytes.size() - length_bytes;
  if (length == 0 || length > longest_header || length > left)
    return damaged(file, fmt::format("a header of {} bytes is announced; {} bytes follow, and 1 to "
                                     "{} fit",
                                     length, left, longest_header));
  if (length > most_json_bytes(bytes.size()))
    return damaged(file, fmt::format("a header of {} bytes in a file of {}; {} would fit", length,
                                     bytes.size(), most_json_bytes(bytes.size())));
  const auto header = bytes.subspan(length_bytes, static_cast<std::size_t>(length));
  return std::string_view(reinterpret_cast<const char*>(header.data()), header.size());
}

// Every byte of the data belongs to exactly one tensor.
result<void> check_ranges(const std::vector<safetensors_entry>& sorted,
                          std::span<const std::byte> data, const std::string& file) {
  std::size_t at = 0;
  std::string_view before = "the header";
  for (const safetensors_entry& e : sorted) {
    const auto begin = static_cast<std::size_t>(e.data.data() - data.data());
    if (begin < at) return damaged(file, fmt::format("tensors {} and {} overlap", before, e.name));
    if (begin > at)
      return damaged(file, fmt::format("{} bytes between {} and tensor {} belong to none",
                                       begin - at, before, e.name));
    at = begin + e.data.size();
    before = e.name;
  }
  if (at != data.size())
    return damaged(file,
                   fmt::format("{} bytes after the last tensor belong to none", data.size() - at));
  return {};
}

result<void> check_names(const std::vector<safetensors_entry>& entries, const std::string& file) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const safetensors_entry& e : entries) names.push_back(e.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return damaged(file, fmt::format("tensor {} stands twice", *twice));
  return {};
}

}  // namespace

result<safetensors_contents> parse_safetensors(std::span<const std::byte> bytes,
                                               const std::string& file) {
  DINFER_TRY(const std::string_view header, find_header(bytes, file));
  dom::parser parser;
  dom::object tensors;
  if (const auto problem = parser.parse(header.data(), header.size()).get(tensors);
      problem != simdjson::SUCCESS)
    return damaged(
        file, fmt::format("the header is not a JSON object: {}", simdjson::error_message(problem)));
  safetensors_contents out;
  out.header_bytes = length_bytes + header.size();
  const auto data = bytes.subspan(out.header_bytes);
  for (const auto [name, value] : tensors) {
    if (name == "__metadata__") continue;
    if (!printable_name(name, longest_name))
      return damaged(file, "a tensor's name is empty, too long or not printable");
    DINFER_TRY(auto entry, description(file, name).read(value, data));
    out.entries.push_back(std::move(entry));
  }
  DINFER_CHECK(check_names(out.entries, file));
  std::sort(out.entries.begin(), out.entries.end(),
            [](const safetensors_entry& a, const safetensors_entry& b) {
              return a.data.data() < b.data.data();
            });
  DINFER_CHECK(check_ranges(out.entries, data, file));
  return out;
}

}  // namespace dinfer::runtime
