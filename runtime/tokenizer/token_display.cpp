// SPDX-License-Identifier: Apache-2.0
// Decoders work on a list of tokens; those that are known work on one at a time until they are
// fused, so each token is shown once, when the file is read. Any thread.
#include "runtime/tokenizer/token_display.hpp"

#include "runtime/tokenizer/byte_alphabet.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <charconv>

namespace dinfer::runtime {

namespace {

constexpr std::size_t max_steps = 16;
constexpr double max_growth = 16;

// The byte that "<0x0A>" stands for; -1: another token.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = 0;
  const auto [end, problem] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return problem == std::errc() && end == token.data() + 5 && token[3] != '-' ? value : -1;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = text.find(from, done)) != std::string::npos;
       done = at + from.size()) {
    out.append(text, done, at - done);
    out.append(to);
  }
  out.append(text, done);
  text = std::move(out);
}

}  // namespace

token_display token_display::byte_level() {
  token_display out;
  out.steps_.push_back({step::kind::byte_level, {}, {}});
  return out;
}

result<token_display> token_display::read(const json_node& root) {
  token_display out;
  DINFER_TRY(const auto decoder, root.need("decoder"));
  DINFER_CHECK(out.add(decoder));
  return out;
}

bool token_display::as_spelt() const noexcept {
  return steps_.size() == 1 && steps_[0].what == step::kind::byte_level;
}

void token_display::append(std::string& out, std::string_view token) const {
  std::string text(token);
  for (const step& s : steps_) {
    if (s.what == step::kind::replace) {
      replace_all(text, s.from, s.to);
    } else if (s.what == step::kind::byte_level) {
      std::string bytes;
      if (append_byte_spelling(bytes, text)) text = std::move(bytes);
    } else if (const int byte = byte_of(text); byte >= 0) {
      text.assign(1, static_cast<char>(byte));
    }
  }
  out += text;
}

result<void> token_display::add(const json_node& decoder) {
  DINFER_TRY(const std::string_view type, decoder.text("type", ""));
  if (type == "Sequence") {
    DINFER_TRY(const auto all, decoder.need("decoders"));
    return all.each([this](const json_node& each) { return add(each); });
  }
  if (steps_.size() == max_steps)
    return decoder.wrong(fmt::format("is one of more than {}", max_steps), errc::unsupported);
  if (type == "Strip") return add_strip(decoder);
  if (type == "Fuse") {
    fused_ = true;
    return {};
  }
  if (fused_)
    return decoder.wrong(fmt::format("\"{}\" after Fuse is not read; Strip is", type.substr(0, 64)),
                         errc::unsupported);
  if (type == "Replace") return add_replace(decoder);
  if (type == "Metaspace") return add_metaspace(decoder);
  if (type == "ByteLevel") steps_.push_back({step::kind::byte_level, {}, {}});
  else if (type == "ByteFallback") steps_.push_back({step::kind::byte_fallback, {}, {}});
  else
    return decoder.wrong(
        fmt::format("\"{}\" is not read; ByteLevel, ByteFallback, Replace, Fuse, Strip, Metaspace "
                    "and Sequence are",
                    type.substr(0, 64)),
        errc::unsupported);
  return {};
}

result<void> token_display::add_replace(const json_node& decoder) {
  DINFER_TRY(const auto pattern, decoder.need("pattern"));
  DINFER_TRY(const std::string_view from, pattern.text("String", ""));
  if (from.empty()) return pattern.wrong("is not a String with something in it", errc::unsupported);
  DINFER_TRY(const std::string_view to, decoder.text("content", ""));
  if (to.size() > from.size())
    growth_ *= static_cast<double>(to.size()) / static_cast<double>(from.size());
  if (growth_ > max_growth) return decoder.wrong("makes tokens too long", errc::unsupported);
  steps_.push_back({step::kind::replace, std::string(from), std::string(to)});
  return {};
}

result<void> token_display::add_strip(const json_node& decoder) {
  DINFER_TRY(const std::string_view content, decoder.text("content", ""));
  const auto start = decoder.find("start"), stop = decoder.find("stop");
  std::int64_t first = 0, last = 0;
  if (start) {
    DINFER_TRY(first, start->integer());
  }
  if (stop) {
    DINFER_TRY(last, stop->integer());
  }
  if (!fused_ || content != " " || last != 0 || first < 0 || first > 1024)
    return decoder.wrong("Strip is read for spaces at the start of a fused text alone",
                         errc::unsupported);
  leading_spaces_ = static_cast<std::size_t>(first);
  return {};
}

result<void> token_display::add_metaspace(const json_node& decoder) {
  DINFER_TRY(const std::string_view mark, decoder.text("replacement", "\u2581"));
  if (mark.empty() || utf8_next(mark).size != mark.size())
    return decoder.wrong("replacement is not one character");
  DINFER_TRY(const bool legacy, decoder.boolean("add_prefix_space", true));
  DINFER_TRY(const std::string_view scheme,
             decoder.text("prepend_scheme", legacy ? "always" : "never"));
  if (scheme != "never") first_mark_ = std::string(mark);
  steps_.push_back({step::kind::replace, std::string(mark), " "});
  return {};
}

}  // namespace dinfer::runtime
