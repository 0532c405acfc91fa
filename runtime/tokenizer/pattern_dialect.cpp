// SPDX-License-Identifier: Apache-2.0
// One walk over the expression that knows whether it is inside a class. Any thread.
#include "runtime/tokenizer/pattern_dialect.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dinfer::runtime {

namespace {

constexpr std::string_view word_characters = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

class translator {
 public:
  explicit translator(std::string_view from) : from_(from) {}

  result<std::string> run() {
    while (at_ < from_.size()) {
      if (from_[at_] == '\\') DINFER_CHECK(escape());
      else if (in_class_) DINFER_CHECK(class_part());
      else DINFER_CHECK(plain());
    }
    return std::move(out_);
  }

 private:
  auto refuse(std::string_view what) const {
    return fail(errc::unsupported,
                fmt::format("{} in a regular expression, at byte {}, is not read", what, at_));
  }
  bool next_is(std::string_view text) const { return from_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_.append(from_.substr(at_, count));
    at_ = std::min(at_ + count, from_.size());
  }

  result<void> escape() {
    const char c = at_ + 1 < from_.size() ? from_[at_ + 1] : '\0';
    interval_ended_ = false;
    if (std::string_view("hHyYNOXRQE").find(c) != std::string_view::npos)
      return refuse(fmt::format("\\{}", c));
    if (c == 'W' && in_class_) return refuse("\\W within a class");
    if (c == 'w' || c == 'W') {
      const std::string_view open = in_class_ ? "" : c == 'w' ? "[" : "[^";
      out_ += fmt::format("{}{}{}", open, word_characters, in_class_ ? "" : "]");
      at_ += 2;
      return {};
    }
    if (c == 'u' && at_ + 6 <= from_.size()) {
      const std::string_view digits = from_.substr(at_ + 2, 4);
      if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos)
        return refuse("\\u");
      out_ += fmt::format("\\x{{{}}}", digits);
      at_ += 6;
      return {};
    }
    copy(2);
    if ((c == 'p' || c == 'P' || c == 'x') && next_is("{")) {
      const std::size_t end = from_.find('}', at_);
      copy(end == std::string_view::npos ? 1 : end + 1 - at_);
    }
    return {};
  }

  result<void> class_part() {
    if (next_is("&&")) return refuse("an intersection of classes");
    if (next_is("[:")) {
      const std::size_t end = from_.find(":]", at_);
      if (end == std::string_view::npos) return refuse("[:");
      copy(end + 2 - at_);
      return {};
    }
    if (next_is("[")) return refuse("a class within a class");
    if (next_is("]")) in_class_ = false;
    copy(1);
    return {};
  }

  result<void> plain() {
    if (next_is("(*")) return refuse("(*");
    if (next_is("+") && interval_ended_) return refuse("a repeated interval");
    interval_ended_ = next_is("}");
    if (next_is("[")) {
      in_class_ = true;
      copy(next_is("[^") ? 2 : 1);
      if (next_is("]")) copy(1);  // the first one is a character
      return {};
    }
    if (next_is("(?")) {
      const std::size_t end = from_.find_first_not_of("imx-", at_ + 2);
      const bool options = end != std::string_view::npos && end > at_ + 2 &&
                           (from_[end] == ':' || from_[end] == ')');
      if (options) {
        std::string text(from_.substr(at_, end - at_));
        std::replace(text.begin(), text.end(), 'm', 's');  // a dot matches line breaks
        out_ += text;
        at_ = end;
        return {};
      }
    }
    copy(1);
    return {};
  }

  std::string_view from_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  bool interval_ended_ = false;
  std::string out_;
};

}  // namespace

result<std::string> from_oniguruma(std::string_view expression) {
  return translator(expression).run();
}

}  // namespace dinfer::runtime
