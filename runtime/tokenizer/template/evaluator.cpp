// SPDX-License-Identifier: Apache-2.0
// Statements, scopes and the limits. A loop and a macro open a scope; a branch does not. One
// rendering, one thread.
#include "runtime/tokenizer/template/evaluator.hpp"

#include "runtime/tokenizer/template/builtins.hpp"
#include "runtime/tokenizer/template/strings.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime::jinja {

namespace {

constexpr std::uint64_t loop_cost = 10;    // steps that `loop` is worth
constexpr std::uint64_t name_bytes = 128;  // of a name in a scope

// What a loop's body knows as `loop`.
value loop_state(const std::vector<value>& items, std::size_t i) {
  const auto count = static_cast<std::int64_t>(items.size());
  const auto at = static_cast<std::int64_t>(i);
  dict state;
  const auto set = [&state](const char* name, value v) {
    state.items.emplace_back(text(name, true), std::move(v));
  };
  set("index", at + 1);
  set("index0", at);
  set("revindex", count - at);
  set("revindex0", count - at - 1);
  set("first", at == 0);
  set("last", at == count - 1);
  set("length", count);
  set("depth", std::int64_t{1});
  set("depth0", std::int64_t{0});
  set("previtem", i > 0 ? items[i - 1] : value(undefined{"loop.previtem"}));
  set("nextitem", i + 1 < items.size() ? items[i + 1] : value(undefined{"loop.nextitem"}));
  return state;
}

}  // namespace

const value* arguments::find(std::size_t place, std::string_view name) const noexcept {
  if (place < given.size()) return &given[place];
  for (const auto& [key, held] : named)
    if (key == name) return &held;
  return nullptr;
}

const value& arguments::need(std::size_t place, std::string_view name) const {
  const value* v = find(place, name);
  if (v == nullptr) give_up(where, "the argument '" + std::string(name) + "' is missing");
  return *v;
}

std::int64_t arguments::integer(std::size_t place, std::string_view name,
                                std::int64_t otherwise) const {
  const value* v = find(place, name);
  if (v == nullptr || v->is_none()) return otherwise;
  if (const bool* b = v->as<bool>()) return *b ? 1 : 0;
  if (const auto* i = v->as<std::int64_t>()) return *i;
  give_up(where, "the argument '" + std::string(name) + "' must be an integer");
}

evaluator::evaluator(const limits& bounds, std::int64_t now_unix)
    : limits_(bounds), now_unix_(now_unix), top_(&frames_.emplace_back()) {}

text evaluator::run(const node& root) {
  text out;
  out_ = &out;
  execute(root);
  return out;
}

void evaluator::charge(std::uint64_t steps, position where) {
  steps_ += steps;
  if (steps_ > limits_.steps)
    give_up(where, "the template takes more than " + std::to_string(limits_.steps) + " steps",
            errc::timeout);
  room(0, where);
}

void evaluator::charge_for(const value& v, position where) {
  if (const text* s = v.string()) charge(s->size() / 64, where);
  if (const list* l = v.sequence()) charge(l->items.size() / 8, where);
  if (const dict* d = v.mapping()) charge(d->items.size() / 8, where);
}

void evaluator::charge_all(const value& v, position where) {
  charge(extent_of(v).weight / 64, where);
}

void evaluator::room(std::uint64_t bytes, position where) const {
  if (bytes > limits_.bytes)
    give_up(where, "the template makes more than " + std::to_string(limits_.bytes) + " bytes",
            errc::timeout);
  if (memory_.live + bytes > limits_.memory)
    give_up(where, "the template needs more than " + std::to_string(limits_.memory) + " bytes",
            errc::timeout);
}

void evaluator::room_for_texts(std::uint64_t count, position where) {
  constexpr std::uint64_t each = 224;
  charge(count, where);
  if (memory_.live + count * each > limits_.memory)
    give_up(where, "the template needs more than " + std::to_string(limits_.memory) + " bytes",
            errc::timeout);
}

void evaluator::write(const text& t, position where) {
  room(out_->size() + t.size(), where);
  charge(t.size() / 64, where);
  spread(t.size());
  out_->append(t);
}

auto evaluator::execute(const node& n) -> flow {
  charge(1, n.where);
  using kind = node::kind;
  flow how = flow::on;
  switch (n.what) {
    case kind::block:
      return execute_block(n);
    case kind::data:
      write(*n.constant.string(), n.where);
      return how;
    case kind::output: {
      const value v = evaluate(*n.kids[0]);
      room(extent_of(v).weight, n.where);
      write(shown(v), n.where);
      return how;
    }
    case kind::branch:
      return execute_branch(n);
    case kind::loop:
      return execute_loop(n);
    case kind::assign:
      assign(*n.kids[0], evaluate(*n.kids[1]));
      return how;
    case kind::assign_text: {
      text inner = captured(*n.kids[1], how);
      assign(*n.kids[0], filtered(n.kids[2].get(), std::move(inner)));
      return how;
    }
    case kind::filter_text: {
      text inner = captured(*n.kids[0], how);
      write(shown(filtered(n.kids[1].get(), std::move(inner))), n.where);
      return how;
    }
    case kind::macro:
      top_->names[n.name] = std::make_shared<const callable>(callable{n.name, {}, &n, top_});
      return how;
    case kind::leave:
      return flow::leave;
    case kind::next:
      return flow::next;
    default:
      give_up(n.where, "not a statement", errc::internal);
  }
}

