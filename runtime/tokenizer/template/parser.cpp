// SPDX-License-Identifier: Apache-2.0
// Statements: text, output and the tags that this engine knows.
#include "runtime/tokenizer/template/parser.hpp"

namespace dinfer::runtime::jinja {

namespace {

using kind = token::kind;

class statement_parser : public expression_parser {
 public:
  using expression_parser::expression_parser;

  node_ptr run() {
    node_ptr all = block({});
    if (!is(kind::end)) give_up(now().where, "the tag '" + ahead().text + "' closes nothing");
    return all;
  }

 private:
  // Statements up to {% name, for one of the names given; the name itself is left.
  node_ptr block(std::initializer_list<std::string_view> ends) {
    const level guard(*this);
    node_ptr all = make(node::kind::block, now().where);
    while (!is(kind::end)) {
      if (is(kind::data)) {
        const token t = take();
        node_ptr made = make(node::kind::data, t.where);
        made->constant = text(t.text, true);
        add(*all, std::move(made));
      } else if (is(kind::output_begin)) {
        node_ptr made = make(node::kind::output, take().where);
        add(*made, tuple(true));
        expect(kind::output_end, {}, "}}");
        add(*all, std::move(made));
      } else {
        for (const std::string_view end : ends)
          if (ahead().what == kind::name && ahead().text == end) {
            take();
            return all;
          }
        if (ends.size() == 0 && closes(ahead().text)) return all;
        add(*all, statement());
      }
    }
    if (ends.size() > 0)
      give_up(now().where, "'" + std::string(*(ends.end() - 1)) + "' is missing at the end");
    return all;
  }

  static bool closes(const std::string& name) {
    return name.starts_with("end") || name == "else" || name == "elif";
  }

  node_ptr statement() {
    const position where = take().where;
    if (is_name("for")) return loop(where);
    if (is_name("if")) return branch(where);
    if (is_name("set")) return assign(where);
    if (is_name("macro")) return macro(where);
    if (is_name("filter")) return filter_text(where);
    if (is_name("generation")) return transparent("endgeneration");
    if (skip_name("break")) return finish(make(node::kind::leave, where));
    if (skip_name("continue")) return finish(make(node::kind::next, where));
    give_up(where, "the tag '" + now().text + "' is not known");
  }

  node_ptr finish(node_ptr made) {
    expect(kind::block_end, {}, "%}");
    return made;
  }

  node_ptr loop(position where) {
    take();
    node_ptr made = make(node::kind::loop, where);
    add(*made, target());
    expect(kind::name, "in", "in");
    add(*made, tuple(false));
    add(*made, skip_name("if") ? expression() : nullptr);
    if (is_name("recursive")) give_up(now().where, "recursive loops are not known");
    expect(kind::block_end, {}, "%}");
    add(*made, block({"else", "endfor"}));
    node_ptr otherwise;
    if (skip_name("else")) {
      expect(kind::block_end, {}, "%}");
      otherwise = block({"endfor"});
    }
    take();
    add(*made, std::move(otherwise));
    return finish(std::move(made));
  }

  node_ptr branch(position where) {
    node_ptr made = make(node::kind::branch, where);
    do {
      take();  // if, elif
      add(*made, tuple(true));
      expect(kind::block_end, {}, "%}");
      add(*made, block({"elif", "else", "endif"}));
    } while (is_name("elif"));
    if (skip_name("else")) {
      expect(kind::block_end, {}, "%}");
      add(*made, block({"endif"}));
    }
    take();
    return finish(std::move(made));
  }

  node_ptr assign(position where) {
    take();
    node_ptr to = target();
    if (skip_sign("=")) {
      node_ptr made = make(node::kind::assign, where);
      add(*made, std::move(to));
      add(*made, tuple(true));
      return finish(std::move(made));
    }
    node_ptr made = make(node::kind::assign_text, where);
    add(*made, std::move(to));
    node_ptr chain = is_sign("|") ? filters(make(node::kind::variable, where, {})) : nullptr;
    expect(kind::block_end, {}, "%}");
    add(*made, block({"endset"}));
    take();
    add(*made, std::move(chain));
    return finish(std::move(made));
  }

  node_ptr macro(position where) {
    take();
    node_ptr made = make(node::kind::macro, where, expect_name());
    expect_sign("(");
    while (!is_sign(")")) {
      std::string name = expect_name();
      node_ptr otherwise = skip_sign("=") ? expression() : nullptr;
      made->named.emplace_back(std::move(name), std::move(otherwise));
      if (!skip_sign(",")) break;
    }
    expect_sign(")");
    expect(kind::block_end, {}, "%}");
    add(*made, block({"endmacro"}));
    take();
    if (is(kind::name)) take();  // {% endmacro name %}
    return finish(std::move(made));
  }

  node_ptr filter_text(position where) {
    node_ptr made = make(node::kind::filter_text, where);
    replace_now({kind::sign, "|", where});  // the first filter stands without its bar
    node_ptr chain = filters(make(node::kind::variable, where, {}));
    expect(kind::block_end, {}, "%}");
    add(*made, block({"endfilter"}));
    take();
    add(*made, std::move(chain));
    return finish(std::move(made));
  }

  // {% generation %} marks the model's own turns for training; here it only groups.
  node_ptr transparent(std::string_view end) {
    take();
    expect(kind::block_end, {}, "%}");
    node_ptr inner = block({end});
    take();
    return finish(std::move(inner));
  }
};

}  // namespace

node_ptr parse_template(std::string_view source) {
  return statement_parser(tokenize_template(source)).run();
}

}  // namespace dinfer::runtime::jinja
