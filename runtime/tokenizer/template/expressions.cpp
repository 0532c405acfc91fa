// SPDX-License-Identifier: Apache-2.0
// Expressions after Python's rules. Every result is weighed, so nothing grows without being
// noticed. One rendering, one thread.
#include "runtime/tokenizer/template/builtins.hpp"
#include "runtime/tokenizer/template/evaluator.hpp"
#include "runtime/tokenizer/template/strings.hpp"

#include <cmath>
#include <optional>

namespace dinfer::runtime::jinja {

namespace {

std::string quoted(std::string_view name) { return "'" + std::string(name) + "'"; }

// Where a slice begins and ends, and how it steps, clamped as Python does.
struct steps {
  std::int64_t first, end, by;
};

steps clamp(std::optional<std::int64_t> first, std::optional<std::int64_t> end, std::int64_t by,
            std::int64_t count) {
  const auto place = [&](std::int64_t at) {
    if (at < 0) at = at < -count ? -1 : at + count;
    const std::int64_t low = by > 0 ? 0 : -1, high = by > 0 ? count : count - 1;
    return std::min(std::max(at, low), high);
  };
  return {first    ? place(*first)
          : by > 0 ? 0
                   : count - 1,
          end      ? place(*end)
          : by > 0 ? count
                   : -1,
          by};
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

std::optional<std::int64_t> whole(const value& v) {
  if (const bool* b = v.as<bool>()) return *b ? 1 : 0;
  if (const auto* i = v.as<std::int64_t>()) return *i;
  return std::nullopt;
}

// nullopt: the result does not fit, or this is no operator on integers.
std::optional<value> on_integers(std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  if (op == "+" && !__builtin_add_overflow(a, b, &out)) return value(out);
  if (op == "-" && !__builtin_sub_overflow(a, b, &out)) return value(out);
  if (op == "*" && !__builtin_mul_overflow(a, b, &out)) return value(out);
  if ((op == "//" || op == "%") && b != 0 && b != -1) {
    const std::int64_t q = floor_divide(a, b);
    return value(op == "//" ? q : a - q * b);
  }
  if (op == "//" && b == -1 && !__builtin_sub_overflow(std::int64_t{0}, a, &out)) return value(out);
  if (op == "%" && b == -1) return value(std::int64_t{0});
  if (op != "**" || b < 0) return std::nullopt;
  out = 1;
  for (std::int64_t i = 0; i < b && (a > 1 || a < -1); ++i)
    if (__builtin_mul_overflow(out, a, &out)) return std::nullopt;
  if (a == 0) return value(std::int64_t{b == 0});
  if (a == -1 && b % 2 != 0) return value(std::int64_t{-1});
  return value(out);
}

std::optional<value> on_floats(std::string_view op, double a, double b) {
  if (op == "+") return value(a + b);
  if (op == "-") return value(a - b);
  if (op == "*") return value(a * b);
  if (op == "**") {
    const double out = std::pow(a, b);
    return std::isfinite(out) ? std::optional<value>(out) : std::nullopt;
  }
  if (b == 0) return std::nullopt;
  if (op == "/") return value(a / b);
  if (op == "//") return value(std::floor(a / b));
  if (op == "%") {
    const double r = std::fmod(a, b);
    return value(r != 0 && (r < 0) != (b < 0) ? r + b : r);
  }
  return std::nullopt;
}

}  // namespace

value evaluator::evaluate(const node& n) {
  charge(1, n.where);
  value v = evaluate_unchecked(n);
  const extent size = extent_of(v);
  if (size.depth > limits_.depth) give_up(n.where, "values nest too deeply", errc::timeout);
  room(size.weight, n.where);
  return v;
}

value evaluator::evaluate_unchecked(const node& n) {
  using kind = node::kind;
  switch (n.what) {
    case kind::constant:
      return n.constant;
    case kind::variable:
      return variable(n);
    case kind::make_list:
    case kind::make_tuple: {
      list made;
      made.tuple = n.what == kind::make_tuple;
      for (const node_ptr& kid : n.kids) made.items.push_back(evaluate(*kid));
      return made;
    }
    case kind::make_dict:
      return dictionary(n);
    case kind::attribute:
      return member(evaluate(*n.kids[0]), n.name, n.where);
    case kind::subscript: {
      const value object = evaluate(*n.kids[0]);
      return item(object, evaluate(*n.kids[1]), n.where);
    }
    case kind::slice:
      return sliced(n);
    case kind::call: {
      const value callee = evaluate(*n.kids[0]);
      return call(callee, evaluate_arguments(n));
    }
    case kind::filter:
    case kind::test:
      return applied(n);
    case kind::negate:
    case kind::positive:
      return negated(n);
    case kind::invert:
      return !truthy(evaluate(*n.kids[0]));
    case kind::both: {
      value left = evaluate(*n.kids[0]);
      return truthy(left) ? evaluate(*n.kids[1]) : left;
    }
    case kind::either: {
      value left = evaluate(*n.kids[0]);
      return truthy(left) ? left : evaluate(*n.kids[1]);
    }
    case kind::choose:
      if (truthy(evaluate(*n.kids[0]))) return evaluate(*n.kids[1]);
      return n.kids[2] ? evaluate(*n.kids[2]) : value(undefined{"else of an inline if"});
    case kind::chain:
      return chained(n);
    case kind::arithmetic:
      return arithmetic(n);
    default:
      give_up(n.where, "not an expression", errc::internal);
  }
}

value evaluator::variable(const node& n) {
  for (const frame* f = top_; f != nullptr; f = f->parent)
    if (const auto found = f->names.find(n.name); found != f->names.end()) return found->second;
  if (known_function(n.name))
    return std::make_shared<const callable>(callable{n.name, {}, nullptr, nullptr});
  return undefined{n.name};
}

value evaluator::dictionary(const node& n) {
  dict made;
  for (std::size_t i = 0; i < n.kids.size(); i += 2) {
    const value key = evaluate(*n.kids[i]);
    if (key.string() == nullptr) give_up(n.kids[i]->where, "keys must be strings");
    made.set(*key.string(), evaluate(*n.kids[i + 1]));
  }
  return made;
}

value evaluator::negated(const node& n) {
  const value v = evaluate(*n.kids[0]);
  const bool minus = n.what == node::kind::negate;
  if (const auto i = whole(v); i && *i != INT64_MIN) return minus ? -*i : *i;
  if (const double* d = v.as<double>()) return minus ? -*d : *d;
  give_up(n.where, std::string("a sign before ") + type_name(v));
}

value evaluator::chained(const node& n) {
  value left = evaluate(*n.kids[0]);
  for (std::size_t i = 1; i < n.kids.size(); ++i) {
    const node& pair = *n.kids[i];
    value right = evaluate(*pair.kids[0]);
    charge(std::min(extent_of(left).weight, extent_of(right).weight) / 64, n.where);
    if (!compared(pair, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

bool evaluator::compared(const node& n, const value& left, const value& right) {
  const std::string& op = n.name;
  if (op == "==") return equal(left, right);
  if (op == "!=") return !equal(left, right);
  if (op == "in" || op == "not in") {
    bool found = false;
    charge_for(right, n.where);
    if (const text* s = right.string()) {
      if (left.string() == nullptr)
        give_up(n.where, std::string("only strings are in strings, not ") + type_name(left));
      found = s->bytes().find(left.string()->bytes()) != std::string::npos;
    } else if (const dict* d = right.mapping()) {
      found = left.string() != nullptr && d->find(left.string()->bytes()) != nullptr;
    } else {
      for (const value& v : items_of(right, n.where)) found = found || equal(left, v);
    }
    return found == (op == "in");
  }
  const int o = order(left, right);
  if (o == 2)
    give_up(n.where, quoted(op) + " between " + type_name(left) + " and " + type_name(right));
  return op == "<" ? o < 0 : op == "<=" ? o <= 0 : op == ">" ? o > 0 : o >= 0;
}

value evaluator::arithmetic(const node& n) {
  const std::string& op = n.name;
  const value left = evaluate(*n.kids[0]), right = evaluate(*n.kids[1]);
  charge_for(left, n.where);
  charge_for(right, n.where);
  if (op == "~") room(extent_of(left).weight + extent_of(right).weight, n.where);
  if (op == "~" || (op == "+" && left.string() && right.string())) {
    text joined = shown(left);
    joined.append(shown(right));
    return joined;
  }
  if (op == "+" && left.sequence() && right.sequence()) {
    list joined = *left.sequence();
    const auto& more = right.sequence()->items;
    joined.items.insert(joined.items.end(), more.begin(), more.end());
    return joined;
  }
  const bool first = whole(right).has_value();
  const value &one = first ? left : right, &times = first ? right : left;
  if (op == "*" && (one.string() || one.sequence()) && whole(times)) {
    const std::int64_t count = std::max<std::int64_t>(*whole(times), 0);
    room(std::min<std::uint64_t>(static_cast<std::uint64_t>(count), limits_.bytes + 1) *
             extent_of(one).weight,
         n.where);
    text repeated;
    list many;
    for (std::int64_t i = 0; i < count; ++i) {
      if (one.string()) repeated.append(*one.string());
      else
        many.items.insert(many.items.end(), one.sequence()->items.begin(),
                          one.sequence()->items.end());
    }
    charge(static_cast<std::uint64_t>(count), n.where);
    return one.string() ? value(std::move(repeated)) : value(std::move(many));
  }
  std::optional<value> out;
  const bool fraction = op == "/" || (op == "**" && whole(right) && *whole(right) < 0);
  if (!fraction && whole(left) && whole(right)) out = on_integers(op, *whole(left), *whole(right));
  else if (is_number(left) && is_number(right))
    out = on_floats(op, number_of(left), number_of(right));
  if (out) return *out;
  if (left.is_undefined() || right.is_undefined())
    give_up(n.where,
            quoted((left.is_undefined() ? left : right).as<undefined>()->name) + " is undefined");
  give_up(n.where, quoted(op) + " between " + type_name(left) + " and " + type_name(right) +
                       " cannot be computed");
}

value evaluator::sliced(const node& n) {
  const value object = evaluate(*n.kids[0]);
  std::optional<std::int64_t> parts[3];
  for (std::size_t i = 0; i < 3; ++i) {
    if (!n.kids[i + 1]) continue;
    const value v = evaluate(*n.kids[i + 1]);
    parts[i] = whole(v);
    if (!parts[i] && !v.is_none()) give_up(n.where, "a slice needs integers");
  }
  const std::int64_t by = parts[2].value_or(1);
  if (by == 0) give_up(n.where, "a slice cannot step by 0");
  if (!object.string() && !object.sequence())
    give_up(n.where, std::string("a slice of ") + type_name(object));
  if (object.string() && by == 1) {
    charge_for(object, n.where);
    const auto whole_length = static_cast<std::int64_t>(length(*object.string()));
    const steps s = clamp(parts[0], parts[1], by, whole_length);
    return characters(*object.string(), static_cast<std::size_t>(s.first),
                      static_cast<std::size_t>(std::max(s.first, s.end)));
  }
  const std::vector<value> items = items_of(object, n.where);
  const std::int64_t count = std::ssize(items);
  const steps s = clamp(parts[0], parts[1], by, count);
  text out;
  list some;
  some.tuple = object.sequence() && object.sequence()->tuple;
  // A step beyond the end is not taken: adding it could overflow.
  for (std::int64_t i = s.first; s.by > 0 ? i < s.end : i > s.end;) {
    const value& v = items[static_cast<std::size_t>(i)];
    if (object.string()) out.append(*v.string());
    else some.items.push_back(v);
    if (s.by > count || s.by < -count) break;
    i += s.by;
  }
  return object.string() ? value(std::move(out)) : value(std::move(some));
}

arguments evaluator::evaluate_arguments(const node& n) {
  arguments all;
  all.where = n.where;
  for (std::size_t i = 1; i < n.kids.size(); ++i) all.given.push_back(evaluate(*n.kids[i]));
  for (const auto& [name, kid] : n.named) all.named.emplace_back(name, evaluate(*kid));
  return all;
}

value evaluator::applied(const node& n) {
  const value input = evaluate(*n.kids[0]);
  const arguments with = evaluate_arguments(n);
  charge_for(input, n.where);
  if (const text* s = input.string()) charge(s->size() / 16, n.where);  // more than a copy
  if (n.what == node::kind::filter) return apply_filter(*this, n.name, input, with);
  return apply_test(*this, n.name, input, with);
}

value evaluator::call(const value& callee, const arguments& with) {
  const auto* held = callee.as<std::shared_ptr<const callable>>();
  if (held == nullptr) {
    const undefined* u = callee.as<undefined>();
    give_up(with.where, u ? quoted(u->name) + " is undefined"
                          : std::string(type_name(callee)) + " cannot be called");
  }
  const callable& c = **held;
  charge_for(c.self, with.where);
  if (c.macro) return call_macro(c, with);
  if (c.self.is_undefined()) return call_function(*this, c.name, with);
  return call_method(*this, c.self, c.name, with);
}

value evaluator::member(const value& object, std::string_view name, position where) {
  if (const undefined* u = object.as<undefined>())
    give_up(where, quoted(u->name) + " is undefined");
  if (known_method(object, name))
    return std::make_shared<const callable>(callable{std::string(name), object, nullptr, nullptr});
  if (const dict* d = object.mapping())
    if (const value* found = d->find(name)) return *found;
  if (const auto* space = object.as<name_space*>())
    if (const auto found = (*space)->members.find(name); found != (*space)->members.end())
      return found->second;
  return undefined{std::string(name)};
}

value evaluator::item(const value& object, const value& index, position where) {
  if (const text* key = index.string()) {
    if (const dict* d = object.mapping())
      if (const value* found = d->find(key->bytes())) return *found;
    return member(object, key->bytes(), where);
  }
  if (const undefined* u = object.as<undefined>())
    give_up(where, quoted(u->name) + " is undefined");
  const auto at = whole(index);
  if (!at || !(object.sequence() || object.string())) return undefined{"item"};
  charge_for(object, where);
  const text* s = object.string();
  const auto count = static_cast<std::int64_t>(s ? length(*s) : object.sequence()->items.size());
  const std::int64_t i = *at < 0 ? *at + count : *at;
  if (i < 0 || i >= count) return undefined{"item " + std::to_string(*at)};
  const auto place = static_cast<std::size_t>(i);
  return s ? value(characters(*s, place, place + 1)) : object.sequence()->items[place];
}

std::vector<value> evaluator::items_of(const value& v, position where) {
  std::vector<value> items;
  if (const list* l = v.sequence()) items = l->items;
  if (const dict* d = v.mapping())
    for (const auto& [name, held] : d->items) items.emplace_back(name);
  if (const text* s = v.string()) room_for_texts(length(*s), where);
  if (const text* s = v.string())
    for (text& c : characters(*s)) items.emplace_back(std::move(c));
  const bool goes = v.sequence() || v.mapping() || v.string() || v.is_undefined();
  if (!goes) give_up(where, std::string(type_name(v)) + " has no items");
  charge(items.size() / 8, where);
  return items;
}

}  // namespace dinfer::runtime::jinja
