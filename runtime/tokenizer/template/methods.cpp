// SPDX-License-Identifier: Apache-2.0
// Methods of strings and dictionaries, and the global functions. None of them changes a value or
// reaches outside. One rendering, one thread.
#include "runtime/tokenizer/template/builtins.hpp"
#include "runtime/tokenizer/template/strings.hpp"

#include <algorithm>
#include <array>
#include <ctime>

namespace dinfer::runtime::jinja {

namespace {

using method_function = value (*)(evaluator&, const text&, const arguments&);
struct method_entry {
  std::string_view name;
  method_function call;
};

const text& need_text(const arguments& with, std::size_t place, std::string_view name) {
  const value& v = with.need(place, name);
  if (v.string() == nullptr)
    give_up(with.where, "the argument '" + std::string(name) + "' must be a string");
  return *v.string();
}

value stripped(const text& s, const arguments& with, side which) {
  const value* set = with.find(0, "chars");
  if (set == nullptr || set->is_none()) return strip(s, which, std::nullopt);
  return strip(s, which, need_text(with, 0, "chars").bytes());
}

value list_of(std::vector<text> parts) {
  list all;
  for (text& part : parts) all.items.emplace_back(std::move(part));
  return all;
}

// No fewer than the places where a string may be split at line breaks, or at `others` too.
std::uint64_t places(const text& s, std::string_view others) {
  return static_cast<std::uint64_t>(
      std::count_if(s.bytes().begin(), s.bytes().end(), [others](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte >= 0xC0 || others.find(c) != std::string_view::npos;
      }));
}

value parts(evaluator& e, const text& s, const arguments& with) {
  const value* by = with.find(0, "sep");
  const std::int64_t limit = with.integer(1, "maxsplit", -1);
  if (by == nullptr || by->is_none()) {
    e.room_for_texts(1 + places(s, " \t"), with.where);
    return list_of(split_blanks(s, limit));
  }
  const text& separator = need_text(with, 0, "sep");
  if (separator.size() == 0) give_up(with.where, "split needs a separator that is not empty");
  e.room_for_texts(1 + count(s.bytes(), separator.bytes()), with.where);
  return list_of(split(s, separator.bytes(), limit));
}

// With a tuple any of its strings may stand there.
template <class There>
value stands(const arguments& with, There&& there) {
  const value& what = with.need(0, "prefix");
  if (const list* several = what.sequence())
    return std::any_of(several->items.begin(), several->items.end(), [&](const value& v) {
      return v.string() != nullptr && there(v.string()->bytes());
    });
  return there(need_text(with, 0, "prefix").bytes());
}

value replaced(evaluator& e, const text& s, const arguments& with) {
  const text &from = need_text(with, 0, "old"), &to = need_text(with, 1, "new");
  const std::size_t found = from.size() == 0 ? s.size() + 1 : count(s.bytes(), from.bytes());
  e.room(s.size() + found * to.size(), with.where);
  return replace(s, from.bytes(), to, with.integer(2, "count", -1));
}

value joined(evaluator& e, const text& between, const arguments& with) {
  text out;
  const std::vector<value> items = e.items_of(with.need(0, "iterable"), with.where);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].string() == nullptr) give_up(with.where, "join needs strings");
    e.room(out.size() + between.size() + items[i].string()->size(), with.where);
    e.charge_for(items[i], with.where);
    if (i > 0) out.append(between);
    out.append(*items[i].string());
  }
  return out;
}

value found(const text& s, const arguments& with) {
  const std::size_t at = s.bytes().find(need_text(with, 0, "sub").bytes());
  if (at == std::string::npos) return std::int64_t{-1};
  return static_cast<std::int64_t>(length(s.part(0, at)));
}

value counted(const text& s, const arguments& with) {
  const text& part = need_text(with, 0, "sub");
  return static_cast<std::int64_t>(part.size() == 0 ? length(s) + 1
                                                    : count(s.bytes(), part.bytes()));
}

value without(const text& s, const arguments& with, bool front) {
  const text& part = need_text(with, 0, front ? "prefix" : "suffix");
  const std::string& bytes = s.bytes();
  const bool there = front ? bytes.starts_with(part.bytes()) : bytes.ends_with(part.bytes());
  if (!there || part.size() == 0) return s;
  return front ? s.part(part.size()) : s.part(0, s.size() - part.size());
}

bool all_digits(const text& s) {
  return s.size() > 0 && std::all_of(s.bytes().begin(), s.bytes().end(),
                                     [](char c) { return c >= '0' && c <= '9'; });
}

