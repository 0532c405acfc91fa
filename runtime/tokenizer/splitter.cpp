// SPDX-License-Identifier: Apache-2.0
// Each step is a search for matches and a rule for what becomes of them. Any thread.
#include "runtime/tokenizer/splitter.hpp"

#include "runtime/tokenizer/scanners.hpp"
#include "runtime/tokenizer/unicode.hpp"
#include "runtime/tokenizer/utf8.hpp"

namespace dinfer::runtime {

namespace {

using range = pattern::match;

// A stretch of the text, which a step matched or did not.
struct stretch {
  std::size_t begin = 0, end = 0;
  bool match = false;
};

template <class Scan>
void scan(std::string_view text, std::vector<std::string_view>& words, Scan&& end_of) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = end_of(text, at);
    words.push_back(text.substr(at, end - at));
    at = end;
  }
}

void find_literal(std::string_view text, std::string_view wanted, std::vector<range>& out) {
  for (std::size_t at = 0; (at = text.find(wanted, at)) != std::string_view::npos;
       at += wanted.size())
    out.push_back({at, at + wanted.size()});
}

void find_numbers(std::string_view text, std::vector<range>& out) {
  for (std::size_t at = 0; at < text.size();) {
    const utf8_step c = utf8_next(text.substr(at));
    if (numeric(c.code_point)) out.push_back({at, at + c.size});
    at += c.size;
  }
}

// Matches and what lies between them, in order.
std::vector<stretch> stretches(std::string_view text, const std::vector<range>& matches,
                               bool invert) {
  std::vector<stretch> out;
  std::size_t done = 0;
  for (const range& m : matches) {
    if (m.begin > done) out.push_back({done, m.begin, invert});
    out.push_back({m.begin, m.end, !invert});
    done = m.end;
  }
  if (done < text.size()) out.push_back({done, text.size(), invert});
  return out;
}

std::vector<stretch> joined(const std::vector<stretch>& all, split_behaviour behaviour) {
  std::vector<stretch> out;
  bool previous = false;  // the last one was a match
  for (const stretch& s : all) {
    const bool join = behaviour == split_behaviour::contiguous             ? s.match == previous
                      : behaviour == split_behaviour::merged_with_previous ? s.match && !previous
                                                                           : false;
    if (join && !out.empty()) out.back().end = s.end;
    else out.push_back({s.begin, s.end, false});
    previous = s.match;
  }
  return out;
}

std::vector<stretch> joined_to_next(const std::vector<stretch>& all) {
  std::vector<stretch> out;
  bool previous = false;
  for (auto s = all.rbegin(); s != all.rend(); ++s) {
    if (s->match && !previous && !out.empty()) out.back().begin = s->begin;
    else out.push_back({s->begin, s->end, false});
    previous = s->match;
  }
  return {out.rbegin(), out.rend()};
}

void cut(std::string_view text, const std::vector<range>& matches, split_behaviour behaviour,
         bool invert, std::vector<std::string_view>& words) {
  std::vector<stretch> all = stretches(text, matches, invert);
  if (behaviour == split_behaviour::merged_with_next) all = joined_to_next(all);
  else if (behaviour == split_behaviour::contiguous ||
           behaviour == split_behaviour::merged_with_previous)
    all = joined(all, behaviour);
  for (const stretch& s : all) {
    if (s.begin == s.end || (behaviour == split_behaviour::removed && s.match)) continue;
    words.push_back(text.substr(s.begin, s.end - s.begin));
  }
}

void mark_spaces(const split_step& step, std::string_view text, bool at_start, split_words& out) {
  std::string marked;
  for (const char c : text)
    if (c == ' ') marked += step.text;
    else marked.push_back(c);
  const bool before = step.before == split_step::mark::always ||
                      (step.before == split_step::mark::first && at_start);
  if (before && !marked.starts_with(step.text)) marked.insert(0, step.text);
  const std::string_view whole = out.made.emplace_back(std::move(marked));
  if (!step.split_marks) {
    out.words.push_back(whole);
    return;
  }
  std::vector<range> marks;
  find_literal(whole, step.text, marks);
  cut(whole, marks, split_behaviour::merged_with_next, false, out.words);
}

void apply(const split_step& step, std::string_view text, bool at_start, pattern_work& work,
           split_words& out) {
  using kind = split_step::kind;
  std::vector<range> matches;
  switch (step.what) {
    case kind::gpt2:
      return scan(text, out.words, scan_gpt2);
    case kind::llama3:
      return scan(text, out.words, [](auto t, auto at) { return scan_llama3(t, at, 3); });
    case kind::qwen2:
      return scan(text, out.words, [](auto t, auto at) { return scan_llama3(t, at, 1); });
    case kind::digits:
      if (step.behaviour == split_behaviour::isolated) return scan(text, out.words, scan_digits);
      find_numbers(text, matches);
      break;
    case kind::expression:
      step.expression->find_all(text, work, matches);
      break;
    case kind::literal:
      find_literal(text, step.text, matches);
      break;
    case kind::space_before:
      if (text.starts_with(' ')) out.words.push_back(text);
      else out.words.push_back(out.made.emplace_back(" " + std::string(text)));
      return;
    case kind::marked_spaces:
      return mark_spaces(step, text, at_start, out);
  }
  cut(text, matches, step.behaviour, step.invert, out.words);
}

}  // namespace

void splitter::split(std::string_view text, bool at_start, split_words& out) const {
  if (text.empty()) return;
  pattern_work work(text.size());
  std::vector<std::string_view> before{text};
  std::vector<std::string_view> kept;
  kept.swap(out.words);
  for (const split_step& step : steps_) {
    for (std::size_t i = 0; i < before.size(); ++i)
      apply(step, before[i], at_start && i == 0, work, out);
    before.swap(out.words);
    out.words.clear();
  }
  out.words.swap(kept);
  out.words.insert(out.words.end(), before.begin(), before.end());
}

}  // namespace dinfer::runtime
