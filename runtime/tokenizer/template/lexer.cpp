// SPDX-License-Identifier: Apache-2.0
// One pass over the source. Text runs up to the next tag; in a tag, brackets are counted so that
// the braces of a dictionary do not end it.
#include "runtime/tokenizer/template/lexer.hpp"

#include "runtime/tokenizer/utf8.hpp"

#include <array>
#include <cctype>
#include <charconv>

namespace dinfer::runtime::jinja {

namespace {

constexpr std::size_t max_tokens = 10'000;  // ten times the longest that is known

using kind = token::kind;

bool blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Every line end becomes \n, and one at the very end is dropped.
std::string with_plain_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class lexer {
 public:
  explicit lexer(std::string_view source) : source_(with_plain_lines(source)) {}

  std::vector<token> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = next_tag();
      const char how = tag == std::string::npos ? 0 : source_[tag + 1];
      const char mark = how != 0 && tag + 2 < source_.size() ? source_[tag + 2] : 0;
      data(tag, how, mark);
      if (how == 0) break;
      move_to(tag);
      if (how == '#') comment();
      else open(how, mark);
    }
    push(kind::end, {});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(const std::string& message) { give_up(where_, message); }
  bool ahead(std::string_view what) const {
    return std::string_view(source_).substr(at_).starts_with(what);
  }
  void push(kind what, std::string text) {
    if (tokens_.size() == max_tokens) give_up(where_, "the template has too many words");
    tokens_.push_back({what, std::move(text), where_});
  }

  void move_to(std::size_t to) {
    for (; at_ < to; ++at_) {
      if (source_[at_] == '\n') where_ = {where_.line + 1, 1};
      else if ((static_cast<unsigned char>(source_[at_]) & 0xC0) != 0x80) ++where_.column;
    }
  }
  void skip_blanks() {
    std::size_t to = at_;
    while (to < source_.size() && blank(source_[to])) ++to;
    move_to(to);
  }

  std::size_t next_tag() const {
    for (std::size_t i = source_.find('{', at_); i != std::string::npos;
         i = source_.find('{', i + 1))
      if (i + 1 < source_.size() &&
          std::string_view("{%#").find(source_[i + 1]) != std::string::npos)
        return i;
    return std::string::npos;
  }

  void data(std::size_t tag, char how, char mark) {
    std::string_view text =
        std::string_view(source_).substr(at_, tag == std::string::npos ? tag : tag - at_);
    if (how != 0 && mark == '-') {
      while (!text.empty() && blank(text.back())) text.remove_suffix(1);
    } else if ((how == '%' || how == '#') && mark != '+') {
      const std::size_t line_break = text.rfind('\n');
      const std::size_t line = line_break == std::string_view::npos ? 0 : line_break + 1;
      const bool at_line_start = line > 0 || at_ == 0 || source_[at_ - 1] == '\n';
      const bool only_blanks = text.find_first_not_of(" \t\v\f", line) == std::string_view::npos;
      if (at_line_start && only_blanks) text = text.substr(0, line);
    }
    if (!text.empty()) push(kind::data, std::string(text));
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_ + 2);
    if (end == std::string::npos) fail_here("a comment is not closed");
    const char mark = source_[end - 1];
    move_to(end + 2);
    after_tag(mark, true);
  }

  void after_tag(char mark, bool trims) {
    if (mark == '-') skip_blanks();
    else if (trims && mark != '+' && ahead("\n")) move_to(at_ + 1);
  }

  void open(char how, char mark) {
    const position where = where_;
    const bool marked = mark == '-' || mark == '+';
    move_to(at_ + (marked ? 3 : 2));
    push(how == '{' ? kind::output_begin : kind::block_begin, {});
    tokens_.back().where = where;
    skip_blanks();
    if (how == '%' && raw()) return;
    const std::string_view end = how == '{' ? "}}" : "%}";
    for (int brackets = 0;;) {
      skip_blanks();
      if (at_ >= source_.size()) give_up(where, "a tag is not closed");
      const char c = source_[at_];
      const bool end_marked = c == '-' || (c == '+' && how == '%');
      if (brackets == 0 &&
          (ahead(end) ||
           (end_marked && std::string_view(source_).substr(at_ + 1).starts_with(end)))) {
        push(how == '{' ? kind::output_end : kind::block_end, {});
        move_to(at_ + (end_marked ? 3 : 2));
        return after_tag(end_marked ? c : 0, how == '%');
      }
      if (c == '(' || c == '[' || c == '{') ++brackets;
      if (c == ')' || c == ']' || c == '}')
        if (--brackets < 0) fail_here("a bracket is closed that was not opened");
      word();
    }
  }

