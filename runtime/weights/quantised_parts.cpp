// SPDX-License-Identifier: Apache-2.0
// Types, shapes and values of the parts of each matrix.
#include "runtime/weights/quantised_parts.hpp"

#include "kernels/cpu/half.hpp"
#include "runtime/weights/int4.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>

namespace dinfer::runtime {
namespace {

using kernels::dtype;

constexpr std::string_view f8_type = "F8_E4M3";
constexpr std::int64_t least_columns = 32;  // a block of q4_1; and scales stay small beside floats

// Parts besides f8's "weight", which is known by its type.
constexpr std::array<std::string_view, 2> f8_parts{"weight_scale", "weight_scale_inv"};
constexpr std::array<std::string_view, 4> words_parts{"qweight", "qzeros", "scales", "g_idx"};
constexpr std::array<std::string_view, 5> packed_parts{
    "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"};
// Scales of what meets weights, and of keys and values.
constexpr std::array<std::string_view, 6> activation_parts{
    "input_scale", "input_scale_inv", "activation_scale", "output_scale", "k_scale", "v_scale"};

std::span<const std::string_view> parts_of(quant_method method) {
  switch (method) {
    case quant_method::f8:
      return f8_parts;
    case quant_method::gptq:
    case quant_method::awq:
      return words_parts;
    case quant_method::pack_quantized:
      return packed_parts;
    default:
      return {};
  }
}

template <class T>
T load(std::span<const std::byte> from, std::size_t index) noexcept {
  T value;
  std::memcpy(&value, from.data() + index * sizeof value, sizeof value);
  return value;
}

}  // namespace

// The parts of one matrix, with what is needed to say what is wrong in them.
struct quantised_parts::module {
  const std::string& name;
  const std::map<std::string, part, std::less<>>& parts;

  std::string named(std::string_view which) const { return fmt::format("{}.{}", name, which); }
  const part* find(std::string_view which) const {
    const auto at = parts.find(which);
    return at == parts.end() ? nullptr : &at->second;
  }

  tl::unexpected<error> wrong(std::string_view which, const std::string& why,
                              errc code = errc::bad_file) const {
    const part* p = find(which);
    const std::string& file = p != nullptr ? p->file : parts.begin()->second.file;
    return fail(code, fmt::format("{}: tensor {}: {}", file, named(which), why), named(which));
  }

  // The one that must be there because `main` is, or others of its module are.
  result<const part*> require(std::string_view which, std::string_view main) const {
    if (const part* p = find(which)) return p;
    const std::string& there = parts.contains(main) ? std::string(main) : parts.begin()->first;
    return wrong(which, fmt::format("is missing, and {} is there", named(there)));
  }

  result<void> check_type(std::string_view which,
                          std::initializer_list<std::string_view> types) const {
    const std::string& type = find(which)->entry.stored_type;
    if (std::find(types.begin(), types.end(), type) != types.end()) return {};
    return wrong(which, fmt::format("has type {}; {} fits", type, fmt::join(types, " or ")));
  }

  using extents = std::vector<std::int64_t>;
  result<void> check_shape(std::string_view which, std::initializer_list<extents> shapes) const {
    const extents& own = find(which)->entry.shape;
    if (std::find(shapes.begin(), shapes.end(), own) != shapes.end()) return {};
    std::string fit;
    for (const extents& s : shapes)
      fit += fmt::format("{}[{}]", fit.empty() ? "" : " or ", fmt::join(s, ", "));
    return wrong(which, fmt::format("has shape [{}]; {} fits", fmt::join(own, ", "), fit));
  }

  // A matrix of words or 8-bit floats.
  result<void> check_matrix(std::string_view which) const {
    const extents& own = find(which)->entry.shape;
    if (own.size() == 2) return {};
    return wrong(which, fmt::format("has {} dimensions; 2 fit", own.size()));
  }

  result<std::vector<float>> read_scales(std::string_view which) const {
    DINFER_CHECK(check_type(which, {"F32", "BF16", "F16"}));
    const safetensors_entry& entry = find(which)->entry;
    const dtype type = *entry.type;
    const auto size = static_cast<std::size_t>(kernels::info(type).block_bytes);
    std::vector<float> out(entry.data.size() / size);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (type == dtype::f32) out[i] = load<float>(entry.data, i);
      else if (type == dtype::f16)
        out[i] = kernels::cpu::from_f16(load<std::uint16_t>(entry.data, i));
      else out[i] = kernels::cpu::from_bf16(load<std::uint16_t>(entry.data, i));
      if (!(out[i] > 0 && std::isfinite(out[i])))
        return wrong(which, fmt::format("scale {} is {}; a number above 0 fits", i, out[i]));
    }
    return out;
  }

