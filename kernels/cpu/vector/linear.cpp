// SPDX-License-Identifier: Apache-2.0
// Matrix products over panels. An output is one chain of multiply-adds over k = 0, 1, 2, ...,
// whichever of the two ways computes it: for one row weights are expanded in registers on their way
// from memory; for more, a stretch of two panels is expanded once into scratch memory and a block
// of rows runs over it. So results depend neither on the number of rows nor on how rows of the
// weight are spread over threads or ranks, and a quantised weight gives what its expansion would
// give.
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"
#include "kernels/cpu/vector/tile.hpp"
#include "kernels/cpu/vector/variant.inc"

namespace dinfer::kernels::cpu::DINFER_ISA {

namespace {

static_assert(linear_group == 4);
constexpr std::int64_t block = 32;
constexpr int group = static_cast<int>(linear_group);

// A reader expands block `b` of a panel: pair(j) gives the weights of k = 2j and 2j + 1.

struct f32_reader {
  static constexpr int bytes = 2048;  // of a block
  static constexpr bool plain = true;
  const std::byte* p;
  void start(const std::byte* panel, std::int64_t b) { p = panel + b * bytes; }
  lanes one(int k) const { return load(reinterpret_cast<const float*>(p + 64 * k)); }
  void pair(int j, lanes& even, lanes& odd) const { even = one(2 * j), odd = one(2 * j + 1); }
};

struct f16_reader {
  static constexpr int bytes = 1024;  // of a block
  static constexpr bool plain = true;
  const std::byte* p;
  void start(const std::byte* panel, std::int64_t b) { p = panel + b * bytes; }
  lanes one(int k) const { return load_f16(p + 32 * k); }
  void pair(int j, lanes& even, lanes& odd) const { even = one(2 * j), odd = one(2 * j + 1); }
};

struct bf16_reader {
  static constexpr int bytes = 1024;  // of a block
  static constexpr bool plain = true;
  const std::byte* p;
  void start(const std::byte* panel, std::int64_t b) { p = panel + b * bytes; }
  lanes one(int k) const { return load_bf16(p + 32 * k); }
  void pair(int j, lanes& even, lanes& odd) const { even = one(2 * j), odd = one(2 * j + 1); }
};

struct q8_0_reader {
  static constexpr int bytes = 544;  // of a block
  static constexpr bool plain = false;
  const std::byte* p;
  lanes d;
  void start(const std::byte* panel, std::int64_t b) {
    p = panel + b * bytes;
    d = load_f16(p);
  }
  void pair(int j, lanes& even, lanes& odd) const {
    even = d * load_i8(p + 32 + 32 * j);
    odd = d * load_i8(p + 48 + 32 * j);
  }
};

// q4 and q5. d * quant is exact in f32 (17 + 5 bits), so the fused add of m rounds once, as the
// definition's separate one does; and without an offset, m = -zero * d makes it exact.
template <bool Fifth, int BitsAt>
struct nibble_pairs {
  static constexpr bool plain = false;
  static constexpr int quants_at = BitsAt + (Fifth ? 64 : 0);
  const std::byte* p;
  lanes d, m;
  void pair(int j, lanes& even, lanes& odd) const {
    const nibbles both = load_nibbles(p + quants_at + 16 * j);
    if constexpr (Fifth) {
      even = fma(d, to_float(add_fifth_bit(low(both), p + BitsAt + 4 * j)), m);
      odd = fma(d, to_float(add_fifth_bit(high(both), p + BitsAt + 4 * j + 2)), m);
    } else {
      even = fma(d, low_to_float(both), m);
      odd = fma(d, to_float(high(both)), m);
    }
  }
};

template <bool Fifth, bool Offset, int Bytes>
struct nibble_reader : nibble_pairs<Fifth, Offset ? 64 : 32> {
  static constexpr int bytes = Bytes;  // of a block
  void start(const std::byte* panel, std::int64_t b) {
    this->p = panel + b * bytes;
    this->d = load_f16(this->p);
    if constexpr (Offset) {
      this->m = load_f16(this->p + 32);
    } else {
      this->m = this->d * splat(Fifth ? -16.0F : -8.0F);
    }
  }
};

// q4_k and q5_k: blocks of nibbles, eight behind each head.
template <bool Fifth, int Bytes>
struct k_nibble_reader : nibble_pairs<Fifth, 32> {
  static constexpr int bytes = Bytes;  // of a block
  void start(const std::byte* panel, std::int64_t b) {
    const std::byte* head = panel + b / 8 * (64 + 8 * bytes);
    this->p = head + 64 + b % 8 * bytes;
    this->d = load_f16(head) * load_i8(this->p);
    this->m = load_f16(head + 32) * (splat(0.0F) - load_i8(this->p + 16));
  }
};

struct q6_k_reader {
  static constexpr int bytes = 416;  // of a block, eight behind each head
  static constexpr bool plain = false;
  const std::byte* p;
  lanes first, second;  // scales of the block's halves
  void start(const std::byte* panel, std::int64_t b) {
    const std::byte* head = panel + b / 8 * (32 + 8 * bytes);
    p = head + 32 + b % 8 * bytes;
    first = load_f16(head) * load_i8(p);
    second = load_f16(head) * load_i8(p + 16);
  }
  void pair(int j, lanes& even, lanes& odd) const {
    const nibbles both = load_nibbles(p + 160 + 16 * j);
    const nibbles upper = load_nibbles(p + 32 + j / 2 * 16);
    const int shift = j % 2 * 4;
    const lanes& d = j < 8 ? first : second;
    even = d * (to_float(add_upper_bits(low(both), upper, shift)) - splat(32.0F));
    odd = d * (to_float(add_upper_bits(high(both), upper, shift + 2)) - splat(32.0F));
  }
};

template <class F>
auto with_reader(dtype type, F&& f) {
  switch (type) {
    case dtype::f16:
      return f.template operator()<f16_reader>();
    case dtype::bf16:
      return f.template operator()<bf16_reader>();
    case dtype::q4_0:
      return f.template operator()<nibble_reader<false, false, 288>>();
    case dtype::q4_1:
      return f.template operator()<nibble_reader<false, true, 320>>();
    case dtype::q5_0:
      return f.template operator()<nibble_reader<true, false, 352>>();
    case dtype::q5_1:
      return f.template operator()<nibble_reader<true, true, 384>>();
    case dtype::q8_0:
      return f.template operator()<q8_0_reader>();
    case dtype::q4_k:
      return f.template operator()<k_nibble_reader<false, 288>>();
    case dtype::q5_k:
      return f.template operator()<k_nibble_reader<true, 352>>();
    case dtype::q6_k:
      return f.template operator()<q6_k_reader>();
    default:
      return f.template operator()<f32_reader>();
  }
}

// Asks for the block after the next few: a panel ends before the hardware has learnt its stream.
template <class Reader>
void fetch_ahead(const Reader& reader) {
  constexpr int ahead = 1536 / Reader::bytes + 1;
  for (int line = 0; line < Reader::bytes; line += 64)
    __builtin_prefetch(reader.p + ahead * Reader::bytes + line);
}

// One row: sums[p][lane] over all k, the weights expanded on their way from memory.
template <class Reader, int Panels>
void direct(const panel* panels, const float* x, std::int64_t k, float* sums) {
  lanes acc[Panels];
  Reader readers[Panels];
  for (auto& a : acc) a = splat(0.0F);
  const std::int64_t blocks = k / block;
  for (std::int64_t b = 0; b < blocks; ++b, x += block) {
    for (int p = 0; p < Panels; ++p) {
      readers[p].start(panels[p].data, b);
      fetch_ahead(readers[p]);
    }
    for (int j = 0; j < block / 2; ++j) {
      const lanes x0 = splat(x[2 * j]), x1 = splat(x[2 * j + 1]);
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p) {
        lanes even, odd;
        readers[p].pair(j, even, odd);
        acc[p] = fma(even, x0, acc[p]);
        acc[p] = fma(odd, x1, acc[p]);
      }
    }
  }
  if constexpr (Reader::plain) {
    for (int p = 0; p < Panels; ++p) readers[p].start(panels[p].data, blocks);
    for (int i = 0; i < static_cast<int>(k % block); ++i) {
      for (int p = 0; p < Panels; ++p) acc[p] = fma(readers[p].one(i), splat(x[i]), acc[p]);
    }
  }
  for (int p = 0; p < Panels; ++p) store(sums + 16 * p, acc[p]);
}

// Expands k_begin .. k_end (k_begin a multiple of the block) to out[k - k_begin][16].
template <class Reader>
void expand(const panel& from, std::int64_t k_begin, std::int64_t k_end, float* out) {
  Reader reader;
  std::int64_t k = k_begin;
  for (; k + block <= k_end; k += block) {
    reader.start(from.data, k / block);
    fetch_ahead(reader);
    for (int j = 0; j < block / 2; ++j, out += 32) {
      lanes even, odd;
      reader.pair(j, even, odd);
      store(out, even);
      store(out + 16, odd);
    }
  }
  if constexpr (Reader::plain) {
    reader.start(from.data, k / block);
    for (int i = 0; k < k_end; ++k, ++i, out += 16) store(out, reader.one(i));
  }
}

lanes activate(epilogue act, lanes x) {
  switch (act) {
    case epilogue::relu:
      return max(splat(0.0F), x);
    case epilogue::gelu_tanh: {  // x (1 + tanh u) / 2 = x / (1 + e^-2u)
      const lanes cube = x * x * x;
      const lanes u = fma(cube, splat(0.044715F), x) * splat(-1.59576912F);
      return x / (splat(1.0F) + exp(u));
    }
    case epilogue::gelu: {
      alignas(64) float values[16];
      store(values, x);
      for (auto& v : values) v = 0.5F * v * (1.0F + __builtin_erff(v * 0.70710678F));
      return load(values);
    }
    default:
      return x;
  }
}

// sums [rows][panels_apart lanes] to the output.
void finish(const linear_job& job, const panel* panels, int count, std::int64_t row_begin,
            std::int64_t rows, const float* sums, std::int64_t sums_stride) {
  const bool paired = job.act == epilogue::swiglu;
  const auto bias_of = [&](const panel& p) {
    return job.bias == nullptr ? splat(0.0F) : load_partial(job.bias + p.first_row, p.rows, 0.0F);
  };
  for (int p = 0; p < count; p += paired ? 2 : 1) {
    const lanes bias = bias_of(panels[p]);
    const lanes up_bias = paired ? bias_of(panels[p + 1]) : bias;
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* in = sums + r * sums_stride + 16 * p;
      lanes value = load(in) + bias;
      if (paired) {  // silu(gate) * up
        const lanes up = load(in + 16) + up_bias;
        value = value / (splat(1.0F) + exp(splat(0.0F) - value)) * up;
      } else {
        value = activate(job.act, value);
      }
      float* out = job.out + (row_begin + r) * job.out_stride + panels[p].first_row;
      store_partial(out, panels[p].rows, value);
    }
  }
}

