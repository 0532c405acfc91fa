// SPDX-License-Identifier: Apache-2.0
// One reader for each quant_method.
#include "runtime/models/quantization_config.hpp"

#include "runtime/models/config_section.hpp"
#include "runtime/models/model_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace dinfer::runtime {
namespace {

constexpr std::int32_t least_group = 32;  // columns of a block of q4_1
constexpr std::size_t most_groups = 64;   // of modules, in config_groups

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

result<void> require_integer(const config_section& section, std::string_view key,
                             std::int64_t wanted) {
  DINFER_TRY(const auto value, section.integer(key, 0, 1 << 20));
  if (value == wanted) return {};
  return section.unsupported(key, fmt::format("is {}; this build reads {}", value, wanted));
}

// An absent key is as `wanted`.
result<void> require_text(const config_section& section, std::string_view key,
                          std::string_view wanted) {
  DINFER_TRY(const auto value, section.text(key, wanted));
  if (equal_ignoring_case(value, wanted)) return {};
  return section.unsupported(key, fmt::format("is \"{}\"; this build reads \"{}\"", value, wanted));
}

// -1 and absent: all columns.
result<std::int32_t> read_group(const config_section& section) {
  constexpr std::string_view key = "group_size";
  DINFER_TRY(const std::int32_t group, section.integer(key, -1, shape_limits::width, -1));
  if (group == -1) return 0;
  if (group > 0 && group % least_group == 0) return group;
  return section.unsupported(
      key, fmt::format("is {}; multiples of {} and -1 (all of a row) fit", group, least_group));
}

result<void> read_block(const config_section& section, std::string_view key, quantization& out) {
  DINFER_TRY(const auto sizes, section.integers(key, 2));
  if (sizes.empty()) return {};
  if (sizes.size() != 2 || std::any_of(sizes.begin(), sizes.end(), [](std::int64_t n) {
        return n < 1 || n > shape_limits::width;
      }))
    return section.wrong(key, "is not two sizes, of rows and columns");
  out.block_rows = static_cast<std::int32_t>(sizes[0]);
  out.block_columns = static_cast<std::int32_t>(sizes[1]);
  return {};
}

result<quantization> read_fp8(const config_section& section) {
  quantization out{quant_method::f8};
  DINFER_CHECK(require_text(section, "fmt", "e4m3"));
  DINFER_CHECK(read_block(section, "weight_block_size", out));
  return out;
}

result<quantization> read_gptq(const config_section& section) {
  quantization out{quant_method::gptq};
  DINFER_CHECK(require_integer(section, "bits", 4));
  DINFER_TRY(out.group, read_group(section));
  constexpr std::string_view key = "checkpoint_format";
  DINFER_TRY(const auto format, section.text(key, "gptq"));
  if (format != "gptq" && format != "gptq_v2")
    return section.unsupported(
        key, fmt::format("is \"{}\"; this build reads \"gptq\" and \"gptq_v2\"", format));
  DINFER_TRY(const bool marlin, section.boolean("is_marlin_format"));
  if (marlin) return section.unsupported("is_marlin_format", "true is not read; false is");
  out.zeros_less_one = format == "gptq";
  return out;
}

result<quantization> read_awq(const config_section& section) {
  quantization out{quant_method::awq};
  DINFER_CHECK(require_integer(section, "bits", 4));
  DINFER_CHECK(require_text(section, "version", "gemm"));
  DINFER_TRY(out.group, read_group(section));
  return out;
}

// What one group of modules says of its weights.
result<quantization> read_weights(const config_section& weights, quant_method method) {
  quantization out{method};
  const bool floats = method == quant_method::f8;
  DINFER_CHECK(require_integer(weights, "num_bits", floats ? 8 : 4));
  DINFER_CHECK(require_text(weights, "type", floats ? "float" : "int"));
  constexpr std::string_view key = "strategy";
  DINFER_TRY(const auto strategy, weights.text(key, floats ? "channel" : "group"));
  if (!floats && strategy == "group") {
    DINFER_TRY(out.group, read_group(weights));
    if (out.group == 0) return weights.wrong("group_size", "is missing");
    return out;
  }
  if (floats && strategy == "block") {
    DINFER_CHECK(read_block(weights, "block_structure", out));
    if (out.block_rows == 0) return weights.wrong("block_structure", "is missing");
    return out;
  }
  if (strategy == "channel" || (floats && strategy == "tensor")) return out;
  return weights.unsupported(key, fmt::format("is \"{}\"; this build reads {}", strategy,
                                              floats ? "\"channel\", \"tensor\" and \"block\""
                                                     : "\"group\" and \"channel\""));
}

bool same(const quantization& a, const quantization& b) {
  return a.group == b.group && a.block_rows == b.block_rows && a.block_columns == b.block_columns;
}

result<quantization> read_compressed(const config_section& section) {
  constexpr std::string_view format_key = "format", groups_key = "config_groups";
  DINFER_TRY(const auto format, section.text(format_key, ""));
  const bool floats = format == "float-quantized";
  if (!floats && format != "pack-quantized")
    return section.unsupported(format_key,
                               fmt::format("is \"{}\"; this build reads \"float-quantized\" and "
                                           "\"pack-quantized\"",
                                           format));
  const quant_method method = floats ? quant_method::f8 : quant_method::pack_quantized;
  DINFER_TRY(const auto sparsity, section.child("sparsity_config"));
  if (sparsity) DINFER_CHECK(require_text(*sparsity, format_key, "dense"));
  DINFER_TRY(const auto groups, section.child(groups_key));
  if (!groups) return section.wrong(groups_key, "is missing");
  DINFER_TRY(const auto all, groups->children(most_groups));
  std::optional<quantization> out;
  for (const config_section& group : all) {
    DINFER_CHECK(require_text(group, format_key, format));
    DINFER_TRY(const auto weights, group.child("weights"));
    if (!weights) continue;
    DINFER_TRY(const auto one, read_weights(*weights, method));
    if (out && !same(*out, one))
      return section.unsupported(groups_key, "its groups differ; groups that are alike fit");
    out = one;
  }
  if (!out) return section.wrong(groups_key, "no group has weights");
  return *out;
}

}  // namespace

result<quantization> read_quantization(std::string_view config_json, const std::string& file) {
  DINFER_TRY(const auto root, config_section::parse(config_json, file));
  DINFER_TRY(const auto section, root.child("quantization_config"));
  if (!section) return quantization{};
  constexpr std::string_view key = "quant_method";
  DINFER_TRY(const auto method, section->text(key, ""));
  if (method == "fp8") return read_fp8(*section);
  if (method == "gptq") return read_gptq(*section);
  if (method == "awq") return read_awq(*section);
  if (method == "compressed-tensors") return read_compressed(*section);
  return section->unsupported(
      key, fmt::format("is \"{}\"; this build reads \"fp8\", \"compressed-tensors\", \"gptq\" and "
                       "\"awq\"",
                       method));
}

}  // namespace dinfer::runtime