  // Columns must lie in the order of their groups.
  result<void> check_order(std::string_view which, std::int64_t columns, std::int64_t group) const {
    const part* p = find(which);
    if (p == nullptr) return {};
    DINFER_CHECK(check_type(which, {"I32"}));
    DINFER_CHECK(check_shape(which, {{columns}}));
    for (std::int64_t k = 0; k < columns; ++k) {
      const auto stored = load<std::int32_t>(p->entry.data, static_cast<std::size_t>(k));
      if (stored == k / group) continue;
      return wrong(which,
                   fmt::format("column {} is of group {}, not of {}: a checkpoint in activations' "
                               "order (desc_act) is not read; one without it fits",
                               k, stored, k / group),
                   errc::unsupported);
    }
    return {};
  }

  result<stored_tensor> read_f8(const quantization& how) const;
  result<stored_tensor> read_words(const quantization& how) const;
  result<stored_tensor> read_packed(const quantization& how) const;
  result<std::int64_t> group_of(std::string_view which, std::int64_t columns,
                                const quantization& how) const;
  stored_tensor tensor_of(int4_matrix matrix, std::string_view scales) const;
};

result<stored_tensor> quantised_parts::module::read_f8(const quantization& how) const {
  DINFER_TRY(const part* weight, require("weight", "weight_scale"));
  DINFER_CHECK(check_matrix("weight"));
  const extents& size = weight->entry.shape;
  const std::int64_t rows = size[0], columns = size[1];
  if (columns < least_columns)
    return wrong("weight", fmt::format("has {} columns; {} or more fit", columns, least_columns));
  const std::string_view scale =
      parts.contains("weight_scale_inv") ? "weight_scale_inv" : "weight_scale";
  DINFER_CHECK(require(scale, "weight"));
  auto scaling = std::make_shared<f8_scaling>();
  if (how.block_rows != 0) {
    scaling->rows = how.block_rows;
    scaling->columns = how.block_columns;
    scaling->stride = (columns + how.block_columns - 1) / how.block_columns;
    DINFER_CHECK(
        check_shape(scale, {{(rows + how.block_rows - 1) / how.block_rows, scaling->stride}}));
  } else {
    scaling->columns = columns;
    DINFER_CHECK(check_shape(scale, {{rows, 1}, {rows}, {1}, {}, {1, 1}}));
  }
  DINFER_TRY(scaling->values, read_scales(scale));
  if (how.block_rows == 0 && scaling->values.size() == 1)
    scaling->values.resize(static_cast<std::size_t>(rows), scaling->values.front());
  stored_tensor out;
  out.name = named("weight");
  out.type = dtype::f8_e4m3;
  out.shape = size;
  out.data = weight->entry.data;
  out.scaling = std::move(scaling);
  return out;
}

result<std::int64_t> quantised_parts::module::group_of(std::string_view which, std::int64_t columns,
                                                       const quantization& how) const {
  const std::int64_t group = how.group == 0 ? columns : how.group;
  if (columns % group == 0 && columns % least_columns == 0) return group;
  return wrong(which, fmt::format("has {} columns; whole groups of {} and blocks of {} fit",
                                  columns, group, least_columns));
}

stored_tensor quantised_parts::module::tensor_of(int4_matrix matrix,
                                                 std::string_view scales) const {
  const part& p = *find(scales);
  matrix.scales = p.entry.data;
  matrix.scale_type = *p.entry.type;
  matrix.scales_name = named(scales);
  matrix.file = p.file;
  stored_tensor out;
  out.name = named("weight");
  out.type = dtype::q4_1;
  out.shape = {matrix.rows, matrix.columns};
  out.int4 = std::make_shared<const int4_matrix>(std::move(matrix));
  return out;
}

