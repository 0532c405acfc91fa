// SPDX-License-Identifier: Apache-2.0
// The types of weights, block by block. A reader that has started on block `b` of a panel expands
// it: eight(j, w) gives the weights of k = 8j .. 8j + 7. Those of a quantised type whose blocks
// have one scale also give the quants as they are: an element is d * quant + m, quad(g) holds the
// quants of k = 4g .. 4g + 3 in the bytes of each lane, and `most` is the largest of them. For the
// sources of this folder alone.
#pragma once

#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

inline constexpr std::int64_t block = 32;

struct f32_reader {
  static constexpr int bytes = 2048;  // of a block
  static constexpr bool plain = true;
  const std::byte* p;
  void start(const std::byte* panel, std::int64_t b) { p = panel + b * bytes; }
  lanes one(int k) const { return load(reinterpret_cast<const float*>(p + 64 * k)); }
};

struct f16_reader {
  static constexpr int bytes = 1024;  // of a block
  static constexpr bool plain = true;
  const std::byte* p;
  void start(const std::byte* panel, std::int64_t b) { p = panel + b * bytes; }
  lanes one(int k) const { return load_f16(p + 32 * k); }
};

struct bf16_reader {
  static constexpr int bytes = 1024;  // of a block
  static constexpr bool plain = true;
  const std::byte* p;
  void start(const std::byte* panel, std::int64_t b) { p = panel + b * bytes; }
  lanes one(int k) const { return load_bf16(p + 32 * k); }
};

struct q8_0_reader {
  static constexpr int bytes = 544;  // of a block
  static constexpr bool plain = false, offset = false;
  static constexpr int most = 128;  // and as small
  const std::byte* p;
  lanes d;
  void start(const std::byte* panel, std::int64_t b) {
    p = panel + b * bytes;
    d = load_f16(p);
  }
  quants quad(int g) const { return load_quants(p + 32 + 64 * g); }
  void eight(int j, lanes (&w)[8]) const {
    for (int i = 0; i < 8; ++i) w[i] = d * to_float(signed_byte(quad(2 * j + i / 4), i % 4));
  }
};

// q4 and q5. d * quant is exact in f32 (17 + 5 bits), so the fused add of m rounds once, as the
// definition's separate one does; and without an offset, m = -zero * d makes it exact.
template <bool Fifth, int BitsAt>
struct nibble_block {
  static constexpr bool plain = false, offset = true;
  static constexpr int most = Fifth ? 31 : 15;
  static constexpr int quants_at = BitsAt + (Fifth ? 64 : 0);
  const std::byte* p;
  lanes d, m;
  quants quad(int g) const {
    quants q = (load_quants(p + quants_at + g / 2 * 64) >> (g % 2 * 4)) & 0x0F0F0F0F;
    if constexpr (Fifth) q = q + spread_bits(load_quants(p + BitsAt), g);
    return q;
  }
  void eight(int j, lanes (&w)[8]) const {
    const quants word = load_quants(p + quants_at + 64 * j);
    quants fifth{};
    if constexpr (Fifth) fifth = load_quants(p + BitsAt) >> (8 * j);
    for (int i = 0; i < 8; ++i) {
      quants q = (word >> (i % 4 * 8 + i / 4 * 4)) & 15;
      if constexpr (Fifth) q = q + (((fifth >> i) & 1) << 4);
      w[i] = fma(d, to_float(q), m);
    }
  }

 private:
  // Bits 4g .. 4g + 3 of each lane become 16s of its bytes.
  static quants spread_bits(quants bits, int g) {
    const quants four =
        (bits >> (4 * g)) & 15;  // copies 7 bits apart, of which each byte takes one
    const quants copies = four + (four << 7) + (four << 14) + (four << 21);
    return (copies & 0x01010101) << 4;
  }
};

template <bool Fifth, bool Offset, int Bytes>
struct nibble_reader : nibble_block<Fifth, Offset ? 64 : 32> {
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
struct k_nibble_reader : nibble_block<Fifth, 32> {
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
  void eight(int j, lanes (&w)[8]) const {
    const quants word = load_quants(p + 160 + 64 * j);
    const quants upper = load_quants(p + 32 + j / 2 * 64) >> (j % 2 * 4);
    const lanes& d = j < 2 ? first : second;
    for (int i = 0; i < 8; ++i) {
      const quants low = (word >> (i % 4 * 8 + i / 4 * 4)) & 15;
      const quants high = (upper >> (i % 4 * 8 + i / 4 * 2)) & 3;
      w[i] = d * (to_float(low + (high << 4)) - splat(32.0F));
    }
  }
};

template <class Reader>
inline void read_eight(const Reader& reader, int j, lanes (&w)[8]) {
  if constexpr (Reader::plain) {
    for (int i = 0; i < 8; ++i) w[i] = reader.one(8 * j + i);
  } else {
    reader.eight(j, w);
  }
}

// Asks for the block after the next few: a panel ends before the hardware has learnt its stream.
template <class Reader>
inline void fetch_ahead(const Reader& reader) {
  constexpr int ahead = 1536 / Reader::bytes + 1;
  for (int line = 0; line < Reader::bytes; line += 64)
    __builtin_prefetch(reader.p + ahead * Reader::bytes + line);
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA
