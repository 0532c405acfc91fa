// SPDX-License-Identifier: Apache-2.0
// The seeded strings of tests/reference/tokenizer_reference.py, number by number, and the hash
// under which that script stored the reference's answers. For tests only.
#pragma once

#include "runtime/tokenizer/utf8.hpp"
#include "tests/support/model_path.hpp"

#include <array>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dinfer::tests {

// SplitMix64 (Steele et al. 2014).
class split_mix {
 public:
  explicit split_mix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ULL;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }

 private:
  std::uint64_t state_;
};

// FNV-1a, 64 bit, over 32-bit numbers byte by byte.
class answer_hash {
 public:
  template <class Numbers>
  void add(const Numbers& numbers) {
    for (const auto n : numbers) mix(static_cast<std::uint32_t>(n));
    mix(0xFFFFFFFFU);
  }
  std::uint64_t value() const { return value_; }

 private:
  void mix(std::uint32_t n) {
    for (int shift = 0; shift < 32; shift += 8)
      value_ = (value_ ^ (n >> shift & 255)) * 0x100000001B3ULL;
  }
  std::uint64_t value_ = 0xCBF29CE484222325ULL;
};

inline std::vector<std::uint64_t> golden_hashes(const std::string& name) {
  std::ifstream file(repository_file("tests/golden/" + name));
  std::vector<std::uint64_t> hashes;
  for (std::string line; std::getline(file, line);)
    hashes.push_back(std::stoull(line, nullptr, 16));
  return hashes;
}

inline std::string unescape(std::string_view line) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\') {
      out.push_back(line[i]);
      continue;
    }
    switch (line[++i]) {
      case 'u':
        runtime::append_code_point(out, static_cast<char32_t>(std::stoul(
                                            std::string(line.substr(i + 1, 4)), nullptr, 16)));
        i += 4;
        break;
      case 'n':
        out.push_back('\n');
        break;
      case 'r':
        out.push_back('\r');
        break;
      case 't':
        out.push_back('\t');
        break;
      case 's':
        out.push_back(' ');
        break;
      default:
        out.push_back('\\');
    }
  }
  return out;
}

class random_text {
 public:
  explicit random_text(std::uint64_t seed) : rng_(seed) {
    std::ifstream file(repository_file("tests/golden/tokenizer_pool.txt"));
    for (std::string line; std::getline(file, line);)
      if (!line.empty()) pool_.push_back(unescape(line));
  }

  std::string next() {
    std::string text;
    for (std::size_t pieces = 1 + rng_.below(12); pieces > 0; --pieces) append_piece(text);
    return text;
  }
  std::size_t below(std::size_t n) { return rng_.below(n); }

 private:
  using block = std::pair<char32_t, std::size_t>;  // first, count

  const std::string& from_pool() { return pool_[rng_.below(pool_.size())]; }

  void append_piece(std::string& text) {
    static constexpr std::array<block, 14> blocks{{{0x20, 0x5F},
                                                   {0xA0, 0x60},
                                                   {0x370, 0x90},
                                                   {0x400, 0x100},
                                                   {0x590, 0x270},
                                                   {0x900, 0x80},
                                                   {0x300, 0x70},
                                                   {0x2000, 0x70},
                                                   {0x2190, 0x100},
                                                   {0x3040, 0xC0},
                                                   {0x4E00, 0x5000},
                                                   {0xAC00, 0x2BA0},
                                                   {0x1F300, 0x300},
                                                   {0x1D400, 0x400}}};
    static constexpr std::array<char32_t, 10> spaces{0x20, 0x20, 0x20,   0x0A, 0x0D,
                                                     0x09, 0xA0, 0x3000, 0x0B, 0x2029};
    const std::size_t kind = rng_.below(8);
    if (kind < 3) {
      text += from_pool();
    } else if (kind == 3) {
      text += " " + from_pool();
    } else if (kind == 4) {
      for (std::size_t n = 1 + rng_.below(7); n > 0; --n)
        text.push_back(static_cast<char>('0' + rng_.below(10)));
    } else if (kind == 5) {
      for (std::size_t n = 1 + rng_.below(5); n > 0; --n)
        runtime::append_code_point(text, spaces[rng_.below(spaces.size())]);
    } else if (kind == 6) {
      const auto [first, count] = blocks[rng_.below(blocks.size())];
      for (std::size_t n = 1 + rng_.below(6); n > 0; --n)
        runtime::append_code_point(text, first + static_cast<char32_t>(rng_.below(count)));
    } else {
      const char32_t c = runtime::utf8_next(from_pool()).code_point;
      for (std::size_t n = 1 + rng_.below(40); n > 0; --n) runtime::append_code_point(text, c);
    }
  }

  split_mix rng_;
  std::vector<std::string> pool_;
};

}  // namespace dinfer::tests