  // {% raw %}: text up to {% endraw %} is data. Called behind "{%"; drops that token.
  bool raw() {
    std::size_t i = at_;
    const std::string_view all = source_;
    const auto blanks = [&] {
      while (i < all.size() && blank(all[i])) ++i;
    };
    const auto close = [&](std::string_view name, char& mark) {
      if (!all.substr(i).starts_with(name)) return false;
      i += name.size();
      blanks();
      mark = i < all.size() && (all[i] == '-' || all[i] == '+') ? all[i++] : char{0};
      if (!all.substr(i).starts_with("%}")) return false;
      i += 2;
      return true;
    };
    char mark = 0;
    if (!close("raw", mark)) return false;
    tokens_.pop_back();
    move_to(i);
    after_tag(mark, true);
    for (std::size_t tag = all.find("{%", at_); tag != std::string::npos;
         tag = all.find("{%", tag + 2)) {
      i = tag + 2;
      const char front = i < all.size() && (all[i] == '-' || all[i] == '+') ? all[i++] : char{0};
      blanks();
      if (!close("endraw", mark)) continue;
      data(tag, '%', front);
      move_to(i);
      after_tag(mark, true);
      return true;
    }
    fail_here("a raw block is not closed");
  }

  void word() {
    const char c = source_[at_];
    std::size_t end = at_;
    if (name_start(c)) {
      while (end < source_.size() && (name_start(source_[end]) || digit(source_[end]))) ++end;
      push(kind::name, source_.substr(at_, end - at_));
    } else if (digit(c)) {
      end = number();
    } else if (c == '\'' || c == '"') {
      end = string();
    } else {
      end = sign();
    }
    move_to(end);
  }

  std::size_t number() {
    std::size_t end = at_;
    bool whole = true;
    const auto digits = [&] {
      while (end < source_.size() && (digit(source_[end]) || source_[end] == '_')) ++end;
    };
    const auto digit_at = [&](std::size_t i) { return i < source_.size() && digit(source_[i]); };
    digits();
    if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
      whole = false;
      ++end;
      digits();
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const bool has_sign =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
      if (digit_at(end + (has_sign ? 2 : 1))) {
        whole = false;
        end += has_sign ? 2 : 1;
        digits();
      }
    }
    std::string text;
    for (std::size_t i = at_; i < end; ++i)
      if (source_[i] != '_') text.push_back(source_[i]);
    push(whole ? kind::integer : kind::number, text);
    return end;
  }

  std::size_t string() {
    const char quote = source_[at_];
    std::string text;
    std::size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote) {
      if (source_[i] != '\\') text.push_back(source_[i++]);
      else i = escape(i, text);
    }
    if (i >= source_.size()) fail_here("a string is not closed");
    push(kind::string, text);
    return i + 1;
  }

  // Python's escapes. Returns the place behind the one at `i`; an unknown one stays as it is.
  std::size_t escape(std::size_t i, std::string& out) {
    const char c = i + 1 < source_.size() ? source_[i + 1] : char{0};
    constexpr std::string_view from = "nrtabfv\\'\"", to = "\n\r\t\a\b\f\v\\'\"";
    if (const std::size_t at = from.find(c); at != std::string_view::npos) {
      out.push_back(to[at]);
      return i + 2;
    }
    if (c == '\n') return i + 2;
    const std::size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    const bool octal = c >= '0' && c <= '7';
    const std::size_t first = octal ? i + 1 : i + 2;
    std::size_t last = first;
    if (octal)
      while (last < first + 3 && last < source_.size() && source_[last] >= '0' &&
             source_[last] <= '7')
        ++last;
    else last = std::min(first + hex, source_.size());
    std::uint32_t code = 0;
    const char* end = source_.data() + last;
    const auto read = std::from_chars(source_.data() + first, end, code, octal ? 8 : 16);
    if ((hex == 0 && !octal) || read.ptr != end || (hex != 0 && last != first + hex)) {
      out.push_back('\\');
      return i + 1;
    }
    append_code_point(out, code);
    return last;
  }

  std::size_t sign() {
    static constexpr std::array<std::string_view, 27> signs{
        "//", "**", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[", "]",
        "(",  ")",  "{",  "}",  "<",  ">",  "=", ".", ":", "|", ",", ";", "@"};
    for (const std::string_view s : signs) {
      if (!ahead(s)) continue;
      push(kind::sign, std::string(s));
      return at_ + s.size();
    }
    fail_here(std::string("the character '") + source_[at_] + "' means nothing here");
  }

  std::string source_;
  std::size_t at_ = 0;
  position where_;
  std::vector<token> tokens_;
};

}  // namespace

std::vector<token> tokenize_template(std::string_view source) { return lexer(source).run(); }

}  // namespace dinfer::runtime::jinja