auto evaluator::execute_block(const node& n) -> flow {
  for (const node_ptr& kid : n.kids)
    if (const flow how = execute(*kid); how != flow::on) return how;
  return flow::on;
}

auto evaluator::execute_branch(const node& n) -> flow {
  std::size_t i = 0;
  for (; i + 1 < n.kids.size(); i += 2)
    if (truthy(evaluate(*n.kids[i]))) return execute(*n.kids[i + 1]);
  return i < n.kids.size() ? execute(*n.kids[i]) : flow::on;
}

auto evaluator::execute_loop(const node& n) -> flow {
  const node &target = *n.kids[0], &body = *n.kids[3];
  std::vector<value> items = items_of(evaluate(*n.kids[1]), n.where);
  const std::uint64_t held = items.size() * sizeof(value);
  spread(held);
  frame* const outer = top_;
  frame& inner = new_frame(outer);
  if (n.kids[2]) {
    std::vector<value> kept;
    for (value& item : items) {
      top_ = &inner;
      assign(target, item);
      if (truthy(evaluate(*n.kids[2]))) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  flow how = flow::on;
  for (std::size_t i = 0; i < items.size() && how != flow::leave; ++i) {
    charge(loop_cost, n.where);
    inner.names.clear();
    top_ = &inner;
    assign(target, items[i]);
    inner.names["loop"] = loop_state(items, i);
    how = execute(body);
  }
  top_ = outer;
  inner.names.clear();  // the frame stays: macros may point to it
  memory_.live -= held;
  if (items.empty() && n.kids[4]) return execute(*n.kids[4]);
  return flow::on;
}

text evaluator::captured(const node& block, flow& how) {
  text inner;
  text* const outer = std::exchange(out_, &inner);
  how = execute(block);
  out_ = outer;
  memory_.live -= std::min<std::uint64_t>(memory_.live, inner.size());  // a value counts it next
  return inner;
}

value evaluator::filtered(const node* chain, text input) {
  if (chain == nullptr) return input;
  frame& inner = new_frame(top_);
  inner.names[""] = std::move(input);
  top_ = &inner;
  value out = evaluate(*chain);
  top_ = inner.parent;
  return out;
}

void evaluator::assign(const node& target, const value& v) {
  if (target.what == node::kind::variable) {
    spread(name_bytes);
    top_->names[target.name] = v;
  } else if (target.what == node::kind::attribute) {
    const value object = evaluate(*target.kids[0]);
    const auto* space = object.as<name_space*>();
    if (space == nullptr) give_up(target.where, "only a namespace's attributes can be set");
    (*space)->members[target.name] = v;  // names are the source's, so there are few
  } else {
    const std::vector<value> parts = items_of(v, target.where);
    if (parts.size() != target.kids.size())
      give_up(target.where, std::to_string(parts.size()) + " values for " +
                                std::to_string(target.kids.size()) + " names");
    for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.kids[i], parts[i]);
  }
}

frame& evaluator::new_frame(frame* parent) {
  spread(sizeof(frame) + name_bytes);
  frame& made = frames_.emplace_back();
  made.parent = parent;
  return made;
}

value evaluator::make_namespace(const arguments& with) {
  spread(name_bytes * (1 + with.given.size() + with.named.size()));
  name_space& made = namespaces_.emplace_back();
  for (const value& from : with.given) {
    if (from.mapping() == nullptr) give_up(with.where, "namespace() takes a dictionary");
    for (const auto& [name, held] : from.mapping()->items) made.members[name.bytes()] = held;
  }
  for (const auto& [name, held] : with.named) made.members[name] = held;
  return &made;
}

value evaluator::call_macro(const callable& macro, const arguments& with) {
  if (macro_depth_ >= limits_.depth)
    give_up(with.where, "macros call each other too deeply", errc::timeout);
  const auto& parameters = macro.macro->named;
  if (with.given.size() > parameters.size())
    give_up(with.where,
            "macro '" + macro.name + "' takes " + std::to_string(parameters.size()) + " arguments");
  for (const auto& [name, held] : with.named)
    if (std::none_of(parameters.begin(), parameters.end(),
                     [&name = name](const auto& p) { return p.first == name; }))
      give_up(with.where, "macro '" + macro.name + "' takes no argument '" + name + "'");
  frame* const caller = top_;
  frame& inner = new_frame(macro.scope);
  top_ = &inner;
  ++macro_depth_;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, otherwise] = parameters[i];
    const value* given = with.find(i, name);
    inner.names[name] = given ? *given : otherwise ? evaluate(*otherwise) : undefined{name};
  }
  flow how = flow::on;
  text out = captured(*macro.macro->kids[0], how);
  --macro_depth_;
  top_ = caller;
  return out;
}

}  // namespace dinfer::runtime::jinja
