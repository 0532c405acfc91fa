// SPDX-License-Identifier: Apache-2.0
// Walks a template's tree and writes its text. Made for one rendering, by one thread; throws
// template_error. Work, nesting and memory are limited, so a hostile template ends in an error.
#pragma once

#include "runtime/tokenizer/template/node.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>

namespace dinfer::runtime::jinja {

// The first number bounds any template; what follows is added for what it is given.
struct limits {
  std::uint64_t steps = 100'000;                     // nodes visited, and every 64 bytes handled
  std::uint64_t bytes = std::uint64_t{448} << 10;    // of the output, and of any one value; its
                                                     // memory grows by doubling: below 1 MB
  std::uint64_t memory = std::uint64_t{2560} << 10;  // of all that lives at a time
  std::uint32_t depth = 64;                          // macros within macros, lists within lists

  // For so many messages of so many bytes in all.
  static limits of(std::uint64_t messages, std::uint64_t bytes) noexcept {
    limits out;
    out.steps += 1000 * messages + bytes;
    out.bytes += 4096 * messages + 8 * bytes;
    out.memory += 16'384 * messages + 32 * bytes;
    return out;
  }
};

struct frame {
  std::map<std::string, value, std::less<>> names;
  frame* parent = nullptr;
};

// What can be called: a method of a value, a global function, a macro.
struct callable {
  std::string name;
  value self;                   // of a method
  const node* macro = nullptr;  // lives as long as the template
  frame* scope = nullptr;       // where the macro was defined
};

struct arguments {
  position where;
  std::vector<value> given;
  std::vector<std::pair<std::string, value>> named;

  // By place or by name; null if absent.
  const value* find(std::size_t place, std::string_view name) const noexcept;
  const value& need(std::size_t place, std::string_view name) const;
  std::int64_t integer(std::size_t place, std::string_view name, std::int64_t otherwise) const;
};

class evaluator {
 public:
  evaluator(const limits& bounds, std::int64_t now_unix);
  void set_global(const std::string& name, value v) { top_->names[name] = std::move(v); }
  text run(const node& root);

  // For builtins.
  value call(const value& callee, const arguments& with);
  value member(const value& object, std::string_view name, position where);
  value item(const value& object, const value& index, position where);
  std::vector<value> items_of(const value& v, position where);  // what a loop goes over
  value make_namespace(const arguments& with);
  void charge(std::uint64_t steps, position where);
  void charge_for(const value& v, position where);       // handling it once, not what it contains
  void charge_all(const value& v, position where);       // handling all that it contains
  void room(std::uint64_t bytes, position where) const;  // a text of that size may be made
  void room_for_texts(std::uint64_t count, position where);  // a value each; charges for them
  const limits& bounds() const noexcept { return limits_; }
  std::int64_t now_unix() const noexcept { return now_unix_; }

 private:
  enum class flow { on, leave, next };

  flow execute(const node& n);
  flow execute_block(const node& n);
  flow execute_branch(const node& n);
  flow execute_loop(const node& n);
  void write(const text& t, position where);
  text captured(const node& block, flow& how);
  void assign(const node& target, const value& v);
  value filtered(const node* chain, text input);
  frame& new_frame(frame* parent);

  value evaluate(const node& n);
  value evaluate_unchecked(const node& n);
  value variable(const node& n);
  value dictionary(const node& n);
  value negated(const node& n);
  value chained(const node& n);
  bool compared(const node& n, const value& left, const value& right);
  value arithmetic(const node& n);
  value sliced(const node& n);
  value applied(const node& n);  // filter or test
  arguments evaluate_arguments(const node& n);
  value call_macro(const callable& macro, const arguments& with);

  void spread(std::uint64_t bytes) noexcept { memory_.live += bytes; }  // not of a value

  value_memory memory_;  // outlives all values below
  memory_scope scope_{memory_};
  limits limits_;
  std::int64_t now_unix_;
  std::uint64_t steps_ = 0;
  std::uint32_t macro_depth_ = 0;
  std::deque<frame> frames_;           // all that were ever made: macros point into them
  std::deque<name_space> namespaces_;  // likewise
  frame* top_;
  text* out_ = nullptr;
};

}  // namespace dinfer::runtime::jinja
