// SPDX-License-Identifier: Apache-2.0
// One function a step, text in and text out. Any thread.
#include "runtime/tokenizer/normalizer.hpp"

#include "runtime/tokenizer/unicode.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <algorithm>

namespace dinfer::runtime {

namespace {

constexpr double max_growth = 64;

// How many times as large a step makes a text, at most.
double growth_of(const normal_step& step) {
  using kind = normal_step::kind;
  switch (step.what) {
    case kind::nfc:
    case kind::nfd:
      return 3;
    case kind::nfkc:
    case kind::nfkd:
      return 11;  // U+FDFA: 3 bytes become 33
    case kind::lower_case:
      return 1.5;
    case kind::strip_accents:
      return 1;
    case kind::put_before:
      return 1 + static_cast<double>(step.to.size());
    case kind::replace:
      return std::max(1.0, static_cast<double>(step.to.size()) /
                               static_cast<double>(std::max<std::size_t>(1, step.from.size())));
    case kind::replace_expression:  // there may be an empty match beside every character
      return 1 + static_cast<double>(step.to.size());
  }
  return 1;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = text.find(from, done)) != std::string_view::npos;
       done = at + from.size()) {
    out.append(text.substr(done, at - done));
    out.append(to);
  }
  out.append(text.substr(done));
  return out;
}

std::string replaced(std::string_view text, const pattern& from, std::string_view to) {
  pattern_work work(text.size());
  std::vector<pattern::match> matches;
  from.find_all(text, work, matches);
  std::string out;
  std::size_t done = 0;
  for (const pattern::match& m : matches) {
    out.append(text.substr(done, m.begin - done));
    out.append(to);
    done = m.end;
  }
  out.append(text.substr(done));
  return out;
}

template <class Each>
std::string mapped(std::string_view text, Each&& each) {
  std::string out;
  while (!text.empty()) {
    const utf8_step step = utf8_next(text);
    each(out, step.code_point);
    text.remove_prefix(step.size);
  }
  return out;
}

std::string applied(const normal_step& step, std::string_view text) {
  using kind = normal_step::kind;
  switch (step.what) {
    case kind::nfc:
      return normalised(text, normal_form::c);
    case kind::nfd:
      return normalised(text, normal_form::d);
    case kind::nfkc:
      return normalised(text, normal_form::kc);
    case kind::nfkd:
      return normalised(text, normal_form::kd);
    case kind::lower_case:
      return mapped(text, [](std::string& out, char32_t c) {
        append_code_point(out, to_lower(c));
        if (c == 0x130) append_code_point(out, 0x307);  // the one letter that becomes two
      });
    case kind::strip_accents:
      return mapped(text, [](std::string& out, char32_t c) {
        if (!mark(c)) append_code_point(out, c);
      });
    case kind::put_before:
      return text.empty() ? std::string() : step.to + std::string(text);
    case kind::replace:
      return replaced(text, step.from, step.to);
    case kind::replace_expression:
      return replaced(text, *step.expression, step.to);
  }
  return std::string(text);
}

}  // namespace

bool normalizer::add(normal_step step) {
  const double growth = growth_ * growth_of(step);
  if (growth > max_growth) return false;
  growth_ = growth;
  steps_.push_back(std::move(step));
  return true;
}

std::string normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const normal_step& step : steps_) out = applied(step, out);
  return out;
}

}  // namespace dinfer::runtime
