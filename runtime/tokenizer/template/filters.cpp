// SPDX-License-Identifier: Apache-2.0
// Filters, after Jinja's own. What is made of a message's text keeps its origin. One rendering, one
// thread.
#include "runtime/tokenizer/template/builtins.hpp"
#include "runtime/tokenizer/template/strings.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace dinfer::runtime::jinja {

namespace {

using filter_function = value (*)(evaluator&, const value&, const arguments&);
struct filter_entry {
  std::string_view name;
  filter_function apply;
};

// Jinja's soft strings: everything can be taken as text.
text soft(evaluator& e, const value& v, const arguments& with) {
  if (const text* s = v.string()) return *s;
  e.charge_all(v, with.where);
  return shown(v);
}

value make_list(std::vector<value> items) {
  list made;
  made.items = std::move(items);
  return made;
}

value length(evaluator&, const value& v, const arguments& with) {
  if (const text* s = v.string()) return static_cast<std::int64_t>(length(*s));
  if (const list* l = v.sequence()) return std::int64_t{std::ssize(l->items)};
  if (const dict* d = v.mapping()) return std::int64_t{std::ssize(d->items)};
  if (v.is_undefined()) return std::int64_t{0};
  give_up(with.where, std::string(type_name(v)) + " has no length");
}

value trim(evaluator& e, const value& v, const arguments& with) {
  const value* set = with.find(0, "chars");
  if (set == nullptr || set->string() == nullptr)
    return strip(soft(e, v, with), side::both, std::nullopt);
  return strip(soft(e, v, with), side::both, set->string()->bytes());
}

value edge(evaluator& e, const value& v, const arguments& with, bool first) {
  const std::vector<value> items = e.items_of(v, with.where);
  if (items.empty()) return undefined{first ? "first item" : "last item"};
  return first ? items.front() : items.back();
}

value otherwise(evaluator&, const value& v, const arguments& with) {
  const value* instead = with.find(0, "default_value");
  const value* also_false = with.find(1, "boolean");
  const bool missing = v.is_undefined() || (also_false && truthy(*also_false) && !truthy(v));
  if (!missing) return v;
  return instead ? *instead : value(text());
}

value to_json(evaluator& e, const value& v, const arguments& with) {
  if (v.is_undefined()) give_up(with.where, "an undefined value has no JSON");
  e.charge_all(v, with.where);
  const std::int64_t indent = with.integer(1, "indent", -1);
  if (indent > 32) give_up(with.where, "tojson indents by at most 32");
  text out;
  append_json(out, v, static_cast<int>(std::max<std::int64_t>(indent, -1)), 0);
  return out;
}

value replaced(evaluator& e, const value& v, const arguments& with) {
  const text s = soft(e, v, with);
  const text from = soft(e, with.need(0, "old"), with), to = soft(e, with.need(1, "new"), with);
  const std::size_t found = from.size() == 0 ? s.size() + 1 : count(s.bytes(), from.bytes());
  e.room(s.size() + found * to.size(), with.where);
  return replace(s, from.bytes(), to, with.integer(2, "count", -1));
}

value pairs(evaluator&, const value& v, const arguments& with) {
  list all;
  if (v.is_undefined()) return all;
  if (v.mapping() == nullptr) give_up(with.where, "items needs a dictionary");
  for (const auto& [name, held] : v.mapping()->items) {
    list pair;
    pair.tuple = true;
    pair.items = {name, held};
    all.items.push_back(std::move(pair));
  }
  return all;
}

value joined(evaluator& e, const value& v, const arguments& with) {
  const value* by = with.find(0, "d");
  const value* attribute = with.find(1, "attribute");
  const text between = by ? soft(e, *by, with) : text();
  text out;
  const std::vector<value> items = e.items_of(v, with.where);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const text part =
        soft(e, attribute ? e.item(items[i], *attribute, with.where) : items[i], with);
    e.room(out.size() + between.size() + part.size(), with.where);
    e.charge(part.size() / 64, with.where);
    if (i > 0) out.append(between);
    out.append(part);
  }
  return out;
}

// The value of "a.b" or "a" in an item.
value attribute_of(evaluator& e, value v, const value& path, position where) {
  if (path.string() == nullptr) return e.item(v, path, where);
  for (const text& part : split(*path.string(), ".", -1)) v = e.item(v, value(part), where);
  return v;
}

arguments behind(const arguments& with, std::size_t skipped) {
  arguments rest;
  rest.where = with.where;
  for (std::size_t i = skipped; i < with.given.size(); ++i) rest.given.push_back(with.given[i]);
  return rest;
}

