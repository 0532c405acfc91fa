// SPDX-License-Identifier: Apache-2.0
// The syntax tree of a template: one kind of node for statements and expressions. Immutable after
// parsing; read from any thread.
#pragma once

#include "runtime/tokenizer/template/error.hpp"
#include "runtime/tokenizer/template/value.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::runtime::jinja {

struct node;
using node_ptr = std::unique_ptr<node>;

struct node {
  enum class kind : std::uint8_t {
    // Statements. `kids` in the order given; a missing one is null.
    block,        // statements
    data,         // constant
    output,       // expression
    branch,       // condition, block, condition, block, ..., [block of else]
    loop,         // target, sequence, filter or null, block, block of else or null
    assign,       // target, expression
    assign_text,  // target, block, filters applied to name "" or null
    macro,        // name, block; parameters in `named`
    filter_text,  // block, filters applied to name ""
    leave,        // break
    next,         // continue
    // Expressions.
    constant,
    variable,    // name
    make_list,   // items
    make_tuple,  // items
    make_dict,   // key, value, key, value, ...
    attribute,   // object; name
    subscript,   // object, index
    slice,       // object, first or null, end or null, step or null
    call,        // callee, arguments...; `named`
    filter,      // input, arguments...; name, `named`
    test,        // input, arguments...; name
    negate,      // number
    positive,    // number
    invert,      // not
    both,        // and
    either,      // or
    choose,      // condition, then, else or null
    compare,     // left, right; name is the operator
    chain,       // compare, compare, ...: all of them
    arithmetic,  // left, right; name is the operator
  };
  kind what;
  position where;
  std::string name;
  value constant;
  std::vector<node_ptr> kids;
  std::vector<std::pair<std::string, node_ptr>> named;  // keyword arguments, macro parameters
  std::uint32_t height = 1;                             // of the tree below

  void add(node_ptr kid) {
    if (kid) height = std::max(height, kid->height + 1);
    kids.push_back(std::move(kid));
  }
};

}  // namespace dinfer::runtime::jinja
