// SPDX-License-Identifier: Apache-2.0
// The place in the tokens that statements and expressions share, and the bounds on nesting. One
// parse, one thread.
#include "runtime/tokenizer/template/parser.hpp"

namespace dinfer::runtime::jinja {

using kind = token::kind;

token token_reader::take() {
  token t = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return t;
}

bool token_reader::is(token::kind what, std::string_view text) const {
  return now().what == what && (text.empty() || now().text == text);
}

bool token_reader::skip_name(std::string_view text) {
  const bool found = is_name(text);
  if (found) take();
  return found;
}

bool token_reader::skip_sign(std::string_view text) {
  const bool found = is_sign(text);
  if (found) take();
  return found;
}

void token_reader::expect(token::kind what, std::string_view text, std::string_view wanted) {
  if (!is(what, text))
    give_up(now().where, "'" + std::string(wanted) + "' is expected before '" + now().text + "'");
  take();
}

std::string token_reader::expect_name() {
  if (now().what != kind::name)
    give_up(now().where, "a name is expected before '" + now().text + "'");
  return take().text;
}

node_ptr token_reader::make(node::kind what, position where, std::string name) const {
  auto made = std::make_unique<node>();
  made->what = what;
  made->where = where;
  made->name = std::move(name);
  return made;
}

void token_reader::add(node& parent, node_ptr kid) const {
  parent.add(std::move(kid));
  if (parent.height > max_nesting) give_up(parent.where, "the template nests too deeply");
}

token_reader::level::level(token_reader& r) : reader(r) {
  if (++reader.depth_ > max_nesting) {
    --reader.depth_;
    give_up(reader.now().where, "the template nests too deeply");
  }
}

}  // namespace dinfer::runtime::jinja
