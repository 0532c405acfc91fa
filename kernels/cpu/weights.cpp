// SPDX-License-Identifier: Apache-2.0
// Packs the rows of a file into panels, and reads single rows back for the embedding.
#include "kernels/cpu/weights.hpp"

#include "dinfer/error.hpp"
#include "kernels/cpu/dequantize.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/super_block.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace dinfer::kernels::cpu {

namespace {

constexpr std::int64_t block = 32;

// Where the parts of one block of 16 rows lie; -1: the type has no such part.
struct block_layout {
  std::int32_t offsets = -1, fifth_bits = -1, quants = 0, bytes = 0;
};

constexpr block_layout layout_of(dtype type) noexcept {
  switch (type) {
    case dtype::q4_0:
      return {-1, -1, 32, 288};
    case dtype::q4_1:
      return {32, -1, 64, 320};
    case dtype::q5_0:
      return {-1, 32, 96, 352};
    case dtype::q5_1:
      return {32, 64, 128, 384};
    case dtype::q8_0:
      return {-1, -1, 32, 544};
    default:
      return {};
  }
}

template <class T>
T read(const std::byte* p) noexcept {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// One file block of one row into lane `lane` of a packed block, which starts as zeros.
void pack_block(dtype type, const std::byte* in, std::int32_t lane, std::byte* out) {
  const auto layout = layout_of(type);
  std::memcpy(out + 2 * lane, in, 2);
  in += 2;
  if (layout.offsets >= 0) {
    std::memcpy(out + layout.offsets + 2 * lane, in, 2);
    in += 2;
  }
  if (layout.fifth_bits >= 0) {
    std::memcpy(out + layout.fifth_bits + 4 * lane, in, 4);
    in += 4;
  }
  std::byte* quants = out + layout.quants;
  for (std::int32_t k = 0; k < block; ++k) {
    if (type == dtype::q8_0) {
      quants[byte_place(k, lane)] = in[k];
      continue;
    }
    const auto nibble = k < 16 ? in[k] & std::byte{15} : in[k - 16] >> 4;
    quants[nibble_place(k, lane)] |= nibble << nibble_shift(k);
  }
}

// One row into lane `lane` of its panel.
void pack_row(dtype type, const std::byte* in, std::int64_t columns, std::int32_t lane,
              std::byte* out) {
  const auto in_bytes = info(type).block_bytes;
  if (has_super_blocks(type)) {
    const auto out_bytes = packed_super_block_bytes(type);
    for (std::int64_t b = 0; b < columns / super_block_elements; ++b) {
      pack_super_block(type, in + b * in_bytes, lane, out + b * out_bytes);
    }
  } else if (quantised(type)) {
    const auto out_bytes = layout_of(type).bytes;
    for (std::int64_t b = 0; b < columns / block; ++b) {
      pack_block(type, in + b * in_bytes, lane, out + b * out_bytes);
    }
  } else {
    const auto size = static_cast<std::size_t>(in_bytes);
    for (std::int64_t k = 0; k < columns; ++k) {
      std::memcpy(out + static_cast<std::size_t>(k * panel_rows + lane) * size,
                  in + static_cast<std::size_t>(k) * size, size);
    }
  }
}

float element(dtype type, const std::byte* packed, std::int64_t k, std::int32_t lane) {
  const auto at = k * panel_rows + lane;
  if (type == dtype::f32) return read<float>(packed + 4 * at);
  if (type == dtype::f16) return from_f16(read<std::uint16_t>(packed + 2 * at));
  if (type == dtype::bf16) return from_bf16(read<std::uint16_t>(packed + 2 * at));
  if (has_super_blocks(type)) {
    return packed_element(type, packed + k / super_block_elements * packed_super_block_bytes(type),
                          static_cast<std::int32_t>(k % super_block_elements), lane);
  }
  const auto layout = layout_of(type);
  const std::byte* in = packed + k / block * layout.bytes;
  const auto i = static_cast<std::int32_t>(k % block);
  const float d = from_f16(read<std::uint16_t>(in + 2 * lane));
  const std::byte* quants = in + layout.quants;
  if (type == dtype::q8_0) {
    return d * static_cast<float>(std::to_integer<std::int8_t>(quants[byte_place(i, lane)]));
  }
  int q = std::to_integer<int>(quants[nibble_place(i, lane)] >> nibble_shift(i)) & 15;
  if (layout.fifth_bits >= 0) {
    q |= static_cast<int>(read<std::uint32_t>(in + layout.fifth_bits + 4 * lane) >> i & 1U) << 4;
  }
  if (layout.offsets >= 0) {
    return d * static_cast<float>(q) +
           from_f16(read<std::uint16_t>(in + layout.offsets + 2 * lane));
  }
  return d * static_cast<float>(q - (type == dtype::q4_0 ? 8 : 16));
}

std::int64_t panel_bytes(dtype type, std::int64_t columns) {
  if (has_super_blocks(type)) {
    return columns / super_block_elements * packed_super_block_bytes(type);
  }
  return row_bytes(type, columns) * panel_rows;
}

struct panel_source {
  const weight_slice* slice = nullptr;
  std::int64_t first = 0;  // row of the stored matrix
};

// Made-up numbers k * 2^n fit bf16's eight bits; others stay f32.
dtype made_up_type(const made_up_weights& w) {
  constexpr float largest = 127;
  int exponent = 0;
  const bool power = std::frexp(w.step, &exponent) == 0.5F;
  const bool fits = std::isnormal(w.step) && std::isfinite(largest * w.step);
  return power && fits && w.offset == 0 ? dtype::bf16 : dtype::f32;
}

bool cuts_blocks(const weight_slice& slice) {
  const auto elements = info(slice.type).block_elements;
  return slice.column_begin % elements != 0 || slice.column_end % elements != 0;
}

dtype kept_type(const weight_slice& slice, weight_role role, bool dequantize) {
  if (dequantize || role == weight_role::vector) return dtype::f32;
  if (slice.data == nullptr) return made_up_type(slice.made_up);
  return cuts_blocks(slice) || slice.type == dtype::f8_e4m3 ? dtype::f32 : slice.type;
}

void check(std::span<const weight_slice> slices, weight_role role) {
  DINFER_ASSERT(!slices.empty());
  for (const auto& slice : slices) {
    DINFER_ASSERT(is_weight_type(slice.type));
    DINFER_ASSERT(slice.row_begin >= 0 && slice.row_end >= slice.row_begin);
    DINFER_ASSERT(slice.column_begin >= 0 && slice.column_end <= slice.stored_columns);
    DINFER_ASSERT(slice.column_end - slice.column_begin ==
                      slices[0].column_end - slices[0].column_begin ||
                  role == weight_role::vector);
  }
  if (role == weight_role::gate_up) {
    DINFER_ASSERT(slices.size() == 2 && slices[0].row_end - slices[0].row_begin ==
                                            slices[1].row_end - slices[1].row_begin);
  }
}

const std::byte* row_start(const weight_slice& slice, std::int64_t row) {
  return slice.data + row * row_bytes(slice.type, slice.stored_columns);
}

// A row of the slice as floats.
void expand_row(const weight_slice& slice, std::int64_t row, float* out) {
  if (slice.data != nullptr) {
    dequantize_columns(slice.type, row_start(slice, row), slice.column_begin, slice.column_end,
                       out);
    for (auto c = slice.column_begin; slice.scales.data != nullptr && c < slice.column_end;) {
      const float scale = slice.scales.at(row, c);
      const auto end =
          std::min(slice.column_end, (c / slice.scales.columns + 1) * slice.scales.columns);
      for (; c < end; ++c) *out++ *= scale;
    }
    return;
  }
  const auto first = static_cast<std::uint64_t>(row * slice.stored_columns);
  for (std::int64_t c = slice.column_begin; c < slice.column_end; ++c) {
    *out++ = made_up_value(slice.made_up, first + static_cast<std::uint64_t>(c));
  }
}

// A row that is not kept as it is stored, in `type`: f32, or bf16 that holds it exactly.
std::vector<std::byte> make_row(const weight_slice& slice, std::int64_t row, dtype type) {
  std::vector<float> values(static_cast<std::size_t>(slice.column_end - slice.column_begin));
  expand_row(slice, row, values.data());
  std::vector<std::byte> made(values.size() * static_cast<std::size_t>(info(type).block_bytes));
  if (type == dtype::f32 && !values.empty()) {
    std::memcpy(made.data(), values.data(), made.size());
  } else {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto h = to_bf16(values[i]);
      std::memcpy(made.data() + 2 * i, &h, sizeof h);
    }
  }
  return made;
}

// The rows of one panel, in lanes.
void fill_panel(const weight_slice& slice, std::int64_t first, const panel& p, std::int64_t columns,
                std::byte* out) {
  std::memset(out, 0, static_cast<std::size_t>(panel_bytes(p.type, columns)));
  for (std::int32_t lane = 0; lane < p.rows; ++lane) {
    const std::int64_t row = first + lane;
    if (slice.data != nullptr && slice.type == p.type) {
      pack_row(p.type, row_start(slice, row) + row_bytes(slice.type, slice.column_begin), columns,
               lane, out);
    } else {
      pack_row(p.type, make_row(slice, row, p.type).data(), columns, lane, out);
    }
  }
}

}  // namespace