value mapped(evaluator& e, const value& v, const arguments& with) {
  std::vector<value> out;
  const value* attribute = with.find(~std::size_t{0}, "attribute");
  const value* instead = with.find(~std::size_t{0}, "default");
  if (!truthy(v)) return make_list({});
  for (const value& item : e.items_of(v, with.where)) {
    e.charge(1, with.where);
    if (attribute != nullptr) {
      value found = attribute_of(e, item, *attribute, with.where);
      out.push_back(found.is_undefined() && instead ? *instead : std::move(found));
      continue;
    }
    const value& name = with.need(0, "filter");
    if (name.string() == nullptr || !known_filter(name.string()->bytes()))
      give_up(with.where, "map needs an attribute or the name of a known filter");
    out.push_back(apply_filter(e, name.string()->bytes(), item, behind(with, 1)));
  }
  return make_list(std::move(out));
}

value selected(evaluator& e, const value& v, const arguments& with, bool by_attribute, bool keep) {
  std::vector<value> out;
  const std::size_t skip = by_attribute ? 1 : 0;
  const value* test = with.find(skip, "test");
  if (test && (test->string() == nullptr || !known_test(test->string()->bytes())))
    give_up(with.where, "a test by this name is not known");
  const arguments rest = behind(with, skip + 1);
  if (!truthy(v)) return make_list({});  // of nothing, whatever it is, nothing is chosen
  for (const value& item : e.items_of(v, with.where)) {
    e.charge(1, with.where);
    const value subject =
        by_attribute ? attribute_of(e, item, with.need(0, "attribute"), with.where) : item;
    const bool good =
        test ? apply_test(e, test->string()->bytes(), subject, rest) : truthy(subject);
    if (good == keep) out.push_back(item);
  }
  return make_list(std::move(out));
}

value to_integer(evaluator&, const value& v, const arguments& with) {
  const std::int64_t instead = with.integer(0, "default", 0);
  if (const auto* i = v.as<std::int64_t>()) return *i;
  if (is_number(v)) {
    const double d = std::trunc(number_of(v));
    return std::abs(d) < 9.2e18 ? static_cast<std::int64_t>(d) : instead;
  }
  if (v.string() == nullptr) return instead;
  const text s = strip(*v.string(), side::both, std::nullopt);
  const char *begin = s.bytes().data(), *end = begin + s.size();
  if (s.bytes().starts_with('+')) ++begin;
  std::int64_t whole = 0;
  if (const auto r = std::from_chars(begin, end, whole); r.ec == std::errc{} && r.ptr == end)
    return whole;
  double real = 0;
  if (const auto r = std::from_chars(begin, end, real);
      r.ec == std::errc{} && r.ptr == end && std::abs(real) < 9.2e18)
    return static_cast<std::int64_t>(real);
  return instead;
}

value to_float(evaluator&, const value& v, const arguments& with) {
  const value* instead = with.find(0, "default");
  if (is_number(v)) return number_of(v);
  double real = 0;
  if (v.string() != nullptr) {
    const text s = strip(*v.string(), side::both, std::nullopt);
    const char *begin = s.bytes().data(), *end = begin + s.size();
    if (s.bytes().starts_with('+')) ++begin;
    if (const auto r = std::from_chars(begin, end, real); r.ec == std::errc{} && r.ptr == end)
      return real;
  }
  return instead ? *instead : value(0.0);
}

value indented(evaluator& e, const value& v, const arguments& with) {
  const value* width = with.find(0, "width");
  const value *first = with.find(1, "first"), *blank = with.find(2, "blank");
  text by;
  if (width != nullptr && width->string() != nullptr) {
    by = *width->string();
  } else {
    const std::int64_t count = with.integer(0, "width", 4);
    if (count > 256) give_up(with.where, "indent goes up to 256");
    by = text(std::string(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)), ' '), true);
  }
  text s = soft(e, v, with);
  s.append("\n", true);  // as Jinja does, so that a last empty line counts
  const std::vector<text> lines = split_lines(s, false);
  e.room(s.size() + lines.size() * (by.size() + 1), with.where);
  text out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool wanted =
        i == 0 ? first && truthy(*first) : lines[i].size() > 0 || (blank && truthy(*blank));
    if (i > 0) out.append("\n", true);
    if (wanted) out.append(by);
    out.append(lines[i]);
  }
  return out;
}