constexpr method_entry methods[] = {
    {"capitalize", [](auto&, auto& s, auto&) -> value { return capitalize(s); }},
    {"count", [](auto&, auto& s, auto& w) -> value { return counted(s, w); }},
    {"endswith",
     [](auto&, auto& s, auto& w) -> value {
       return stands(w, [&s](const std::string& end) { return s.bytes().ends_with(end); });
     }},
    {"find", [](auto&, auto& s, auto& w) -> value { return found(s, w); }},
    {"isdigit", [](auto&, auto& s, auto&) -> value { return all_digits(s); }},
    {"join", joined},
    {"lower", [](auto&, auto& s, auto&) -> value { return lower(s); }},
    {"lstrip", [](auto&, auto& s, auto& w) -> value { return stripped(s, w, side::left); }},
    {"removeprefix", [](auto&, auto& s, auto& w) -> value { return without(s, w, true); }},
    {"removesuffix", [](auto&, auto& s, auto& w) -> value { return without(s, w, false); }},
    {"replace", replaced},
    {"rstrip", [](auto&, auto& s, auto& w) -> value { return stripped(s, w, side::right); }},
    {"split", parts},
    {"splitlines",
     [](auto& e, auto& s, auto& w) -> value {
       e.room_for_texts(1 + places(s, ""), w.where);
       return list_of(split_lines(s, false));
     }},
    {"startswith",
     [](auto&, auto& s, auto& w) -> value {
       return stands(w, [&s](const std::string& begin) { return s.bytes().starts_with(begin); });
     }},
    {"strip", [](auto&, auto& s, auto& w) -> value { return stripped(s, w, side::both); }},
    {"title", [](auto&, auto& s, auto&) -> value { return title(s, false); }},
    {"upper", [](auto&, auto& s, auto&) -> value { return upper(s); }},
};

constexpr std::array<std::string_view, 4> dict_methods{"get", "items", "keys", "values"};
constexpr std::array<std::string_view, 5> functions{"dict", "namespace", "raise_exception", "range",
                                                    "strftime_now"};

const method_entry* find_method(std::string_view name) noexcept {
  const auto* at = std::find_if(std::begin(methods), std::end(methods),
                                [name](const method_entry& m) { return m.name == name; });
  return at == std::end(methods) ? nullptr : at;
}

value call_on_dict(evaluator& e, const value& object, std::string_view name,
                   const arguments& with) {
  const dict& d = *object.mapping();
  if (name == "items") return apply_filter(e, "items", object, with);
  if (name == "get") {
    const value& key = with.need(0, "key");
    const value* held = key.string() ? d.find(key.string()->bytes()) : nullptr;
    const value* instead = with.find(1, "default");
    return held ? *held : instead ? *instead : value(none{});
  }
  list all;
  for (const auto& [key, held] : d.items) all.items.push_back(name == "keys" ? value(key) : held);
  return all;
}

value range(evaluator& e, const arguments& with) {
  if (with.given.empty() || with.given.size() > 3)
    give_up(with.where, "range takes 1 to 3 integers");
  const bool only_end = with.given.size() == 1;
  const std::int64_t first = only_end ? 0 : with.integer(0, "start", 0);
  const std::int64_t end = with.integer(only_end ? 0 : 1, "stop", 0);
  const std::int64_t by = with.integer(2, "step", 1);
  if (by == 0) give_up(with.where, "range cannot step by 0");
  list all;
  for (std::int64_t i = first; by > 0 ? i < end : i > end;) {
    e.room((all.items.size() + 1) * sizeof(value), with.where);
    all.items.emplace_back(i);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  e.charge(all.items.size() / 8, with.where);
  return all;
}

value time_text(evaluator& e, const arguments& with) {
  const text& format = need_text(with, 0, "format");
  if (format.size() > 256) give_up(with.where, "strftime_now takes at most 256 characters");
  if (format.size() == 0) return text();
  const std::time_t now = e.now_unix();
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 4096> out{};
  const std::size_t size = std::strftime(out.data(), out.size(), format.bytes().c_str(), &parts);
  return text(std::string_view(out.data(), size), true);
}

}  // namespace

bool known_function(std::string_view name) noexcept {
  return std::find(functions.begin(), functions.end(), name) != functions.end();
}

bool known_method(const value& object, std::string_view name) noexcept {
  if (object.string()) return find_method(name) != nullptr;
  if (!object.mapping()) return false;
  return std::find(dict_methods.begin(), dict_methods.end(), name) != dict_methods.end();
}

value call_method(evaluator& e, const value& object, std::string_view name, const arguments& with) {
  if (object.string()) return find_method(name)->call(e, *object.string(), with);
  return call_on_dict(e, object, name, with);
}

value call_function(evaluator& e, std::string_view name, const arguments& with) {
  if (name == "range") return range(e, with);
  if (name == "namespace") return e.make_namespace(with);
  if (name == "strftime_now") return time_text(e, with);
  if (name == "dict") {
    dict made;
    for (const value& from : with.given) {
      if (from.mapping() == nullptr) give_up(with.where, "dict() takes a dictionary");
      for (const auto& [key, held] : from.mapping()->items) made.set(key, held);
    }
    for (const auto& [key, held] : with.named) made.set(text(key, true), held);
    return made;
  }
  give_up(with.where, shown(with.need(0, "message")).bytes(), errc::invalid_argument);
}

}  // namespace dinfer::runtime::jinja
