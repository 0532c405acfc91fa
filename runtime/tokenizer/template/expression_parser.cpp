// SPDX-License-Identifier: Apache-2.0
// Expressions by recursive descent, one function for each level of precedence, loosest first.
#include "runtime/tokenizer/template/builtins.hpp"
#include "runtime/tokenizer/template/parser.hpp"

#include <array>
#include <charconv>

namespace dinfer::runtime::jinja {

using kind = token::kind;

node_ptr expression_parser::binary(node::kind what, position where, std::string name, node_ptr left,
                                   node_ptr right) {
  node_ptr made = make(what, where, std::move(name));
  add(*made, std::move(left));
  add(*made, std::move(right));
  return made;
}

node_ptr expression_parser::expression(bool conditional) {
  const level guard(*this);
  node_ptr value = either();
  while (conditional && is_name("if")) {
    node_ptr made = make(node::kind::choose, take().where);
    add(*made, either());
    add(*made, std::move(value));
    add(*made, skip_name("else") ? expression() : nullptr);
    value = std::move(made);
  }
  return value;
}

node_ptr expression_parser::tuple(bool conditional) {
  const position where = now().where;
  node_ptr first = expression(conditional);
  if (!is_sign(",")) return first;
  node_ptr made = make(node::kind::make_tuple, where);
  add(*made, std::move(first));
  while (skip_sign(",")) {
    if (is(kind::block_end) || is(kind::output_end) || is_sign(")") || is_sign("=")) break;
    add(*made, expression(conditional));
  }
  return made;
}

node_ptr expression_parser::target() {
  const auto one = [this] {
    const position where = now().where;
    const bool bracket = skip_sign("(");
    node_ptr t = bracket ? target() : make(node::kind::variable, where, expect_name());
    if (bracket) expect_sign(")");
    if (!bracket && skip_sign(".")) {
      node_ptr made = make(node::kind::attribute, where, expect_name());
      add(*made, std::move(t));
      t = std::move(made);
    }
    return t;
  };
  const level guard(*this);
  const position where = now().where;
  node_ptr first = one();
  if (!is_sign(",")) return first;
  node_ptr made = make(node::kind::make_tuple, where);
  add(*made, std::move(first));
  while (skip_sign(",")) {
    if (!is(kind::name) && !is_sign("(")) break;
    add(*made, one());
  }
  return made;
}

node_ptr expression_parser::either() {
  node_ptr left = both();
  while (is_name("or")) {
    const position where = take().where;
    left = binary(node::kind::either, where, {}, std::move(left), both());
  }
  return left;
}

node_ptr expression_parser::both() {
  node_ptr left = invert();
  while (is_name("and")) {
    const position where = take().where;
    left = binary(node::kind::both, where, {}, std::move(left), invert());
  }
  return left;
}

node_ptr expression_parser::invert() {
  if (!is_name("not")) return comparison();
  const level guard(*this);
  node_ptr made = make(node::kind::invert, take().where);
  add(*made, invert());
  return made;
}

// a < b < c holds when both pairs do; the middle is evaluated once in Python, here per pair, which
// expressions without side effects cannot tell. So the operands are kept in one chain node.
node_ptr expression_parser::comparison() {
  static constexpr std::array<std::string_view, 6> signs{"==", "!=", "<=", ">=", "<", ">"};
  node_ptr chain = make(node::kind::chain, now().where);
  add(*chain, sum());
  for (;;) {
    std::string name;
    for (const std::string_view s : signs)
      if (name.empty() && is_sign(s)) name = s;
    if (is_name("in")) name = "in";
    if (is_name("not") && ahead().what == kind::name && ahead().text == "in") {
      take();
      name = "not in";
    }
    if (name.empty()) break;
    node_ptr made = make(node::kind::compare, take().where, name);
    add(*made, sum());
    add(*chain, std::move(made));
  }
  if (chain->kids.size() == 1) return std::move(chain->kids[0]);
  return chain;
}

node_ptr expression_parser::sum() {
  node_ptr left = join();
  while (is_sign("+") || is_sign("-")) {
    const token op = take();
    left = binary(node::kind::arithmetic, op.where, op.text, std::move(left), join());
  }
  return left;
}

node_ptr expression_parser::join() {
  node_ptr left = product();
  while (is_sign("~")) {
    const token op = take();
    left = binary(node::kind::arithmetic, op.where, op.text, std::move(left), product());
  }
  return left;
}

node_ptr expression_parser::product() {
  node_ptr left = power();
  while (is_sign("*") || is_sign("/") || is_sign("//") || is_sign("%")) {
    const token op = take();
    left = binary(node::kind::arithmetic, op.where, op.text, std::move(left), power());
  }
  return left;
}

node_ptr expression_parser::power() {
  node_ptr left = unary(true);
  while (is_sign("**")) {
    const token op = take();
    left = binary(node::kind::arithmetic, op.where, op.text, std::move(left), unary(true));
  }
  return left;
}

node_ptr expression_parser::unary(bool with_filters) {
  const level guard(*this);
  node_ptr made;
  if (is_sign("-") || is_sign("+")) {
    const token op = take();
    made = make(op.text == "-" ? node::kind::negate : node::kind::positive, op.where);
    add(*made, unary(false));
  } else {
    made = primary();
  }
  made = postfix(std::move(made));
  return with_filters ? filters_and_tests(std::move(made)) : std::move(made);
}

node_ptr expression_parser::primary() {
  const token t = now();
  if (t.what == kind::name) {
    take();
    node_ptr made = make(node::kind::constant, t.where);
    if (t.text == "true" || t.text == "True") made->constant = true;
    else if (t.text == "false" || t.text == "False") made->constant = false;
    else if (t.text == "none" || t.text == "None") made->constant = none{};
    else made = make(node::kind::variable, t.where, t.text);
    return made;
  }
  if (t.what == kind::string || t.what == kind::integer || t.what == kind::number) return literal();
  if (is_sign("{")) return dictionary();
  if (is_sign("[")) {
    node_ptr made = make(node::kind::make_list, take().where);
    while (!is_sign("]")) {
      add(*made, expression());
      if (!skip_sign(",")) break;
    }
    expect_sign("]");
    return made;
  }
  if (!skip_sign("(")) give_up(t.where, "an expression is expected before '" + t.text + "'");
  if (skip_sign(")")) return make(node::kind::make_tuple, t.where);
  node_ptr made = tuple(true);
  expect_sign(")");
  return made;
}

node_ptr expression_parser::literal() {
  const token t = take();
  node_ptr made = make(node::kind::constant, t.where);
  if (t.what == kind::string) {
    std::string all = t.text;
    while (is(kind::string)) all += take().text;  // side by side they are one
    made->constant = text(all, true);
    return made;
  }
  const char* end = t.text.data() + t.text.size();
  std::int64_t whole = 0;
  double real = 0;
  const bool good = t.what == kind::integer
                        ? std::from_chars(t.text.data(), end, whole).ec == std::errc{}
                        : std::from_chars(t.text.data(), end, real).ec == std::errc{};
  if (!good) give_up(t.where, "the number " + t.text + " is too large");
  if (t.what == kind::integer) made->constant = whole;
  else made->constant = real;
  return made;
}

node_ptr expression_parser::dictionary() {
  node_ptr made = make(node::kind::make_dict, take().where);
  while (!is_sign("}")) {
    add(*made, expression());
    expect_sign(":");
    add(*made, expression());
    if (!skip_sign(",")) break;
  }
  expect_sign("}");
  return made;
}

node_ptr expression_parser::postfix(node_ptr object) {
  for (;;) {
    const position where = now().where;
    if (skip_sign(".")) {
      node_ptr made;
      if (is(kind::integer)) {
        node_ptr index = literal();
        made = binary(node::kind::subscript, where, {}, std::move(object), std::move(index));
      } else {
        made = make(node::kind::attribute, where, expect_name());
        add(*made, std::move(object));
      }
      object = std::move(made);
    } else if (is_sign("[")) {
      object = subscript(std::move(object));
    } else if (is_sign("(")) {
      node_ptr made = make(node::kind::call, where);
      add(*made, std::move(object));
      arguments(*made);
      object = std::move(made);
    } else {
      return object;
    }
  }
}

node_ptr expression_parser::subscript(node_ptr object) {
  const position where = take().where;
  node_ptr parts[3];
  std::size_t part = 0;
  bool sliced = false;
  while (!is_sign("]")) {
    if (skip_sign(":")) {
      sliced = true;
      if (++part > 2) give_up(where, "a slice has at most three parts");
    } else if (parts[part]) {
      break;
    } else {
      parts[part] = expression();
    }
  }
  expect_sign("]");
  if (!sliced && !parts[0]) give_up(where, "an index is expected before ']'");
  node_ptr made = make(sliced ? node::kind::slice : node::kind::subscript, where);
  add(*made, std::move(object));
  add(*made, std::move(parts[0]));
  if (!sliced) return made;
  add(*made, std::move(parts[1]));
  add(*made, std::move(parts[2]));
  return made;
}

void expression_parser::arguments(node& call) {
  expect_sign("(");
  while (!is_sign(")")) {
    if (is(kind::name) && ahead().what == kind::sign && ahead().text == "=") {
      std::string name = take().text;
      take();
      node_ptr given = expression();
      call.height = std::max(call.height, given->height + 1);
      call.named.emplace_back(std::move(name), std::move(given));
    } else if (!call.named.empty()) {
      give_up(now().where, "an argument without a name follows one with a name");
    } else {
      add(call, expression());
    }
    if (!skip_sign(",")) break;
  }
  expect_sign(")");
}

node_ptr expression_parser::filters_and_tests(node_ptr input) {
  for (;;) {
    if (is_sign("|")) {
      input = filter(std::move(input));
    } else if (is_name("is")) {
      input = test(std::move(input));
    } else if (is_sign("(")) {
      node_ptr made = make(node::kind::call, now().where);
      add(*made, std::move(input));
      arguments(*made);
      input = std::move(made);
    } else {
      return input;
    }
  }
}

node_ptr expression_parser::filters(node_ptr input) {
  while (is_sign("|")) input = filter(std::move(input));
  return input;
}

node_ptr expression_parser::filter(node_ptr input) {
  const position where = take().where;
  node_ptr made = make(node::kind::filter, where, expect_name());
  if (!known_filter(made->name)) give_up(where, "the filter '" + made->name + "' is not known");
  add(*made, std::move(input));
  if (is_sign("(")) arguments(*made);
  return made;
}

node_ptr expression_parser::test(node_ptr input) {
  const position where = take().where;
  const bool inverted = skip_name("not");
  node_ptr made = make(node::kind::test, where, expect_name());
  if (!known_test(made->name)) give_up(where, "the test '" + made->name + "' is not known");
  add(*made, std::move(input));
  const bool argument = is(kind::string) || is(kind::integer) || is(kind::number) || is_sign("[") ||
                        is_sign("{") ||
                        (is(kind::name) && !is_name("else") && !is_name("or") && !is_name("and") &&
                         !is_name("if") && !is_name("is") && !is_name("not") && !is_name("in"));
  if (is_sign("(")) arguments(*made);
  else if (argument) add(*made, postfix(primary()));
  if (!inverted) return made;
  node_ptr outer = make(node::kind::invert, where);
  add(*outer, std::move(made));
  return outer;
}

}  // namespace dinfer::runtime::jinja