void cpu_weight::read_row(std::int64_t row, float* out) const {
  DINFER_ASSERT(role_ == weight_role::matrix || role_ == weight_role::embedding);
  const auto after =
      std::upper_bound(panels_.begin(), panels_.end(), row,
                       [](std::int64_t wanted, const panel& p) { return wanted < p.first_row; });
  const panel& p = *(after - 1);
  const auto lane = static_cast<std::int32_t>(row - p.first_row);
  for (std::int64_t k = 0; k < columns_; ++k) out[k] = element(p.type, p.data, k, lane);
}

std::unique_ptr<cpu_weight> pack(std::span<const weight_slice> slices, weight_role role,
                                 bool dequantize, weight_arena& arena, thread_pool& pool) {
  check(slices, role);
  auto made = std::make_unique<cpu_weight>();
  made->role_ = role;
  made->columns_ = slices[0].column_end - slices[0].column_begin;
  if (role == weight_role::vector) {  // slices are laid end to end
    std::int64_t length = 0;
    for (const auto& s : slices)
      length += (s.row_end - s.row_begin) * (s.column_end - s.column_begin);
    made->rows_ = 1;
    made->columns_ = length;
    made->bytes_ = static_cast<std::uint64_t>(length) * sizeof(float);
    made->data_ = arena.take(made->bytes_);
    auto* out = reinterpret_cast<float*>(made->data_.get());
    for (const auto& s : slices) {
      for (auto row = s.row_begin; row < s.row_end; ++row) {
        expand_row(s, row, out);
        out += s.column_end - s.column_begin;
      }
    }
    return made;
  }

  made->takes_bytes_ = true;
  std::vector<panel_source> sources;
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
  const auto add = [&](const weight_slice& slice, std::int64_t row, std::int64_t first_row) {
    const auto type = kept_type(slice, role, dequantize);
    made->takes_bytes_ = made->takes_bytes_ && quantised(type) && type != dtype::q6_k;
    const auto rows = std::min<std::int64_t>(panel_rows, slice.row_end - row);
    made->panels_.push_back({nullptr, first_row, static_cast<std::int32_t>(rows), type});
    sources.push_back({&slice, row});
    offsets.push_back(bytes);
    bytes += (panel_bytes(type, made->columns_) + 63) / 64 * 64;
  };
  if (role == weight_role::gate_up) {
    const auto half = slices[0].row_end - slices[0].row_begin;
    for (std::int64_t row = 0; row < half; row += panel_rows) {
      add(slices[0], slices[0].row_begin + row, row);
      add(slices[1], slices[1].row_begin + row, half + row);
    }
    made->rows_ = 2 * half;
  } else {
    for (const auto& slice : slices) {
      for (auto row = slice.row_begin; row < slice.row_end; row += panel_rows) {
        add(slice, row, made->rows_ + row - slice.row_begin);
      }
      made->rows_ += slice.row_end - slice.row_begin;
    }
  }
  made->bytes_ = static_cast<std::uint64_t>(bytes);
  made->data_ = arena.take(made->bytes_);
  for (std::size_t i = 0; i < offsets.size(); ++i)
    made->panels_[i].data = made->data_.get() + offsets[i];

  pool.run(static_cast<std::int64_t>(sources.size()), [&](std::int64_t i, std::uint32_t) {
    const auto index = static_cast<std::size_t>(i);
    fill_panel(*sources[index].slice, sources[index].first, made->panels_[index], made->columns_,
               made->data_.get() + offsets[index]);
  });
  return made;
}

}  // namespace dinfer::kernels::cpu
