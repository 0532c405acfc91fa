// SPDX-License-Identifier: Apache-2.0
// What can follow `is`. One rendering, one thread.
#include "runtime/tokenizer/template/builtins.hpp"
#include "runtime/tokenizer/template/strings.hpp"

#include <algorithm>

namespace dinfer::runtime::jinja {

namespace {

using test_function = bool (*)(evaluator&, const value&, const arguments&);
struct test_entry {
  std::string_view name;
  test_function apply;
};

std::int64_t whole(const value& v, const arguments& with) {
  if (const auto* i = v.as<std::int64_t>()) return *i;
  give_up(with.where, std::string("an integer is needed, not ") + type_name(v));
}

// -1, 0 or 1 against the argument.
int against(const value& v, const arguments& with) {
  const value& other = with.need(0, "other");
  const int o = order(v, other);
  if (o == 2)
    give_up(with.where, std::string(type_name(v)) + " cannot be compared with " + type_name(other));
  return o;
}

bool same(evaluator& e, const value& v, const arguments& with) {
  e.charge_all(v, with.where);
  return equal(v, with.need(0, "other"));
}
bool different(evaluator& e, const value& v, const arguments& with) { return !same(e, v, with); }

bool contained(evaluator& e, const value& v, const arguments& with) {
  const value& in = with.need(0, "seq");
  e.charge_for(in, with.where);
  if (in.string() && v.string())
    return in.string()->bytes().find(v.string()->bytes()) != std::string::npos;
  const auto items = e.items_of(in, with.where);
  return std::any_of(items.begin(), items.end(), [&v](const value& i) { return equal(i, v); });
}

bool multiple(evaluator&, const value& v, const arguments& with) {
  const std::int64_t by = whole(with.need(0, "num"), with);
  if (by == 0) give_up(with.where, "nothing can be divided by 0");
  return by == -1 || whole(v, with) % by == 0;
}

bool one_case(const value& v, text (*fold)(const text&), text (*other)(const text&)) {
  if (v.string() == nullptr) return false;
  return fold(*v.string()).bytes() == v.string()->bytes() &&
         other(*v.string()).bytes() != v.string()->bytes();
}

// Every one takes (evaluator, value, arguments).
constexpr test_entry tests[] = {
    {"==", same},
    {"!=", different},
    {"boolean", [](auto&, auto& v, auto&) { return v.template as<bool>() != nullptr; }},
    {"callable", [](auto&, auto& v,
                    auto&) { return v.template as<std::shared_ptr<const callable>>() != nullptr; }},
    {"defined", [](auto&, auto& v, auto&) { return !v.is_undefined(); }},
    {"divisibleby", multiple},
    {"eq", same},
    {"equalto", same},
    {"even", [](auto&, auto& v, auto& w) { return whole(v, w) % 2 == 0; }},
    {"false", [](auto&, auto& v, auto&) { return v.template as<bool>() && !truthy(v); }},
    {"float", [](auto&, auto& v, auto&) { return v.template as<double>() != nullptr; }},
    {"ge", [](auto&, auto& v, auto& w) { return against(v, w) >= 0; }},
    {"greaterthan", [](auto&, auto& v, auto& w) { return against(v, w) > 0; }},
    {"gt", [](auto&, auto& v, auto& w) { return against(v, w) > 0; }},
    {"in", contained},
    {"integer", [](auto&, auto& v, auto&) { return v.template as<std::int64_t>() != nullptr; }},
    {"iterable",
     [](auto&, auto& v, auto&) {
       return v.sequence() || v.mapping() || v.string() || v.is_undefined();
     }},
    {"le", [](auto&, auto& v, auto& w) { return against(v, w) <= 0; }},
    {"lessthan", [](auto&, auto& v, auto& w) { return against(v, w) < 0; }},
    {"lower", [](auto&, auto& v, auto&) { return one_case(v, lower, upper); }},
    {"lt", [](auto&, auto& v, auto& w) { return against(v, w) < 0; }},
    {"mapping", [](auto&, auto& v, auto&) { return v.mapping() != nullptr; }},
    {"ne", different},
    {"none", [](auto&, auto& v, auto&) { return v.is_none(); }},
    {"number", [](auto&, auto& v, auto&) { return is_number(v); }},
    {"odd", [](auto&, auto& v, auto& w) { return whole(v, w) % 2 != 0; }},
    {"sequence",
     [](auto&, auto& v, auto&) {
       return v.sequence() || v.mapping() || v.string() || v.is_undefined();
     }},
    {"string", [](auto&, auto& v, auto&) { return v.string() != nullptr; }},
    {"true", [](auto&, auto& v, auto&) { return v.template as<bool>() && truthy(v); }},
    {"undefined", [](auto&, auto& v, auto&) { return v.is_undefined(); }},
    {"upper", [](auto&, auto& v, auto&) { return one_case(v, upper, lower); }},
};

const test_entry* find_test(std::string_view name) noexcept {
  const auto* at = std::find_if(std::begin(tests), std::end(tests),
                                [name](const test_entry& t) { return t.name == name; });
  return at == std::end(tests) ? nullptr : at;
}

}  // namespace

bool known_test(std::string_view name) noexcept { return find_test(name) != nullptr; }

bool apply_test(evaluator& e, std::string_view name, const value& input, const arguments& with) {
  return find_test(name)->apply(e, input, with);
}

}  // namespace dinfer::runtime::jinja
