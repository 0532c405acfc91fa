// SPDX-License-Identifier: Apache-2.0
// How fast text becomes tokens and tokens become text, on one thread: bench_tokenizer MODEL [FILE].
// Without a file, on English-like prose made of the vocabulary's own frequent words.
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/weights/source.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using namespace dinfer;
using namespace dinfer::runtime;

double seconds_since(std::chrono::steady_clock::time_point before) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
}

// Frequent words stand early in a vocabulary; one in eight is taken from all of it, as names are.
std::string prose(const tokenizer& words, std::size_t bytes) {
  std::string text;
  std::uint64_t state = 1;
  while (text.size() < bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const std::uint64_t reach = (state >> 33) % 8 == 0
                                    ? static_cast<std::uint64_t>(words.size())
                                    : static_cast<std::uint64_t>(words.size()) / 16;
    const auto token = static_cast<token_id>((state >> 36) % reach);
    if (!words.special(token)) text += words.bytes(token);
  }
  return words.decode(words.encode(text, false, false), true);
}

int run(const char* model, const char* file) {
  auto source = open_weights(model);
  if (!source) return std::fprintf(stderr, "%s\n", source.error().message.c_str()), 3;
  auto before = std::chrono::steady_clock::now();
  auto words = make_tokenizer(**source);
  if (!words) return std::fprintf(stderr, "%s\n", words.error().message.c_str()), 3;
  std::printf("open     %8.1f ms\n", seconds_since(before) * 1e3);

  std::string text;
  if (file != nullptr) {
    std::ifstream in(file, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(in), {});
  } else {
    text = prose(**words, 4'000'000);
  }
  std::vector<token_id> tokens;
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    before = std::chrono::steady_clock::now();
    tokens = (*words)->encode(text, false, false);
    best = std::min(best, seconds_since(before));
  }
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf("encode   %8.1f MB/s, %.2f bytes a token\n", megabytes / best,
              static_cast<double>(text.size()) / static_cast<double>(tokens.size()));

  before = std::chrono::steady_clock::now();
  detokenizer stream(**words);
  std::size_t shown = 0;
  for (const token_id token : tokens) shown += stream.push(token).size();
  shown += stream.finish().size();
  std::printf("stream   %8.1f MB/s, %.0f ns a token\n",
              static_cast<double>(shown) / 1e6 / seconds_since(before),
              seconds_since(before) * 1e9 / static_cast<double>(tokens.size()));
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return std::fprintf(stderr, "usage: bench_tokenizer MODEL [FILE]\n"), 2;
  return run(arguments[1], count > 2 ? arguments[2] : nullptr);
}