template <class Reader>
void direct_some(const panel* panels, int count, const float* x, std::int64_t k, float* sums) {
  switch (count) {
    case 1:
      return direct<Reader, 1>(panels, x, k, sums);
    case 2:
      return direct<Reader, 2>(panels, x, k, sums);
    case 3:
      return direct<Reader, 3>(panels, x, k, sums);
    default:
      return direct<Reader, 4>(panels, x, k, sums);
  }
}

void one_row(const linear_job& job, const panel* panels, int count, std::int64_t row) {
  alignas(64) float sums[16 * group];
  const float* x = job.x + row * job.x_stride;
  for (int p = 0; p < count;) {  // neighbours of one type run together: more sums in flight
    int end = p + 1;
    while (end < count && panels[end].type == panels[p].type) ++end;
    with_reader(panels[p].type, [&]<class Reader>() {
      direct_some<Reader>(panels + p, end - p, x, job.k, sums + 16 * p);
    });
    p = end;
  }
  finish(job, panels, count, row, 1, sums, 16 * group);
}

// Two panels (or one) over many rows.
void many_rows(const linear_job& job, const panel* panels, int count, std::int64_t row_begin,
               std::int64_t rows, float* scratch) {
  float* sums = scratch;  // [rows][2][16]
  float* expanded = scratch + linear_row_chunk * 32;
  for (std::int64_t k = 0; k < job.k || k == 0; k += linear_k_chunk) {
    const std::int64_t k_end = k + linear_k_chunk < job.k ? k + linear_k_chunk : job.k;
    const float* w[2] = {nullptr, nullptr};
    for (int p = 0; p < count; ++p) {
      if (panels[p].type == dtype::f32) {
        w[p] = reinterpret_cast<const float*>(panels[p].data) + 16 * k;
        continue;
      }
      float* out = expanded + p * linear_k_chunk * 16;
      with_reader(panels[p].type,
                  [&]<class Reader>() { expand<Reader>(panels[p], k, k_end, out); });
      w[p] = out;
    }
    const float* x = job.x + row_begin * job.x_stride + k;
    if (count == 2) {
      two_panels(w, x, job.x_stride, rows, k_end - k, k == 0, sums);
    } else {
      tiles<1>(w, x, job.x_stride, rows, k_end - k, k == 0, sums);
    }
  }
  finish(job, panels, count, row_begin, rows, sums, 32);
}

}  // namespace

void linear(const linear_job& job, const panel* panels, std::int64_t count, std::int64_t row_begin,
            std::int64_t rows, float* scratch) {
  if (rows == 1) return one_row(job, panels, static_cast<int>(count), row_begin);
  for (std::int64_t p = 0; p < count; p += 2) {
    const auto taken = static_cast<int>(count - p < 2 ? count - p : 2);
    many_rows(job, panels + p, taken, row_begin, rows, scratch);
  }
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
