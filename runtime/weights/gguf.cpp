// SPDX-License-Identifier: Apache-2.0
// The header and tensor directory of a GGUF file, and the weight_source over them.
#include "runtime/weights/gguf.hpp"

#include "runtime/weights/fingerprint.hpp"
#include "runtime/weights/gguf_cursor.hpp"
#include "runtime/weights/gguf_metadata.hpp"
#include "runtime/weights/tensor_index.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>

namespace dinfer::runtime {
namespace {

using kernels::dtype;

constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
constexpr std::size_t longest_name = 256;    // of a tensor
constexpr std::uint32_t most_dimensions = 4;
constexpr std::uint64_t free_tensors = 1024, bytes_per_tensor = 512;
constexpr std::uint64_t least_tensor_bytes = 33;  // name of one letter, one dimension
constexpr std::int64_t default_alignment = 32;
constexpr std::int64_t largest_alignment = 1 << 20;
constexpr std::size_t reserve_at_most = 4096;  // grow by what is there, not by what is claimed

struct type_name {
  std::uint32_t number;  // the format's
  std::string_view name;
};
constexpr std::array<std::pair<std::uint32_t, dtype>, 11> readable_types{{{0, dtype::f32},
                                                                          {1, dtype::f16},
                                                                          {2, dtype::q4_0},
                                                                          {3, dtype::q4_1},
                                                                          {6, dtype::q5_0},
                                                                          {7, dtype::q5_1},
                                                                          {8, dtype::q8_0},
                                                                          {12, dtype::q4_k},
                                                                          {13, dtype::q5_k},
                                                                          {14, dtype::q6_k},
                                                                          {30, dtype::bf16}}};
constexpr std::array<type_name, 21> other_types{
    {{9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
     {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
     {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},
     {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"}}};

// A tensor as the directory has it, before it is known where the data begins.
struct entry {
  stored_tensor tensor;
  std::uint64_t offset = 0;  // from the start of the data
  std::uint64_t bytes = 0;
};

struct directory {
  gguf_metadata metadata;
  std::vector<entry> entries;
  std::uint64_t data_begin = 0;
};

result<dtype> read_dtype(gguf_cursor& cursor, std::string_view tensor) {
  DINFER_TRY(const auto number, cursor.number<std::uint32_t>("a tensor's type"));
  for (const auto& [known, type] : readable_types)
    if (known == number) return type;
  std::string name = fmt::format("number {}", number);
  for (const auto& other : other_types)
    if (other.number == number) name = other.name;
  return cursor.damaged(
      fmt::format("tensor {} has type {}; this build reads F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, "
                  "Q8_0, Q4_K, Q5_K and Q6_K",
                  tensor, name),
      errc::unsupported);
}

// Reads the dimensions, innermost first in the file, into a row-major shape. Returns the number of
// elements.
result<std::uint64_t> read_shape(gguf_cursor& cursor, stored_tensor& tensor) {
  DINFER_TRY(const auto rank, cursor.number<std::uint32_t>("a tensor's rank"));
  if (rank < 1 || rank > most_dimensions)
    return cursor.damaged(fmt::format("tensor {} has {} dimensions; 1 to {} can be read",
                                      tensor.name, rank, most_dimensions));
  std::int64_t elements = 1;
  tensor.shape.resize(rank);
  for (std::uint32_t i = 0; i < rank; ++i) {
    DINFER_TRY(const auto extent, cursor.number<std::uint64_t>("a tensor's dimension"));
    const bool fits = extent >= 1 && extent <= std::numeric_limits<std::int64_t>::max();
    const auto signed_extent = static_cast<std::int64_t>(extent);
    if (!fits || __builtin_mul_overflow(elements, signed_extent, &elements))
      return cursor.damaged(fmt::format("tensor {}: dimension {} is {}", tensor.name, i, extent));
    tensor.shape[rank - 1 - i] = signed_extent;
  }
  return static_cast<std::uint64_t>(elements);
}

result<entry> read_entry(gguf_cursor& cursor) {
  entry out;
  DINFER_TRY(const auto name, cursor.text("a tensor's name"));
  if (!printable_name(name, longest_name))
    return cursor.damaged("a tensor's name is empty, too long or not printable");
  out.tensor.name = name;
  DINFER_TRY(const auto elements, read_shape(cursor, out.tensor));
  DINFER_TRY(out.tensor.type, read_dtype(cursor, name));
  DINFER_TRY(out.offset, cursor.number<std::uint64_t>("a tensor's offset"));
  const auto [type, block, block_bytes] = kernels::info(out.tensor.type);
  if (out.tensor.shape.back() % block != 0)
    return cursor.damaged(fmt::format("tensor {}: rows of {} elements are not whole blocks of {}",
                                      name, out.tensor.shape.back(), type));
  const std::uint64_t blocks = elements / static_cast<std::uint64_t>(block);
  if (__builtin_mul_overflow(blocks, static_cast<std::uint64_t>(block_bytes), &out.bytes))
    return cursor.damaged(fmt::format("tensor {} is too large", name));
  return out;
}

result<std::uint64_t> read_alignment(const gguf_cursor& cursor, const gguf_metadata& metadata) {
  constexpr std::string_view key = "general.alignment";
  const auto value = metadata.integer(key);
  if (!value && metadata.contains(key))
    return cursor.damaged("general.alignment is not an integer");
  const std::int64_t alignment = value.value_or(default_alignment);
  if (alignment < 8 || alignment > largest_alignment ||
      !std::has_single_bit(static_cast<std::uint64_t>(alignment)))
    return cursor.damaged(fmt::format("general.alignment is {}; a power of two from 8 to {} fits",
                                      alignment, largest_alignment));
  return static_cast<std::uint64_t>(alignment);
}

// Every tensor inside the data, aligned, and none over another.
result<void> check_ranges(const gguf_cursor& cursor, const std::vector<entry>& entries,
                          std::uint64_t data_bytes, std::uint64_t alignment) {
  std::vector<const entry*> by_offset;
  by_offset.reserve(entries.size());
  for (const entry& e : entries) {
    if (e.offset % alignment != 0)
      return cursor.damaged(
          fmt::format("tensor {} begins at {} of the data, which is not a "
                      "multiple of {}",
                      e.tensor.name, e.offset, alignment));
    if (e.offset > data_bytes || e.bytes > data_bytes - e.offset)
      return cursor.damaged(
          fmt::format("tensor {} has {} bytes at {} of the data, of which the "
                      "file holds {}: it is cut short or damaged",
                      e.tensor.name, e.bytes, e.offset, data_bytes));
    by_offset.push_back(&e);
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const entry* a, const entry* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i)
    if (by_offset[i - 1]->offset + by_offset[i - 1]->bytes > by_offset[i]->offset)
      return cursor.damaged(fmt::format("tensors {} and {} overlap", by_offset[i - 1]->tensor.name,
                                        by_offset[i]->tensor.name));
  return {};
}

result<void> check_header(gguf_cursor& cursor) {
  DINFER_TRY(const auto word, cursor.number<std::uint32_t>("the file's first word"));
  if (word != magic) return cursor.damaged("this is not a GGUF file");
  DINFER_TRY(const auto version, cursor.number<std::uint32_t>("the version"));
  if (version == 2 || version == 3) return {};
  if (version != 0 && (version & 0xFFFFU) == 0)
    return cursor.damaged("a big-endian GGUF file cannot be read", errc::unsupported);
  return cursor.damaged(fmt::format("GGUF version {}; 2 and 3 can be read", version),
                        errc::unsupported);
}

result<void> check_not_split(const gguf_cursor& cursor, const gguf_metadata& metadata) {
  const auto parts = metadata.integer("split.count");
  if (!parts || *parts <= 1) return {};
  return cursor.damaged(
      fmt::format("the model is split over {} files (split.count); merge them into one", *parts),
      errc::unsupported);
}

result<directory> read_directory(std::span<const std::byte> bytes, const std::string& name) {
  gguf_cursor cursor(bytes, name);
  DINFER_CHECK(check_header(cursor));
  DINFER_TRY(const auto tensors, cursor.count(least_tensor_bytes, "the number of tensors"));
  // What is kept of a tensor takes some 300 bytes.
  if (tensors > free_tensors + bytes.size() / bytes_per_tensor)
    return cursor.damaged(
        fmt::format("{} tensors are more than a file of {} bytes has", tensors, bytes.size()));
  DINFER_TRY(const auto pairs, cursor.number<std::uint64_t>("the number of metadata pairs"));
  directory out;
  DINFER_TRY(out.metadata, gguf_metadata::read(cursor, pairs));
  DINFER_CHECK(check_not_split(cursor, out.metadata));
  DINFER_TRY(const auto alignment, read_alignment(cursor, out.metadata));
  out.entries.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(tensors, reserve_at_most)));
  for (std::uint64_t i = 0; i < tensors; ++i) {
    DINFER_TRY(auto one, read_entry(cursor));
    out.entries.push_back(std::move(one));
  }
  // No overflow: offset() is at most the file's size, the alignment at most 1 MiB. A file without
  // tensors may end before its data would begin.
  out.data_begin =
      std::min<std::uint64_t>((cursor.offset() + alignment - 1) & ~(alignment - 1), bytes.size());
  DINFER_CHECK(check_ranges(cursor, out.entries, bytes.size() - out.data_begin, alignment));
  return out;
}

std::vector<stored_tensor> tensors_of(std::span<const std::byte> bytes, directory& d) {
  std::vector<stored_tensor> out;
  out.reserve(d.entries.size());
  for (entry& e : d.entries) {
    e.tensor.data = bytes.subspan(static_cast<std::size_t>(d.data_begin + e.offset),
                                  static_cast<std::size_t>(e.bytes));
    out.push_back(std::move(e.tensor));
  }
  return out;
}

class gguf_source final : public weight_source {
 public:
  gguf_source(std::span<const std::byte> bytes, std::optional<mapped_file> file, directory d)
      : file_(std::move(file)),
        bytes_(bytes),
        data_begin_(d.data_begin),
        metadata_(std::move(d.metadata)),
        tensors_(tensors_of(bytes, d)),
        by_name_(tensors_) {}

  const std::string* duplicate() const noexcept { return by_name_.duplicate(); }

  const std::vector<stored_tensor>& tensors() const noexcept override { return tensors_; }
  const stored_tensor* find(std::string_view name) const noexcept override {
    return by_name_.find(name);
  }
  std::optional<std::int64_t> integer(std::string_view key) const override {
    return metadata_.integer(key);
  }
  std::optional<double> number(std::string_view key) const override {
    return metadata_.number(key);
  }
  std::optional<bool> boolean(std::string_view key) const override {
    return metadata_.boolean(key);
  }
  std::optional<std::string_view> text(std::string_view key) const override {
    return metadata_.text(key);
  }
  std::optional<std::span<const std::string_view>> texts(std::string_view key) const override {
    return metadata_.texts(key);
  }
  std::optional<std::vector<std::int64_t>> integers(std::string_view key) const override {
    return metadata_.integers(key);
  }
  std::optional<std::vector<double>> numbers(std::string_view key) const override {
    return metadata_.numbers(key);
  }
  std::string_view format() const noexcept override { return "gguf"; }
  std::uint64_t file_bytes() const noexcept override { return bytes_.size(); }
  std::string fingerprint(bool full) const override {
    return fingerprint_of(bytes_, static_cast<std::size_t>(data_begin_), full);
  }

 private:
  std::optional<mapped_file> file_;  // what bytes_ points into; empty: somebody else's bytes
  std::span<const std::byte> bytes_;
  std::uint64_t data_begin_;
  gguf_metadata metadata_;
  std::vector<stored_tensor> tensors_;  // in file order
  tensor_index by_name_;
};

result<std::unique_ptr<weight_source>> make_source(std::span<const std::byte> bytes,
                                                   std::optional<mapped_file> file,
                                                   const std::string& name) {
  DINFER_TRY(auto contents, read_directory(bytes, name));
  auto source = std::make_unique<gguf_source>(bytes, std::move(file), std::move(contents));
  if (const std::string* twice = source->duplicate())
    return fail(errc::bad_file, fmt::format("{}: tensor {} stands twice", name, *twice), name);
  return source;
}

}  // namespace

result<std::unique_ptr<weight_source>> open_gguf(mapped_file file) {
  const std::string name = file.path();
  const auto bytes = file.bytes();  // stays where it is when the file is moved
  return make_source(bytes, std::move(file), name);
}

result<std::unique_ptr<weight_source>> parse_gguf(std::span<const std::byte> bytes,
                                                  std::string name) {
  return make_source(bytes, std::nullopt, name);
}

}  // namespace dinfer::runtime