result<stored_tensor> quantised_parts::module::read_words(const quantization& how) const {
  constexpr std::string_view main = "qweight";
  DINFER_TRY(const part* words, require(main, "scales"));
  DINFER_CHECK(check_type(main, {"I32"}));
  DINFER_CHECK(check_matrix(main));
  const extents& size = words->entry.shape;
  const bool awq = how.method == quant_method::awq;
  int4_matrix m;
  m.order = awq ? int4_order::awq : int4_order::gptq;
  m.rows = awq ? size[1] * 8 : size[1];
  m.columns = awq ? size[0] : size[0] * 8;
  m.words = words->entry.data;
  m.zeros_less_one = how.zeros_less_one;
  if (m.rows % 8 != 0) return wrong(main, fmt::format("has {} rows; multiples of 8 fit", m.rows));
  DINFER_TRY(m.group, group_of(main, m.columns, how));
  const std::int64_t groups = m.columns / m.group;
  DINFER_TRY(const part* zeros, require("qzeros", main));
  DINFER_CHECK(check_type("qzeros", {"I32"}));
  DINFER_CHECK(check_shape("qzeros", {{groups, m.rows / 8}}));
  m.zeros = zeros->entry.data;
  DINFER_CHECK(require("scales", main));
  DINFER_CHECK(check_type("scales", {"F16", "BF16", "F32"}));
  DINFER_CHECK(check_shape("scales", {{groups, m.rows}}));
  DINFER_CHECK(check_order("g_idx", m.columns, m.group));
  return tensor_of(std::move(m), "scales");
}

result<stored_tensor> quantised_parts::module::read_packed(const quantization& how) const {
  constexpr std::string_view main = "weight_packed", zero = "weight_zero_point";
  DINFER_TRY(const part* words, require(main, "weight_scale"));
  DINFER_CHECK(check_type(main, {"I32"}));
  DINFER_CHECK(check_matrix(main));
  const extents& size = words->entry.shape;
  int4_matrix m;
  m.order = int4_order::by_row;
  m.rows = size[0];
  m.columns = size[1] * 8;
  m.words = words->entry.data;
  DINFER_TRY(m.group, group_of(main, m.columns, how));
  const std::int64_t groups = m.columns / m.group;
  DINFER_CHECK(require("weight_scale", main));
  DINFER_CHECK(check_type("weight_scale", {"F16", "BF16", "F32"}));
  DINFER_CHECK(check_shape("weight_scale", {{m.rows, groups}}));
  if (const part* zeros = find(zero)) {
    DINFER_CHECK(check_type(zero, {"I32"}));
    DINFER_CHECK(check_shape(zero, {{(m.rows + 7) / 8, groups}}));
    m.zeros = zeros->entry.data;
  }
  if (const part* stated = find("weight_shape")) {
    DINFER_CHECK(check_type("weight_shape", {"I64"}));
    DINFER_CHECK(check_shape("weight_shape", {{2}}));
    const auto rows = load<std::int64_t>(stated->entry.data, 0);
    const auto columns = load<std::int64_t>(stated->entry.data, 1);
    if (rows != m.rows || columns != m.columns)
      return wrong("weight_shape", fmt::format("says [{}, {}]; {} holds [{}, {}]", rows, columns,
                                               named(main), m.rows, m.columns));
  }
  DINFER_CHECK(check_order("weight_g_idx", m.columns, m.group));
  return tensor_of(std::move(m), "weight_scale");
}

result<bool> quantised_parts::take(const safetensors_entry& entry, const std::string& file) {
  const std::size_t dot = entry.name.rfind('.');
  if (dot == entry.name.npos) return false;
  const std::string_view which = std::string_view(entry.name).substr(dot + 1);
  const auto holds = [&](std::span<const std::string_view> names) {
    return std::find(names.begin(), names.end(), which) != names.end();
  };
  if (how_.method != quant_method::none && holds(activation_parts)) {
    ++left_out_;
    return true;
  }
  const bool floats =
      how_.method == quant_method::f8 && which == "weight" && entry.stored_type == f8_type;
  if (!floats && !holds(parts_of(how_.method))) return false;
  const bool added = modules_[entry.name.substr(0, dot)].emplace(which, part{entry, file}).second;
  if (added) return true;
  return fail(errc::bad_file, fmt::format("{}: tensor {} stands twice", file, entry.name), file);
}

result<std::vector<stored_tensor>> quantised_parts::matrices() const {
  std::vector<stored_tensor> out;
  for (const auto& [name, parts] : modules_) {
    const module one{name, parts};
    const auto read = how_.method == quant_method::f8               ? &module::read_f8
                      : how_.method == quant_method::pack_quantized ? &module::read_packed
                                                                    : &module::read_words;
    DINFER_TRY(out.emplace_back(), (one.*read)(how_));
  }
  return out;
}

}  // namespace dinfer::runtime
