// SPDX-License-Identifier: Apache-2.0
// Stop strings against a plain search over the whole text, cut every way.
#include "net/openai/stop_matcher.hpp"

#include "tests/support/catch.hpp"

#include <random>

using dinfer::net::stop_matcher;
using dinfer::net::stop_strings;

namespace {

struct outcome {
  std::string text;
  std::string stop;  // empty: none
  bool operator==(const outcome&) const = default;
};

// By definition: the stop string that ends first, the longest of those.
outcome expected(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const auto& s : stops)
      if (end >= s.size() && text.compare(end - s.size(), s.size(), s) == 0 &&
          s.size() > best.size())
        best = s;
    if (!best.empty()) return {text.substr(0, end - best.size()), best};
  }
  return {text, {}};
}

outcome pushed(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  stop_matcher m(std::make_shared<const stop_strings>(stops));
  outcome out;
  for (const auto& piece : pieces)
    if (const auto found = m.push(piece, out.text)) {
      out.stop = stops[*found];
      return out;
    }
  out.text += m.finish();
  return out;
}

}  // namespace

TEST_CASE("a stop string is found across the borders of pieces") {
  CHECK(pushed({"Hello wo", "r", "ld!"}, {"world"}) == outcome{"Hello ", "world"});
  CHECK(pushed({"aa", "ab"}, {"aab"}) == outcome{"a", "aab"});
  CHECK(pushed({"\n", "\n", "x"}, {"\n\n"}) == outcome{"", "\n\n"});
  CHECK(pushed({"ab"}, {"b", "ab"}) == outcome{"", "ab"});
  CHECK(pushed({"no", "thing"}, {"things"}) == outcome{"nothing", ""});
  CHECK(pushed({"free"}, {}) == outcome{"free", ""});
}

TEST_CASE("only what could become a stop string is held back") {
  stop_matcher m(std::make_shared<const stop_strings>(std::vector<std::string>{"</end>"}));
  std::string out;
  CHECK_FALSE(m.push("text </e", out));
  CHECK(out == "text ");
  CHECK_FALSE(m.push("x", out));
  CHECK(out == "text </ex");
}

TEST_CASE("matching equals a plain search, on random texts of few letters") {
  std::mt19937 random(20261123);
  for (int round = 0; round < 3000; ++round) {
    const auto letters = [&](std::size_t most) {
      std::string s(1 + random() % most, 'a');
      for (auto& c : s) c = static_cast<char>('a' + random() % 2);
      return s;
    };
    std::vector<std::string> stops(1 + random() % 4);
    for (auto& s : stops) s = letters(6);
    const auto text = letters(40);
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const auto size = 1 + random() % 5;
      pieces.push_back(text.substr(at, size));
      at += size;
    }
    CAPTURE(round, text, stops);
    REQUIRE(pushed(pieces, stops) == expected(text, stops));
  }
}