value unique(evaluator& e, const value& v, const arguments& with) {
  std::vector<value> out;
  for (const value& item : e.items_of(v, with.where)) {
    e.charge(out.size(), with.where);
    e.charge_all(item, with.where);
    if (std::none_of(out.begin(), out.end(), [&](const value& o) { return equal(o, item); }))
      out.push_back(item);
  }
  return make_list(std::move(out));
}

value reversed(evaluator& e, const value& v, const arguments& with) {
  std::vector<value> items = e.items_of(v, with.where);
  std::reverse(items.begin(), items.end());
  if (v.string() == nullptr) return make_list(std::move(items));
  text out;
  for (const value& c : items) out.append(*c.string());
  return out;
}

value sorted(evaluator& e, const value& v, const arguments& with) {
  std::vector<value> items = e.items_of(v, with.where);
  const value* backwards = with.find(0, "reverse");
  const value* attribute = with.find(2, "attribute");
  e.charge_all(v, with.where);
  e.charge(items.size() * 4, with.where);
  std::vector<std::pair<value, value>> keyed;
  for (value& item : items) {
    value key = attribute ? attribute_of(e, item, *attribute, with.where) : item;
    if (key.string()) key = lower(*key.string());  // Jinja ignores case here
    if (!keyed.empty() && order(keyed[0].first, key) == 2)
      give_up(with.where, std::string(type_name(key)) + " cannot be sorted with the others");
    keyed.emplace_back(std::move(key), std::move(item));
  }
  const bool down = backwards && truthy(*backwards);
  std::stable_sort(keyed.begin(), keyed.end(), [down](const auto& a, const auto& b) {
    return down ? order(b.first, a.first) == -1 : order(a.first, b.first) == -1;
  });
  for (std::size_t i = 0; i < keyed.size(); ++i) items[i] = std::move(keyed[i].second);
  return make_list(std::move(items));
}

value absolute(evaluator&, const value& v, const arguments& with) {
  if (const auto* i = v.as<std::int64_t>(); i && *i != INT64_MIN) return std::abs(*i);
  if (const double* d = v.as<double>()) return std::fabs(*d);
  give_up(with.where, std::string("abs of ") + type_name(v));
}

constexpr filter_entry filters[] = {
    {"abs", absolute},
    {"capitalize", [](auto& e, auto& v, auto& w) -> value { return capitalize(soft(e, v, w)); }},
    {"count", length},
    {"d", otherwise},
    {"default", otherwise},
    {"first", [](auto& e, auto& v, auto& w) -> value { return edge(e, v, w, true); }},
    {"float", to_float},
    {"indent", indented},
    {"int", to_integer},
    {"items", pairs},
    {"join", joined},
    {"last", [](auto& e, auto& v, auto& w) -> value { return edge(e, v, w, false); }},
    {"length", length},
    {"list", [](auto& e, auto& v, auto& w) -> value { return make_list(e.items_of(v, w.where)); }},
    {"lower", [](auto& e, auto& v, auto& w) -> value { return lower(soft(e, v, w)); }},
    {"map", mapped},
    {"reject", [](auto& e, auto& v, auto& w) -> value { return selected(e, v, w, false, false); }},
    {"rejectattr",
     [](auto& e, auto& v, auto& w) -> value { return selected(e, v, w, true, false); }},
    {"replace", replaced},
    {"reverse", reversed},
    {"safe", [](auto&, auto& v, auto&) -> value { return v; }},
    {"select", [](auto& e, auto& v, auto& w) -> value { return selected(e, v, w, false, true); }},
    {"selectattr",
     [](auto& e, auto& v, auto& w) -> value { return selected(e, v, w, true, true); }},
    {"sort", sorted},
    {"string", [](auto& e, auto& v, auto& w) -> value { return soft(e, v, w); }},
    {"title", [](auto& e, auto& v, auto& w) -> value { return title(soft(e, v, w), true); }},
    {"tojson", to_json},
    {"trim", trim},
    {"unique", unique},
    {"upper", [](auto& e, auto& v, auto& w) -> value { return upper(soft(e, v, w)); }},
};

const filter_entry* find_filter(std::string_view name) noexcept {
  const auto* at = std::find_if(std::begin(filters), std::end(filters),
                                [name](const filter_entry& f) { return f.name == name; });
  return at == std::end(filters) ? nullptr : at;
}

}  // namespace

bool known_filter(std::string_view name) noexcept { return find_filter(name) != nullptr; }

value apply_filter(evaluator& e, std::string_view name, const value& input, const arguments& with) {
  return find_filter(name)->apply(e, input, with);
}

}  // namespace dinfer::runtime::jinja
