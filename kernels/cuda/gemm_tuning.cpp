// SPDX-License-Identifier: Apache-2.0
// The tuning file: a line that names its format, then a line for every shape: the numbers of its
// key, types and way as words, and the algorithm as hexadecimal digits.
#include "kernels/cuda/gemm_tuning.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

namespace dinfer::kernels::cuda {

namespace {

constexpr std::string_view first_line = "dinfer matrix products, format 3";
constexpr std::size_t hex_digits = algorithm_words * 16;
constexpr std::int64_t largest = std::int64_t{1} << 40;  // of any number in the file

constexpr std::array<std::int64_t, 19> buckets{1,  2,   4,   8,   12,  16,  24,  32,  48, 64,
                                               96, 128, 160, 192, 256, 320, 384, 448, 512};

std::string to_hex(const std::array<std::uint64_t, algorithm_words>& words) {
  std::string text;
  for (const auto word : words) {
    for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

bool from_hex(const std::string& text, std::array<std::uint64_t, algorithm_words>& words) {
  if (text.size() != hex_digits) return false;
  words = {};
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = std::string_view("0123456789abcdef").find(text[i]);
    if (digit == std::string_view::npos) return false;
    words[i / 16] = words[i / 16] << 4 | digit;
  }
  return true;
}

bool from_word(const std::string& word, dtype& type) {
  for (const auto t : {dtype::f32, dtype::bf16, dtype::f16, dtype::f8_e4m3}) {
    if (word != info(t).name) continue;
    type = t;
    return true;
  }
  return false;
}

constexpr std::array<std::string_view, 4> ways{"library", "padded", "skinny", "swapped"};

bool from_word(const std::string& word, gemm_way& way) {
  const auto* const found = std::find(ways.begin(), ways.end(), word);
  if (found == ways.end()) return false;
  way = static_cast<gemm_way>(found - ways.begin());
  return true;
}

bool parse(const std::string& line, gemm_shape& shape, gemm_choice& choice) {
  std::istringstream in(line);
  std::string type, out_type, way, algorithm, rest;
  in >> shape.rows >> shape.n >> shape.k >> shape.ldx >> shape.ldw >> shape.ldo >> type >> out_type;
  in >> shape.spare_rows >> way >> choice.measured_rows >> choice.microseconds >> algorithm;
  if (!in || in >> rest) return false;
  for (const auto n :
       {shape.rows, shape.n, shape.k, shape.ldx, shape.ldw, shape.ldo, choice.measured_rows}) {
    if (n <= 0 || n > largest) return false;
  }
  return shape.ldx >= shape.k && shape.ldw >= shape.k && shape.ldo >= shape.n &&
         from_word(way, choice.way) && from_word(type, shape.type) &&
         from_word(out_type, shape.out_type) && from_hex(algorithm, choice.algorithm);
}

std::string to_text(const tuning_table& table) {
  std::ostringstream out;
  out << first_line << '\n';
  for (const auto& [s, c] : table) {
    out << s.rows << ' ' << s.n << ' ' << s.k << ' ' << s.ldx << ' ' << s.ldw << ' ' << s.ldo << ' '
        << info(s.type).name << ' ' << info(s.out_type).name << ' ' << s.spare_rows << ' '
        << ways[static_cast<std::size_t>(c.way)] << ' ' << c.measured_rows << ' ' << c.microseconds
        << ' ' << to_hex(c.algorithm) << '\n';
  }
  return out.str();
}

}  // namespace

std::span<const std::int64_t> decode_buckets() noexcept { return buckets; }

std::int64_t tuning_bucket(std::int64_t rows) noexcept {
  const auto* found = std::lower_bound(buckets.begin(), buckets.end(), rows);
  if (found != buckets.end()) return *found;
  std::int64_t bucket = buckets.back();
  while (bucket < rows) {
    if (bucket / 2 * 3 >= rows) return bucket / 2 * 3;
    bucket *= 2;
  }
  return bucket;
}

gemm_shape shape_of(const product& p, std::int64_t rows) noexcept {
  return {rows, p.n, p.k, p.ldx, p.ldw, p.ldo, p.type, p.out_type, p.spare_rows};
}

std::string tuning_path(const std::string& directory, const std::string& device_name,
                        std::uint64_t library_version) {
  std::string name;
  for (const char c : device_name) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  }
  return directory + "/" + name + "-cublaslt-" + std::to_string(library_version) + ".txt";
}

std::optional<tuning_table> read_tunings(const std::string& path, std::string& problem) {
  std::error_code failed;
  if (!std::filesystem::exists(path, failed)) return tuning_table{};
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line) || line != first_line) {
    problem = path + ": not a tuning file of this version";
    return std::nullopt;
  }
  tuning_table table;
  for (int number = 2; std::getline(in, line); ++number) {
    gemm_shape shape;
    gemm_choice choice;
    if (!parse(line, shape, choice)) {
      problem = path + ":" + std::to_string(number) + ": damaged";
      return std::nullopt;
    }
    table[shape] = choice;
  }
  return table;
}

bool write_tunings(const std::string& path, const tuning_table& table, std::string& problem) {
  namespace fs = std::filesystem;
  std::error_code failed;
  fs::create_directories(fs::path(path).parent_path(), failed);
  // Several devices and processes may write at once: each its own file, the last to rename wins.
  static std::atomic<int> written{0};
  const std::string draft = path + "." + std::to_string(getpid()) + "." + std::to_string(++written);
  {
    std::ofstream out(draft);
    out << to_text(table);
    if (!out.flush()) {
      problem = draft + ": cannot be written";
      return false;
    }
  }
  fs::rename(draft, path, failed);
  if (!failed) return true;
  problem = path + ": " + failed.message();
  fs::remove(draft, failed);
  return false;
}

}  // namespace dinfer::kernels::cuda
